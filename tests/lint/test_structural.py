"""An object against its schema: what the API server refuses, where it stands, and what is said about it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog import schemas
from stoker.catalog.schemas import Schema
from stoker.lint import structural
from stoker.lint.structural import Fault, faults


@pytest.fixture(autouse=True)
def shipped_alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SCHEMAS", str(tmp_path_factory.mktemp("none")))


def found(text: str, *, is_open: Any = structural.never_open) -> list[Fault]:
    obj = yaml.safe_load(text)
    schema = schemas.find(obj["apiVersion"], obj["kind"])
    assert schema is not None
    return faults(obj, schema, is_open=is_open)


def brief(text: str) -> list[tuple[str, str]]:
    return [(fault.kind, ".".join(str(part) for part in fault.path)) for fault in found(text)]


def toy(tree: dict[str, Any]) -> Schema:
    """The schema of a kind whose `spec` is this tree."""
    root = {"type": "object", "properties": {"spec": tree}}
    return Schema("example.com/v1", "Toy", "Namespaced", True, "", "here", root)


def of_spec(spec: Any, tree: dict[str, Any]) -> list[tuple[str, tuple[str | int, ...], str]]:
    obj = {"apiVersion": "example.com/v1", "kind": "Toy", "metadata": {"name": "t"}, "spec": spec}
    return [(fault.kind, fault.path[1:], fault.message) for fault in faults(obj, toy(tree))]


NODE_POOL = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu}
spec:
  template:
    metadata: {labels: {team: ml}}
    spec:
      expireAfter: 720h
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
      requirements:
        - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
  disruption: {consolidationPolicy: WhenEmptyOrUnderutilized, consolidateAfter: 30s, budgets: [{nodes: 10%}]}
"""
NODE_CLASS = """
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: {name: gpu}
spec:
  role: nodes
  amiSelectorTerms: [{alias: al2023@v20260801}]
  subnetSelectorTerms: [{tags: {discovery: here}}]
  securityGroupSelectorTerms: [{tags: {discovery: here}}]
"""


def test_what_is_right_has_no_faults() -> None:
    assert found(NODE_POOL) == []
    assert found(NODE_CLASS) == []


# The guide's own faults, in manifests of our own.


def test_v1beta1_consolidation_that_never_was_valid() -> None:
    pool = """
apiVersion: karpenter.sh/v1beta1
kind: NodePool
metadata: {name: gpu}
spec:
  template: {spec: {nodeClassRef: {name: gpu}, requirements: []}}
  disruption: {consolidationPolicy: WhenUnderutilized, consolidateAfter: 30s}
"""
    (fault,) = found(pool)
    assert (fault.kind, fault.path) == ("cel", ("spec", "disruption"))
    assert fault.message == "consolidateAfter cannot be combined with consolidationPolicy=WhenUnderutilized"


def test_a_field_that_moved_is_unknown_and_its_place_is_said() -> None:
    (fault,) = found(NODE_POOL.replace("{consolidationPolicy", "{expireAfter: 720h, consolidationPolicy"))

    assert (fault.kind, fault.path, fault.key) == ("unknown-field", ("spec", "disruption", "expireAfter"), True)
    assert fault.hint == "it stands at spec.template.spec.expireAfter"


def test_a_field_that_is_misspelt_has_its_neighbour_named() -> None:
    (fault,) = found(NODE_POOL.replace("consolidateAfter", "consolidateAfter: 30s, consolidateAftr"))

    assert fault.hint == "did you mean consolidateAfter?"


def test_node_class_ref_needs_group_and_kind() -> None:
    text = NODE_POOL.replace("group: karpenter.k8s.aws, kind: EC2NodeClass, ", "")

    assert brief(text) == [
        ("missing-field", "spec.template.spec.nodeClassRef.group"),
        ("missing-field", "spec.template.spec.nodeClassRef.kind"),
    ]


