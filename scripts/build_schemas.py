#!/usr/bin/env python
"""Rebuild src/stoker/catalog/data/schemas from files that others publish. Reads no network.

    scripts/build_schemas.py --crds FOLDER --core 1.36=FILE [--core 1.37=FILE ...] [--core-source TEXT]

FOLDER holds CustomResourceDefinitions and an index.json with the repository, tag and licence of each; scripts/schemas
is like it, and holds what nobody publishes and we wrote by hand. FILE is the OpenAPI document
(api/openapi-spec/swagger.json) of a Kubernetes release, or the `_definitions.json` that the package
kubernetes-validate makes from it. The same files in give the same bytes out.
"""

import argparse
import json
import shutil
from pathlib import Path

import yaml

from stoker.catalog import schema_files

OUT = Path(__file__).parent.parent / "src" / "stoker" / "catalog" / "data" / "schemas"
BY_HAND = Path(__file__).parent / "schemas"
# Whole API versions that a later release of the same project took away.
TAKEN_AWAY = {
    ("karpenter.sh", "v1beta1"): "Karpenter v1.1 took v1beta1 away; write v1",
    ("karpenter.k8s.aws", "v1beta1"): "Karpenter v1.1 took v1beta1 away; write v1",
}
GONE = {
    "ResourceGroup": "kro v0.2 replaced ResourceGroup by ResourceGraphDefinition",
    "InferenceModel": "the inference extension replaced InferenceModel by InferenceObjective",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--crds", type=Path, required=True)
    arguments.add_argument("--core", action="append", default=[], metavar="MINOR=FILE")
    arguments.add_argument("--core-source", default="kubernetes/kubernetes", help="said in SOURCES.md")
    arguments.add_argument("--date", default="", help="of the snapshot, for SOURCES.md")
    asked = arguments.parse_args()
    for folder in ("core", "custom"):
        shutil.rmtree(OUT / folder, ignore_errors=True)
    index = schema_files.empty_index()
    lines = custom(asked.crds, index) + custom(BY_HAND, index)
    minors, sources = {}, {}
    for pair in asked.core:
        minor, _, name = pair.partition("=")
        minors[minor] = schema_files.definitions_of(json.loads(Path(name).read_text()), where=name)
        sources[minor] = f"kubernetes/kubernetes@v{minor}.0"
        lines.append(f"| core/ of {minor} | {asked.core_source} | v{minor}.0 | Apache-2.0 |")
    schema_files.add_core(OUT, index, minors, sources)
    schema_files.pack(OUT / schema_files.INDEX, index)
    head = [
        "# Where the schemas come from",
        "",
        f"Snapshot: {asked.date}. Made by `scripts/build_schemas.py`, which leaves descriptions out.",
        "",
        "| file | repository | ref | licence |",
        "|---|---|---|---|",
    ]
    (OUT / "SOURCES.md").write_text("\n".join([*head, *lines]) + "\n")


def custom(folder: Path, index: dict) -> list[str]:
    lines = []
    seen: dict[str, list[dict]] = {}
    known = json.loads((folder / "index.json").read_text())["crds"]
    for crd in sorted(known, key=order):
        source = f"{crd['repo']}@{crd['ref']}"
        lines.append(f"| custom/{crd['group']}, {crd['kind']} | {crd['repo']} | {crd['ref']} | {crd['licence']} |")
        for definition in yaml.load_all(
            (folder / crd["file"]).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        ):
            for kind in schema_files.custom_kinds(definition, where=crd["file"]):
                same = seen.setdefault(schema_files.label(kind.api_version, kind.kind), [])
                if kind.tree in same:
                    continue
                variant = f"{crd['repo'].partition('/')[2]}-{crd['ref']}" if same else ""
                note = GONE.get(kind.kind) or TAKEN_AWAY.get((kind.group, kind.version), "")
                schema_files.add_custom(OUT, index, kind, source=source, variant=variant, note=note)
                same.append(kind.tree)
    return lines


def order(crd: dict) -> tuple:
    """What `find` gives first: of Karpenter the provider's current files, then the last release that had v1beta1."""
    name = crd["file"]
    return (crd["group"], crd["kind"], "-core" in name, "-0.36" in name, "-0.37" in name, "v1beta1-" in name, name)


if __name__ == "__main__":
    main()
