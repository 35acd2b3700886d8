"""Which kinds there are, in which versions, and that the folders on disk are read and written as promised."""

import gzip
import hashlib
from pathlib import Path

import pytest

from stoker.catalog import core_values, schema_files, schemas

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder, empty."""
    monkeypatch.setenv("STOKER_SCHEMAS", str(tmp_path))
    schemas.forget()
    return tmp_path


def widget(**fields: object) -> schema_files.CustomKind:
    tree = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    return schema_files.CustomKind("example.com", "v1", "Widget", "Namespaced", True, tree)


def add(folder: Path, kind: schema_files.CustomKind) -> None:
    index = schemas.index(folder)
    schema_files.add_custom(folder, index, kind, source="widgets.yaml")
    schema_files.pack(folder / schema_files.INDEX, index)
    schemas.forget()


def test_a_custom_kind_has_the_schema_of_its_release(own: Path) -> None:
    found = schemas.find("karpenter.sh/v1", "NodePool")

    assert found is not None
    assert (found.scope, found.served, found.source) == ("Cluster", True, "aws/karpenter-provider-aws@v1.14.1")
    disruption = found.tree["properties"]["spec"]["properties"]["disruption"]
    assert disruption["properties"]["consolidationPolicy"]["enum"] == [
        "WhenEmpty",
        "WhenEmptyOrUnderutilized",
        "Balanced",
    ]


def test_a_version_that_a_release_took_away_is_known_and_not_served(own: Path) -> None:
    found = schemas.find("karpenter.sh/v1beta1", "NodePool")

    assert found is not None
    assert not found.served
    assert found.note == "Karpenter v1.1 took v1beta1 away; write v1"
    assert [each.source.rpartition("@")[2] for each in schemas.variants("karpenter.sh/v1beta1", "NodePool")] == [
        "v1.0.14",
        "v0.37.8",
        "v0.36.9",
    ]
    assert schemas.versions_of("karpenter.sh", "NodePool") == ["v1"]


@pytest.mark.parametrize(("api_version", "kind"), [
    ("kro.run/v1alpha1", "ResourceGroup"),
    ("inference.networking.x-k8s.io/v1alpha2", "InferenceModel"),
])  # fmt: skip
def test_kinds_that_are_gone_say_what_replaced_them(own: Path, api_version: str, kind: str) -> None:
    found = schemas.find(api_version, kind)

    assert found is not None
    assert not found.served
    assert f"replaced {kind} by" in found.note


def test_core_kinds_of_three_minors_share_what_is_the_same(own: Path) -> None:
    assert schemas.minors() == ["1.35", "1.36", "1.37"]
    old, new = schemas.definition(DEPLOYMENT, "1.35"), schemas.definition(DEPLOYMENT, "1.37")
    assert old["properties"]["spec"] == {"$ref": "io.k8s.api.apps.v1.DeploymentSpec"}
    assert old["required"] == new["required"] == ["spec"]
    package = schema_files.unpack(schemas.SHIPPED / "core" / "io.k8s.api.core.v1.json.gz")
    assert len(package["trees"]) < 1.2 * len(package["1.37"])


def test_a_kind_of_one_minor_is_not_in_another(own: Path) -> None:
    assert schemas.find("lifecycle.k8s.io/v1alpha1", "Eviction", "1.37") is not None
    assert schemas.find("lifecycle.k8s.io/v1alpha1", "Eviction", "1.36") is None


@pytest.mark.parametrize(("asked", "answered"), [("1.20", "1.35"), ("1.36", "1.36"), ("1.99", "1.37")])
def test_a_minor_that_is_not_here_is_answered_by_the_nearest(own: Path, asked: str, answered: str) -> None:
    found = schemas.find("v1", "Pod", asked)

    assert found is not None
    assert found.source == f"kubernetes/kubernetes@v{answered}.0"


def test_scopes_versions_and_groups(own: Path) -> None:
    node, pod = schemas.find("v1", "Node"), schemas.find("v1", "Pod")

    assert node is not None
    assert pod is not None
    assert (node.scope, pod.scope) == ("Cluster", "Namespaced")
    assert schemas.versions_of("autoscaling", "HorizontalPodAutoscaler") == ["v2", "v1"]
    assert schemas.versions_of("kueue.x-k8s.io", "ClusterQueue") == ["v1beta2", "v1beta1"]
    assert schemas.known_group("keda.sh")
    assert schemas.known_group("")
    assert not schemas.known_group("batch.amazonaws.com")
    assert schemas.find("batch.amazonaws.com/v1", "JobDefinition") is None


def test_no_schema_holds_what_is_for_people(own: Path) -> None:
    def words(tree: object) -> bool:
        if isinstance(tree, dict):
            return isinstance(tree.get("description"), str) or any(words(each) for each in tree.values())
        return isinstance(tree, list) and any(words(each) for each in tree)

    for api_version, kind in [("keda.sh/v1alpha1", "ScaledObject"), ("argoproj.io/v1alpha1", "Application")]:
        found = schemas.find(api_version, kind)
        assert found is not None
        assert not words(found.tree)
    assert not words(schemas.definition("io.k8s.api.core.v1.PodSpec", "1.36"))


def test_every_kind_can_be_read_and_every_ref_leads_somewhere(own: Path) -> None:
    def refs(tree: object) -> set[str]:
        if isinstance(tree, dict):
            own_ref = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
            return own_ref.union(*(refs(each) for each in tree.values()))
        return set().union(*(refs(each) for each in tree)) if isinstance(tree, list) else set()

    for api_version, kind in schemas.kinds():
        for minor in schemas.minors():
            found = schemas.find(api_version, kind, minor)
            if found is not None and found.core:
                assert found.tree["properties"]["kind"] == {"enum": [kind], "type": "string"}
                assert all(schemas.definition(ref, minor) for ref in refs(found.tree))
            elif found is not None:
                assert found.tree["type"] == "object"


def test_the_tables_of_core_values_name_fields_that_exist() -> None:
    for minor in schemas.minors():
        for table in (core_values.ENUMS, core_values.REQUIRED, core_values.OPTIONAL):
            for short, fields in table.items():
                name = short if short.startswith("io.") else f"io.k8s.api.{short}"
                properties = schemas.definition(name, minor).get("properties", {})
                assert set(fields) <= set(properties), (minor, name)


@pytest.mark.parametrize(
    ("api_version", "kind", "said"),
    [
        ("policy/v1beta1", "PodDisruptionBudget",
         "Kubernetes 1.25 took policy/v1beta1 PodDisruptionBudget away; write policy/v1"),
        ("extensions/v1beta1", "Ingress",
         "Kubernetes 1.22 took extensions/v1beta1 Ingress away; write networking.k8s.io/v1"),
        ("apps/v1", "Deployment", ""),
        ("networking.k8s.io/v1beta1", "IPAddress", ""),
    ],
)  # fmt: skip
def test_versions_that_kubernetes_took_away(api_version: str, kind: str, said: str) -> None:
    assert core_values.gone(api_version, kind) == said
    assert (schemas.find(api_version, kind) is None) is bool(said)


def test_what_the_user_added_comes_first(own: Path) -> None:
    add(own, widget(size={"type": "integer"}))

    found = schemas.find("example.com/v1", "Widget")

    assert found is not None
    assert found.source == "widgets.yaml"
    assert found.tree["properties"]["spec"]["properties"] == {"size": {"type": "integer"}}
    assert schemas.versions_of("example.com", "Widget") == ["v1"]


def test_a_minor_that_the_user_added_answers_for_its_kinds_alone(own: Path) -> None:
    kind = {"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}], "type": "object"}
    index = schemas.index(own)
    schema_files.add_core(own, index, {"1.99": {"io.k8s.api.core.v1.Pod": kind}}, {"1.99": "swagger.json"})
    schema_files.pack(own / schema_files.INDEX, index)
    schemas.forget()

    found = schemas.find("v1", "Pod", "1.99")

    assert found is not None
    assert found.source == "swagger.json"
    assert schemas.find("apps/v1", "Deployment", "1.99") is None
    usual = schemas.find("apps/v1", "Deployment", "1.37")
    assert usual is not None
    assert usual.source == "kubernetes/kubernetes@v1.37.0"


def test_the_same_data_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        schema_files.pack(tmp_path / name, {"z": 1, "a": [True, None]})

    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a", "b")}
    assert len(digests) == 1
    assert gzip.decompress((tmp_path / "a").read_bytes()) == b'{"a":[true,null],"z":1}'


def test_trimming_keeps_a_property_that_is_called_description() -> None:
    tree = {
        "description": "for people",
        "type": ["object", "null"],
        "properties": {"description": {"type": "string", "description": "for people"}},
        "default": {"description": "kept"},
    }

    assert schema_files.trimmed(tree) == {
        "type": "object",
        "properties": {"description": {"type": "string"}},
        "default": {"description": "kept"},
    }