def test_a_value_that_was_renamed_is_not_in_the_enum() -> None:
    (fault,) = found(NODE_POOL.replace("WhenEmptyOrUnderutilized", "WhenUnderutilized"))

    assert (fault.kind, fault.hint) == ("not-in-enum", "did you mean WhenEmptyOrUnderutilized?")
    assert fault.message == '"WhenUnderutilized" is not one of WhenEmpty, WhenEmptyOrUnderutilized, Balanced'


def test_consolidate_after_is_required_where_disruption_is_written() -> None:
    assert brief(NODE_POOL.replace("consolidateAfter: 30s, ", "")) == [
        ("missing-field", "spec.disruption.consolidateAfter")
    ]


def test_ami_selector_terms_are_required() -> None:
    text = NODE_CLASS.replace("amiSelectorTerms: [{alias: al2023@v20260801}]", "amiFamily: AL2023")

    assert brief(text) == [("missing-field", "spec.amiSelectorTerms")]


@pytest.mark.parametrize(("terms", "family", "message"), [
    ("[{alias: al2023@v20260801}]", "AL2023", None),
    ("[{alias: al2023@v20260801}]", "Custom", None),
    ("[{id: ami-0123456789abcdef0}]", "AL2023", None),
    ("[{alias: al2023@v20260801}]", "AL2",
     "if set, amiFamily must be 'AL2023' or 'Custom' when using an AL2023 alias"),
    ("[{alias: al2023@v20260801}, {id: ami-0123456789abcdef0}]", "AL2023",
     "'alias' is mutually exclusive, cannot be set with a combination of other amiSelectorTerms"),
    ("[{alias: ubuntu@latest}]", "Custom",
     "family is not supported, must be one of the following: 'al2', 'al2023', 'bottlerocket', 'windows2019', "
     "'windows2022', 'windows2025'"),
])  # fmt: skip
def test_the_rules_of_ami_aliases(terms: str, family: str, message: str | None) -> None:
    text = NODE_CLASS.replace("[{alias: al2023@v20260801}]", f"{terms}\n  amiFamily: {family}")

    assert [fault.message for fault in found(text)] == ([message] if message else [])


def test_v1beta1_budgets_have_no_reasons() -> None:
    pool = """
apiVersion: karpenter.sh/v1beta1
kind: NodePool
metadata: {name: gpu}
spec:
  template: {spec: {nodeClassRef: {name: gpu}, requirements: []}}
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: 30s, budgets: [{nodes: "0", reasons: [Drifted]}]}
"""
    assert brief(pool) == [("unknown-field", "spec.disruption.budgets.0.reasons")]


def test_expired_is_no_reason() -> None:
    assert brief(NODE_POOL.replace("{nodes: 10%}", "{nodes: 10%, reasons: [Empty, Expired]}")) == [
        ("not-in-enum", "spec.disruption.budgets.0.reasons.1")
    ]


def test_a_pod_whose_spec_is_null_has_none() -> None:
    assert brief("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n") == [("missing-field", "spec")]


def test_a_deployment_needs_its_selector() -> None:
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: web, image: web}]}}}
"""
    assert brief(text) == [("missing-field", "spec.selector")]


def test_a_node_pool_needs_its_template() -> None:
    assert brief("{apiVersion: karpenter.sh/v1, kind: NodePool, metadata: {name: a}, spec: {weight: 1}}") == [
        ("missing-field", "spec.template")
    ]


def test_a_schedule_of_a_budget_needs_a_duration() -> None:
    (fault,) = found(NODE_POOL.replace("{nodes: 10%}", '{nodes: 20%, schedule: "* * * * *"}'))

    assert (fault.kind, fault.path) == ("cel", ("spec", "disruption", "budgets"))
    assert fault.message == "'schedule' must be set with 'duration'"


def test_a_bucket_has_no_tags() -> None:
    text = """
