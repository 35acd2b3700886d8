"""What nobody publishes and we wrote by hand is shipped as written, with its source and date."""

from pathlib import Path

import yaml

from stoker.catalog import schema_files, schemas

BY_HAND = Path(__file__).parent.parent.parent / "scripts" / "schemas"


def test_the_node_class_of_auto_mode_is_shipped_as_it_was_written() -> None:
    written = yaml.safe_load((BY_HAND / "eks.amazonaws.com_nodeclasses.yaml").read_text())
    (kind,) = schema_files.custom_kinds(written)

    shipped = schemas.find("eks.amazonaws.com/v1", "NodeClass")

    assert shipped is not None
    assert (shipped.scope, shipped.served) == ("Cluster", True)
    assert shipped.source == "awsdocs/amazon-eks-user-guide@2026-11-26, by hand"
    assert shipped.tree == kind.tree


def test_what_the_guide_leaves_open_is_open() -> None:
    shipped = schemas.find("eks.amazonaws.com/v1", "NodeClass")

    assert shipped is not None
    spec = shipped.tree["properties"]["spec"]["properties"]
    assert spec["advancedNetworking"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert spec["ephemeralStorage"]["properties"]["throughput"] == {"type": "integer", "minimum": 125, "maximum": 1000}