apiVersion: s3.services.k8s.aws/v1alpha1
kind: Bucket
metadata: {name: models}
spec: {name: models, tags: [{key: a, value: b}]}
"""
    (fault,) = found(text)
    assert (fault.path, fault.hint) == (("spec", "tags"), "did you mean tagging?")


def test_kro_aws_io_is_nobodys_group() -> None:
    assert schemas.find("kro.aws.io/v1alpha1", "ResourceGroup") is None
    assert not schemas.known_group("kro.aws.io")


def test_a_scale_target_needs_its_kind() -> None:
    text = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {maxReplicas: 3, scaleTargetRef: {name: web}}
"""
    assert brief(text) == [("missing-field", "spec.scaleTargetRef.kind")]


@pytest.mark.parametrize(("requirement", "message"), [
    ("{key: karpenter.sh/nodepool, operator: Exists}", 'label "karpenter.sh/nodepool" is restricted'),
    ("{key: karpenter.sh/odd, operator: Exists}", 'label domain "karpenter.sh" is restricted'),
    ("{key: kubernetes.io/hostname, operator: Exists}", 'label "kubernetes.io/hostname" is restricted'),
    ("{key: zone, operator: Gt, values: ['-1']}",
     "requirements operator 'Gt', 'Lt', 'Gte', or 'Lte' must have a single positive integer value"),
    ("{key: zone, operator: In, values: []}", "requirements with operator 'In' must have a value defined"),
    ("{key: zone, operator: In, values: [a], minValues: 2}",
     "requirements with 'minValues' must have at least that many values specified in the 'values' field"),
])  # fmt: skip
def test_restricted_keys_and_values_of_requirements(requirement: str, message: str) -> None:
    text = NODE_POOL.replace("{key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}", requirement)

    assert [fault.message for fault in found(text)] == [message]


def test_an_operator_that_needs_values_and_has_none_fails_as_on_the_server() -> None:
    text = NODE_POOL.replace(", values: [spot, on-demand]", "")

    assert [fault.message for fault in found(text)] == [
        "rule evaluation error: no such key: values, in the rule: requirements with operator 'In' must have a value "
        "defined"
    ]


@pytest.mark.parametrize(("change", "message"), [
    (("role: nodes", "role: nodes\n  instanceProfile: nodes"),
     "must specify exactly one of ['role', 'instanceProfile']"),
    (("role: nodes", "role: nodes\n  tags: {kubernetes.io/cluster/a: owned}"),
     "tag contains a restricted tag matching kubernetes.io/cluster/"),
    (("[{tags: {discovery: here}}]\n  sec", "[{id: subnet-1, tags: {discovery: here}}]\n  sec"),
     "'id' is mutually exclusive, cannot be set with a combination of other fields in a subnet selector term"),
    (("role: nodes", "role: nodes\n  blockDeviceMappings: [{ebs: {volumeInitializationRate: 100, volumeSize: 1Gi}}]"),
     "snapshotID must be set when volumeInitializationRate is set"),
])  # fmt: skip
def test_rules_of_node_classes(change: tuple[str, str], message: str) -> None:
    assert message in [fault.message for fault in found(NODE_CLASS.replace(*change))]


# Types, bounds, lists.


@pytest.mark.parametrize(("value", "tree", "kind", "message"), [
    ("3", {"type": "integer"}, "wrong-type", 'must be a whole number, not "3"'),
    (True, {"type": "string"}, "wrong-type", "must be text, not true"),
    (1.5, {"type": "integer"}, "wrong-type", "must be a whole number, not 1.5"),
    (float("nan"), {"type": "number"}, "wrong-type", "must be a number, not nan"),
    (2**31, {"type": "integer", "format": "int32"}, "out-of-range", "2147483648 does not fit int32"),
    (0, {"type": "integer", "minimum": 1}, "out-of-range", "0 is too small; at least 1"),
    (5, {"type": "integer", "maximum": 5, "exclusiveMaximum": True}, "out-of-range", "5 is too large; less than 5"),
    (7, {"type": "integer", "multipleOf": 2}, "out-of-range", "7 is no multiple of 2"),
    ("ab", {"type": "string", "maxLength": 1}, "too-many", '"ab" has 2 characters; 1 is the most'),
    ("a\n", {"type": "string", "pattern": "^a$"}, "bad-pattern", '"a\\n" does not match ^a$'),
    ("yesterday", {"type": "string", "format": "date-time"}, "bad-format",
     '"yesterday" is not a time such as 2026-01-31T12:00:00Z'),
    ("10.0.0.0", {"type": "string", "format": "cidr"}, "bad-format",
     '"10.0.0.0" is not a network such as 10.0.0.0/16'),
    ([1, 1], {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"}, "duplicate-key",
     "1 stands in the list twice"),
    ([], {"type": "array", "minItems": 1}, "too-many", "has 0 items; 1 is the least"),
    ({"a": 1}, {"type": "object", "maxProperties": 0, "additionalProperties": True}, "too-many",
     "has 1 entries; 0 is the most"),
    (None, {"type": "array", "items": {"type": "string"}}, None, ""),
    ([None], {"type": "array", "items": {"type": "string"}}, "wrong-type", "must be text, not null"),
    (True, {"x-kubernetes-int-or-string": True}, "wrong-type", "must be a whole number or text, not true"),
    ("x", {"type": "string", "oneOf": [{"enum": ["a"]}, {"enum": ["b"]}]}, "bad-value",
     'fits none of 2 allowed forms: "x" is not one of a; "x" is not one of b'),
    ("a", {"type": "string", "not": {"enum": ["a"]}}, "bad-value", "has a form that is not allowed here"),
    (3.0, {"type": "integer"}, None, ""),
    ("anything", {}, None, ""),
])  # fmt: skip
def test_values(value: Any, tree: dict[str, Any], kind: str | None, message: str) -> None:
    said = of_spec({"x": value}, {"type": "object", "properties": {"x": tree}})

    assert [(fault[0], fault[2]) for fault in said] == ([(kind, message)] if kind else [])


def test_two_items_with_the_same_key_in_a_list_that_is_a_map() -> None:
    tree = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "protocol"],
        "items": {
            "type": "object",
            "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}},
        },
    }

    assert of_spec([{"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "protocol": "TCP"}], tree) == [
        ("duplicate-key", (2,), 'two items have port 1, protocol "TCP"; it must be unique in this list')
    ]


def test_a_null_is_a_field_that_is_not_there() -> None:
    tree = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}

    assert of_spec({"a": None}, tree) == [("missing-field", ("a",), "spec needs a")]
    nullable = {**tree, "properties": {"a": {"type": "string", "nullable": True}}}
    assert of_spec({"a": None}, nullable) == []


def test_defaults_are_filled_in_before_required_fields_and_rules_are_looked_at() -> None:
    tree = {
        "type": "object",
        "required": ["mode"],
        "properties": {"mode": {"type": "string", "default": "fast"}, "speed": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.mode != 'fast' || has(self.speed)", "message": "speed is needed"}],
    }

    assert of_spec({}, tree) == [("cel", (), "speed is needed")]
    assert of_spec({"speed": 1}, tree) == []
    spec: dict[str, Any] = {}
    of_spec(spec, tree)
    assert spec == {}


def test_fields_that_may_be_anything() -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

    assert of_spec({"a": {"b": [1]}}, free) == []
    assert of_spec({"a": 1}, {"type": "object"}) == [("unknown-field", ("a",), "spec has no field a")]


def test_an_embedded_object_is_an_object() -> None:
    tree = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}

    assert of_spec({"kind": "Pod", "metadata": {"labels": {"a": 1}}}, tree) == [
        ("wrong-type", ("metadata", "labels", "a"), "must be text, not 1"),
        ("missing-field", ("apiVersion",), "spec needs apiVersion"),
    ]


def test_metadata_is_that_of_any_object() -> None:
    text = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: GPU, label: {}, labels: {bad key: ok, team: -ml}, annotations: {n: 1}}
spec: {template: {spec: {nodeClassRef: {group: a, kind: b, name: c}, requirements: []}}}
"""
    assert brief(text) == [
        ("unknown-field", "metadata.label"),
        ("wrong-type", "metadata.annotations.n"),
        ("bad-name", "metadata.labels.bad key"),
        ("bad-name", "metadata.labels.team"),
        ("bad-name", "metadata.name"),
    ]


def test_a_name_is_needed_or_the_beginning_of_one() -> None:
    assert brief(NODE_POOL.replace("{name: gpu}\nspec", "{}\nspec")) == [("missing-field", "metadata.name")]
    assert brief(NODE_POOL.replace("{name: gpu}\nspec", "{generateName: gpu-}\nspec")) == []


def test_the_status_of_a_custom_object_is_not_looked_at() -> None:
    """The server drops it from what is applied; tools write an empty one."""
    assert found(NODE_POOL + "status: {conditions: [{}], nonsense: 1}\n") == []


# What something fills in later.


def is_open(value: object) -> bool:
    return isinstance(value, str) and "${" in value


def test_what_is_filled_in_later_fits_anything_and_no_rule_judges_it() -> None:
    text = NODE_POOL.replace("consolidateAfter: 30s", "consolidateAfter: '${after}'")
    text = text.replace("{nodes: 10%}", "{nodes: '${n}', schedule: '* * * * *'}")

    assert found(text, is_open=is_open) == []


def test_a_rule_beside_what_is_filled_in_later_still_judges() -> None:
    text = NODE_POOL.replace("name: gpu}\n      req", "name: '${class}'}\n      req")
    text = text.replace("{nodes: 10%}", "{nodes: 10%, schedule: '* * * * *'}")

    assert [fault.message for fault in found(text, is_open=is_open)] == ["'schedule' must be set with 'duration'"]


# Bounds: nothing crashes it.


def test_deep_trees_and_many_faults_come_to_an_end() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = {"a": [deep]}
    schema = schemas.find("apps/v1", "Deployment")
    assert schema is not None
    pool = schemas.find("karpenter.sh/v1", "NodePool")
    assert pool is not None

    assert faults({"apiVersion": "apps/v1", "kind": "Deployment", "spec": deep}, schema)
    many = faults({"spec": {f"f{i}": 1 for i in range(5000)}}, pool)
    assert len(many) <= structural.MAX_FAULTS + 5
    assert "the rest is not listed" in [each.message.partition("; ")[2] for each in many]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(
    ["spec", "metadata", "name", "labels", "template", "containers", "disruption", "budgets", "nodes", "requirements",
     "values", "operator", "amiSelectorTerms", "alias", "tags", "role", "rules", "resources", "limits", "ports"]
)  # fmt: skip
TREES = st.recursive(
    SCALARS | st.integers(min_value=2**70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | SCALARS, inner, max_size=5),
    max_leaves=30,
)
KINDS = [
    ("karpenter.sh/v1", "NodePool"),
    ("karpenter.k8s.aws/v1", "EC2NodeClass"),
    ("apps/v1", "Deployment"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("argoproj.io/v1alpha1", "Workflow"),
]


@settings(max_examples=150, deadline=None)
@given(tree=TREES, kind=st.sampled_from(KINDS))
def test_any_tree_is_judged(tree: Any, kind: tuple[str, str]) -> None:
    schema = schemas.find(*kind, folder=Path("/nonexistent"))
    assert schema is not None

    for each in faults(tree, schema):
        assert each.message
        assert isinstance(each.path, tuple)
    if isinstance(tree, dict):
        faults({**tree, "metadata": {"name": "a"}}, schema)
        faults({"metadata": tree, "spec": tree}, schema)


def test_a_rule_that_names_a_field_points_at_it() -> None:
    rule = {"rule": "self.a < 3", "message": "a is too large", "fieldPath": ".a"}
    tree = {"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]}
    assert of_spec({"a": 5}, tree) == [("cel", ("a",), "a is too large")]


def test_an_item_that_is_empty_is_no_section() -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: 'a:1'}, null]}\n"
    assert [(fault.path, fault.message) for fault in found(pod)] == [(("spec", "containers", 1), "the item is empty")]
