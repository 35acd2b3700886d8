"""What the rules of NodePools and EC2NodeClasses flag beyond their own examples, what not, and what `--fix` does."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.lint.cluster import Cluster
from stoker.lint.config import Config
from stoker.lint.findings import Finding
from stoker.lint.fixing import fix
from stoker.lint.rule import Severity
from stoker.lint.rules import karpenter
from stoker.lint.run import lint
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.reading import read, read_text
from stoker.spec.faults import Position

HERE = Path(__file__).parent
V1_BETA_1 = ("02-gpu-pool", "05-model-pools", "08-spot-pool", "13-training-pool")
REASONS = "spec.disruption.budgets"


def findings(text: str, *numbers: str) -> list[Finding]:
    """What the rules of these numbers say of a text; all rules of this area without any."""
    wanted = {f"STK-KARPENTER-{each}" for each in numbers} or {rule.id for rule in karpenter.RULES}
    return [each for each in lint(read_text(text)).findings if each.rule in wanted]


def said(text: str, number: str) -> list[tuple[str, str]]:
    """Path and message of what one rule says."""
    return [(each.path, each.message) for each in findings(text, number)]


def pool(
    *requirements: str,
    rest: str = "",
    labels: str = "",
    taints: str = "[{key: nvidia.com/gpu, effect: NoSchedule}]",
    name: str = "a",
) -> str:
    """A NodePool with these requirements, and further lines of its spec."""
    lines = [
        "apiVersion: karpenter.sh/v1",
        "kind: NodePool",
        f"metadata: {{name: {name}}}",
        "spec:",
        "  template:",
        *([f"    metadata: {{labels: {labels}}}"] if labels else []),
        "    spec:",
        "      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}",
        f"      taints: {taints}",
        "      requirements:",
        *(f"      - {each}" for each in requirements),
        *(f"  {line}" for line in rest.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def node_class(rest: str, ami: str = "al2023@v20260801") -> str:
    lines = [
        "apiVersion: karpenter.k8s.aws/v1",
        "kind: EC2NodeClass",
        "metadata: {name: a}",
        "spec:",
        f"  amiSelectorTerms: [{{alias: {ami}}}]",
        "  role: nodes",
        "  subnetSelectorTerms: [{tags: {a: b}}]",
        "  securityGroupSelectorTerms: [{tags: {a: b}}]",
        *(f"  {line}" for line in rest.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def family(*names: str) -> str:
    return f"{{key: karpenter.k8s.aws/instance-family, operator: In, values: [{', '.join(names)}]}}"


def fixed(text: str) -> Any:
    """The only object of a text after `--fix`."""
    result = fix(read_text(text, "a.yaml"), Config())
    return result.reading.manifests[0].data


# -- the guide's faults --


def test_the_guides_pools_and_node_classes_have_exactly_these_findings() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {
        (each.rule.removeprefix("STK-KARPENTER-"), each.object, each.path)
        for each in report.findings
        if each.rule.startswith("STK-KARPENTER-")
    }
    assert found == set(_expected())


def _expected() -> Iterator[tuple[str, str, str]]:
    ref, requirements = "spec.template.spec.nodeClassRef", "spec.template.spec.requirements"
    policy, after = "spec.disruption.consolidationPolicy", "spec.disruption.consolidateAfter"
    gpus, label = 'spec.limits."nvidia.com/gpu"', 'spec.template.metadata.labels."karpenter.sh/capacity-type"'
    for name in ("serving", "general", "code", "serving-spot", "packed", "training"):
        yield "001", f"NodePool {name}", "apiVersion"
    for name in ("serving", "general", "code", "serving-spot", "packed"):
        yield "003", f"NodePool {name}", policy
        yield "004", f"NodePool {name}", after
    for name in ("serving", "training"):
        yield "005", f"NodePool {name}", "spec.disruption.expireAfter"
        yield "015", f"NodePool {name}", label
    for name in ("serving", "general", "code", "serving-spot", "training"):
        yield "006", f"NodePool {name}", f"{ref}.group"
        yield "006", f"NodePool {name}", f"{ref}.kind"
    for name in ("serving-nodes", "spot-nodes", "training-nodes"):
        yield "001", f"EC2NodeClass {name}", "apiVersion"
        yield "010", f"EC2NodeClass {name}", "spec.amiSelectorTerms"
        yield "043", f"EC2NodeClass {name}", "spec.amiFamily"
    for name in ("serving-spot", "training"):
        yield "011", f"NodePool {name}", f"{REASONS}[0].reasons"
        yield "011", f"NodePool {name}", f"{REASONS}[1].reasons"
        yield "012", f"NodePool {name}", f"{REASONS}[1].reasons[0]"
    for name in ("general", "code", "serving-spot"):
        yield "031", f"NodePool {name}", policy
        yield "033", f"NodePool {name}", gpus
    for name in ("general", "code"):
        yield "022", f"NodePool {name}", f"{requirements}[1].values[1]"
    for name in ("general", "code", "training"):
        yield "030", f"NodePool {name}", "spec.weight"
    for name in ("spot-nodes", "training-nodes"):
        yield "040", f"EC2NodeClass {name}", "spec.metadataOptions.httpPutResponseHopLimit"
    yield from (
        ("009", "NodePool packed", "spec.template"),
        ("013", "NodePool packed", f"{REASONS}[0].schedule"),
        ("020", "NodePool serving", f"{requirements}[1].values[1]"),
        ("023", "NodePool packed", after),
        ("024", "NodePool serving", f"{REASONS}[1].nodes"),
        ("024", "NodePool packed", f"{REASONS}[1].nodes"),
        ("025", "NodePool training", REASONS),
        ("025", "NodePool training", f"{REASONS}[0].reasons"),
        ("026", "NodePool serving-spot", REASONS),
        ("026", "NodePool training", f"{REASONS}[1].nodes"),
        ("027", "NodePool packed", REASONS),
        ("029", "NodePool code", "spec.weight"),
        ("029", "NodePool training", "spec.weight"),
        ("032", "NodePool serving", "spec.template.metadata.labels.workload-type"),
        ("035", "NodePool training", gpus),
        ("038", "NodePool training", requirements),
        ("039", "NodePool training", f"{requirements}[3].key"),
        ("039", "EC2NodeClass training-nodes", "spec.subnetSelectorTerms"),
        ("044", "EC2NodeClass serving-nodes", "spec.userData"),
        ("045", "EC2NodeClass spot-nodes", "spec.userData"),
        ("046", "EC2NodeClass training-nodes", "spec.userData"),
        ("047", "EC2NodeClass training-nodes", "spec.userData"),
        ("049", "EC2NodeClass spot-nodes", "spec.blockDeviceMappings[0].ebs.iops"),
        ("050", "EC2NodeClass spot-nodes", "spec.blockDeviceMappings[0].ebs.volumeSize"),
    )


# -- fixing --


@pytest.mark.parametrize("name", V1_BETA_1)
def test_fix_makes_v1_pools_that_the_api_takes(name: str) -> None:
    result = fix(read([str(HERE / "guide_wrong" / f"{name}.yaml")]), Config())
    errors = [
        f"{each.rule} {each.path}"
        for each in lint(result.reading).findings
        if each.severity is Severity.ERROR and each.object.startswith("NodePool")
    ]
    assert (errors, result.skipped) == ([], ())
    assert {each.api_version for each in result.reading.manifests if each.kind == "NodePool"} == {"karpenter.sh/v1"}


def test_fix_moves_what_moved_and_keeps_the_rest() -> None:
    result = fix(read([str(HERE / "guide_wrong" / "13-training-pool.yaml")]), Config())
    spec = result.reading.manifests[0].data["spec"]
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    assert spec["template"]["metadata"]["labels"] == {"workload-type": "training"}
    assert spec["template"]["spec"]["nodeClassRef"] == {
        "group": "karpenter.k8s.aws",
        "kind": "EC2NodeClass",
        "name": "training-nodes",
    }
    assert spec["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "300s",
        "budgets": [{"nodes": "0", "reasons": ["Underutilized"]}],
    }
    assert "# a running job is never disrupted" in next(iter(result.texts.values()))


def test_a_node_class_keeps_to_the_latest_image_that_v1beta1_meant() -> None:
    text = node_class("amiFamily: Bottlerocket").replace("/v1\n", "/v1beta1\n")
    text = text.replace("  amiSelectorTerms: [{alias: al2023@v20260801}]\n", "")
    mended = fixed(text)
    assert (mended["apiVersion"], mended["spec"]["amiSelectorTerms"]) == (
        "karpenter.k8s.aws/v1",
        [{"alias": "bottlerocket@latest"}],
    )


@pytest.mark.parametrize(
    "text",
    [
        pool(family("g5"), rest="disruption: {consolidationPolicy: WhenUnderutilized}").replace(
            "      taints", "      kubelet: {maxPods: 40}\n      taints"
        ),
        node_class("amiFamily: Ubuntu").replace("{alias: al2023@v20260801}", "{id: ami-0123456789abcdef0}"),
    ],
)
def test_what_v1_would_refuse_is_not_moved_by_halves(text: str) -> None:
    """The kubelet's settings belong in another object; the family Ubuntu is gone: somebody has to decide."""
    old = text.replace("/v1\n", "/v1beta1\n").replace("group: karpenter.k8s.aws, kind: EC2NodeClass, ", "")
    assert fix(read_text(old, "a.yaml"), Config()).texts == {}


def test_fix_takes_the_group_of_an_old_reference() -> None:
    text = pool(family("g5")).replace(
        "group: karpenter.k8s.aws, kind: EC2NodeClass", "apiVersion: karpenter.k8s.aws/v1beta1"
    )
    assert fixed(text)["spec"]["template"]["spec"]["nodeClassRef"] == {
        "name": "a",
        "group": "karpenter.k8s.aws",
        "kind": "EC2NodeClass",
    }


def test_the_group_of_a_kind_of_another_cloud_is_its_own() -> None:
    text = pool(family("g5")).replace("group: karpenter.k8s.aws, kind: EC2NodeClass", "kind: AKSNodeClass")
    assert fixed(text)["spec"]["template"]["spec"]["nodeClassRef"]["group"] == "karpenter.azure.com"


def test_an_expiry_said_in_two_places_is_not_decided() -> None:
    text = pool(family("g5"), rest="disruption: {consolidateAfter: 0s, expireAfter: 1h}").replace(
        "      taints", "      expireAfter: 2h\n      taints"
    )
    assert fixed(text)["spec"]["disruption"]["expireAfter"] == "1h"


def test_a_pool_keeps_a_default_budget_when_its_only_one_goes() -> None:
    text = pool(family("g5"), rest='disruption: {consolidateAfter: 0s, budgets: [{nodes: "5", reasons: [Expired]}]}')
    assert fixed(text)["spec"]["disruption"] == {"consolidateAfter": "0s"}


def test_of_several_reasons_only_the_unknown_goes_and_a_misspelt_one_is_mended() -> None:
    budget = '{nodes: "5", reasons: [Expired, drifted, Empty]}'
    text = pool(family("g5"), rest=f"disruption: {{consolidateAfter: 0s, budgets: [{budget}]}}")
    assert fixed(text)["spec"]["disruption"]["budgets"] == [{"nodes": "5", "reasons": ["Drifted", "Empty"]}]


def test_a_schedule_that_says_something_is_not_removed() -> None:
    text = pool(family("g5"), rest='disruption: {consolidateAfter: 0s, budgets: [{nodes: "5", schedule: "0 2 * * *"}]}')
    assert said(text, "013") == [(f"{REASONS}[0].schedule", "schedule 0 2 * * * without duration: the pool is refused")]
    assert fixed(text)["spec"]["disruption"]["budgets"] == [{"nodes": "5", "schedule": "0 2 * * *"}]


def test_of_two_old_annotations_one_is_renamed() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n"
        '    karpenter.sh/do-not-evict: "true"\n    karpenter.sh/do-not-consolidate: "true"\n'
        "spec:\n  nodeSelector: {karpenter.sh/provisioner-name: b}\n  containers: [{name: a, image: 'a:1'}]\n"
    )
    assert [each.path for each in findings(text, "014")] == [
        'metadata.annotations."karpenter.sh/do-not-evict"',
        'metadata.annotations."karpenter.sh/do-not-consolidate"',
        'spec.nodeSelector."karpenter.sh/provisioner-name"',
    ]
    mended = fixed(text)
    assert mended["metadata"]["annotations"] == {"karpenter.sh/do-not-disrupt": "true"}
    assert mended["spec"]["nodeSelector"] == {"karpenter.sh/nodepool": "b"}


# -- labels and requirements --


def test_a_label_for_a_capacity_type_alone_cancels_nothing() -> None:
    asked = "{key: karpenter.sh/capacity-type, operator: In, values: [spot]}"
    assert findings(pool(family("g5"), asked, labels="{karpenter.sh/capacity-type: spot}"), "015", "016") == []
    assert findings(pool(family("g5"), labels="{karpenter.sh/capacity-type: spot}"), "015", "016") == []


def test_a_label_that_contradicts_is_worse_than_one_that_narrows() -> None:
    asked = "{key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}"
    narrow = findings(pool(family("g5"), asked, labels="{karpenter.k8s.aws/instance-size: xlarge}"), "016")
    against = findings(pool(family("g5"), asked, labels="{karpenter.k8s.aws/instance-size: 4xlarge}"), "016")
    assert [each.severity for each in (*narrow, *against)] == [Severity.WARNING, Severity.ERROR]


@pytest.mark.parametrize(
    ("key", "severities"),
    [
        ("karpenter.sh/team", [Severity.ERROR]),
        ("kubernetes.io/hostname", [Severity.ERROR]),
        ("app.kubernetes.io/part-of", [Severity.INFO]),
        ("node.kubernetes.io/team", []),
        ("example.com/team", []),
        ("team", []),
    ],
)
def test_which_labels_a_pool_may_give(key: str, severities: list[Severity]) -> None:
    assert [each.severity for each in findings(pool(family("g5"), labels=f"{{{key}: a}}"), "017")] == severities


def test_values_that_are_all_known_are_a_mistake_when_they_are_others() -> None:
    arch = "{key: kubernetes.io/arch, operator: In, values: [x86_64, amd64]}"
    assert said(pool(family("g5"), arch), "020") == [
        (
            "spec.template.spec.requirements[1].values[0]",
            "no node has kubernetes.io/arch x86_64: the value allows nothing",
        )
    ]
    assert [each.severity for each in findings(pool(family("g5"), arch), "020")] == [Severity.WARNING]


def test_a_family_that_the_catalogue_does_not_have_may_be_newer() -> None:
    for text in (pool(family("g5", "g99")), pool(family("g99"))):
        assert [(each.rule[-3:], each.severity) for each in findings(text, "020", "021", "036")] == [
            ("020", Severity.INFO)
        ]


def test_of_general_families_the_catalogue_has_some_and_says_nothing_of_others() -> None:
    size = "{key: karpenter.k8s.aws/instance-size, operator: In, values: [large, 99xlarge]}"
    newer = "{key: karpenter.k8s.aws/instance-generation, operator: Gt, values: ['98']}"
    spot = "{key: karpenter.sh/capacity-type, operator: In, values: [spot]}"
    category = "{key: karpenter.k8s.aws/instance-category, operator: In, values: [c]}"
    for requirements in ((family("c6a"), size, spot), (category, newer, spot), (family("g5", "c6a"), spot)):
        assert findings(pool(*requirements, taints="[]"), "020", "021", "031", "036") == []


@pytest.mark.parametrize(
    "asked",
    [
        family("g5"),
        "{key: karpenter.k8s.aws/instance-category, operator: In, values: [g, p]}",
        "{key: karpenter.k8s.aws/instance-gpu-manufacturer, operator: Exists}",
        "{key: node.kubernetes.io/instance-type, operator: In, values: [g5.2xlarge, p5.48xlarge]}",
    ],
)
def test_how_a_pool_says_that_all_its_nodes_have_gpus(asked: str) -> None:
    assert [path for path, _ in said(pool(asked, taints="[]"), "036")] == ["spec.template.spec.taints"]


def test_a_pool_of_another_cloud_is_not_held_against_ec2() -> None:
    asked = "{key: node.kubernetes.io/instance-type, operator: In, values: [Standard_NC24ads_A100_v4]}"
    text = pool(asked).replace("karpenter.k8s.aws", "karpenter.azure.com").replace("EC2NodeClass", "AKSNodeClass")
    assert findings(text, "020", "021", "036") == []


def test_min_values_of_what_the_types_have() -> None:
    listed = "{key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge], minValues: 3}"
    assert [each.message for each in findings(pool(family("g5"), listed), "019")] == [
        "minValues 3, and 2 values are listed: the pool is refused"
    ]
    families = "{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6], minValues: 2}"
    assert findings(pool(families), "019") == []


@pytest.mark.parametrize(
    ("comment", "flagged"),
    [
        ("1-2 GPUs", True),
        ("with 2 GPUs each", True),
        ("1 GPU", False),
        ("one size", False),
        ("never 2 GPUs", False),
    ],
)
def test_comments_that_count_gpus(comment: str, flagged: bool) -> None:
    size = f"{{key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}}  # {comment}"
    assert bool(findings(pool(family("g5"), size), "022")) is flagged


@pytest.mark.parametrize(
    ("values", "comment", "flagged"),
    [
        ("on-demand", "spot, for the price", True),
        ("spot", "on demand, for the night", True),
        ("on-demand", "no spot here", False),
        ("on-demand", "spot was reclaimed too often, so on-demand", False),
        ("spot, on-demand", "spot", False),
    ],
)
def test_comments_that_name_a_capacity_type(values: str, comment: str, flagged: bool) -> None:
    asked = f"{{key: karpenter.sh/capacity-type, operator: In, values: [{values}]}}  # {comment}"
    assert bool(findings(pool(family("g5"), asked), "037")) is flagged


# -- disruption --


def disrupted(*budgets: str, more: str = "") -> str:
    listed = "".join(f"\n  - {each}" for each in budgets)
    return pool(family("g5"), rest=f"disruption:\n  consolidateAfter: 30s\n{more}  budgets:{listed}")


@pytest.mark.parametrize(
    ("always", "window", "flagged"),
    [
        ('{nodes: "10%"}', '{nodes: "50%", schedule: "0 9 * * *", duration: 4h}', True),
        ('{nodes: "10%"}', '{nodes: "10%", schedule: "0 9 * * *", duration: 4h}', True),
        ('{nodes: "50%"}', '{nodes: "10%", schedule: "0 9 * * *", duration: 4h}', False),
        ('{nodes: "2"}', '{nodes: "50%", schedule: "0 9 * * *", duration: 4h}', False),  # depends on the pool's size
        ('{nodes: "0"}', '{nodes: "50%", schedule: "0 9 * * *", duration: 4h}', True),
        ('{nodes: "10%", reasons: [Drifted]}', '{nodes: "50%", schedule: "0 9 * * *", duration: 4h}', False),
        ('{nodes: "10%"}', '{nodes: "50%", reasons: [Empty], schedule: "0 9 * * *", duration: 4h}', True),
        ('{nodes: "10%", schedule: "* * * * *"}', '{nodes: "50%", schedule: "0 9 * * *", duration: 4h}', True),
    ],
)
def test_which_windows_have_no_effect(always: str, window: str, flagged: bool) -> None:
    assert bool(findings(disrupted(always, window), "024")) is flagged


def test_a_reason_without_a_budget_has_no_limit() -> None:
    assert said(disrupted('{nodes: "10%", reasons: [Empty, Underutilized]}'), "025") == [
        (
            REASONS,
            "no budget covers Drifted, which then has no limit: a new image or node class replaces all nodes at once",
        )
    ]
    assert findings(disrupted('{nodes: "10%", reasons: [Empty]}', '{nodes: "20%"}'), "025") == []


def test_a_budget_with_an_empty_list_of_reasons_limits_none() -> None:
    found = said(disrupted('{nodes: "10%", reasons: []}'), "025")
    assert [message.partition(",")[0] for _, message in found] == [
        "no budget covers Drifted",
        "no budget covers Underutilized",
    ]


def test_outside_of_its_hours_a_budget_limits_nothing() -> None:
    found = findings(disrupted('{nodes: "0", schedule: "0 9 * * MON-FRI", duration: 8h}'), "025")
    assert [(each.severity, each.message.partition(":")[0]) for each in found] == [
        (Severity.INFO, "outside of the hours of its budgets Drifted has no limit"),
        (Severity.INFO, "outside of the hours of its budgets Underutilized has no limit"),
    ]


def test_an_empty_list_of_budgets_is_no_limit() -> None:
    text = pool(family("g5"), rest="disruption: {consolidateAfter: 30s, budgets: []}")
    assert [path for path, _ in said(text, "025")] == [REASONS]


def test_a_budget_of_zero_does_not_stop_expiry() -> None:
    [(path, message)] = said(disrupted('{nodes: "0"}'), "028")
    assert path == f"{REASONS}[0].nodes"
    assert "after 720h each node is drained" in message
    assert said(disrupted('{nodes: "0", reasons: [Drifted]}'), "028") == []
    assert said(disrupted('{nodes: "0", schedule: "0 9 * * *", duration: 4h}'), "028") == []


@pytest.mark.parametrize(
    ("comment", "flagged"),
    [
        ("lower weight = higher priority", True),
        ("the lower the weight, the higher the priority", True),
        ("lowest wins", True),
        ("higher is less preferred", True),
        ("yields to serving", True),
        ("higher weight = tried first", False),
        ("higher weight is tried before lower weight", False),
        ("lower weights are tried after higher ones", False),
        ("this does not yield to serving", False),
        ("after the spot pool", False),
    ],
)
def test_comments_on_a_weight(comment: str, flagged: bool) -> None:
    assert bool(findings(pool(family("g5"), rest=f"weight: 5  # {comment}"), "029")) is flagged


@pytest.mark.parametrize(
    ("comment", "number", "flagged"),
    [
        ("handles spot interruptions gracefully", "026", True),
        ("interruptions are not limited by this", "026", False),
        ("CPU requests < 50% of allocatable", "027", True),
        ("below 60% utilization", "027", True),
        ("at most 10% of the nodes at a time", "027", False),
        ("there is no threshold such as CPU < 50%", "027", False),
    ],
)
def test_comments_on_budgets(comment: str, number: str, flagged: bool) -> None:
    assert bool(findings(disrupted(f'{{nodes: "10%"}}  # {comment}'), number)) is flagged


@pytest.mark.parametrize(
    ("comment", "flagged"),
    [("default: 30s", True), ("(the default is 1 min)", True), ("default 0s", False), ("by default 0 seconds", False)],
)
def test_comments_that_state_a_default(comment: str, flagged: bool) -> None:
    text = pool(family("g5"), rest=f"disruption:\n  consolidateAfter: 30s  # {comment}")
    assert bool(findings(text, "023")) is flagged


# -- limits, weights, several pools --


def test_a_limit_of_gpus_may_be_out_of_reach() -> None:
    asked = "{key: node.kubernetes.io/instance-type, operator: In, values: [p5.48xlarge]}"
    [finding] = findings(pool(asked, rest='limits: {memory: 16000Gi, nvidia.com/gpu: "128"}'), "035")
    assert finding.severity is Severity.WARNING
    assert finding.message == "128 GPUs are not reached, as another limit comes first: p5.48xlarge 56 (by memory)"
    assert findings(pool(asked, rest='limits: {memory: 34000Gi, nvidia.com/gpu: "128"}'), "035") == []


def test_a_pool_with_a_limit_of_nodes_or_a_fixed_size_needs_none_of_gpus() -> None:
    assert findings(pool(family("g5"), rest='limits: {nodes: "4"}'), "033", "034") == []
    assert findings(pool(family("g5"), rest="replicas: 4"), "033", "034") == []


def test_the_other_pool_caps_by_its_own_limit() -> None:
    one = pool(family("g5"), labels="{for: a}", rest='limits: {nvidia.com/gpu: "8"}')
    other = pool(family("g6"), labels="{for: a}", rest="weight: 5\nlimits: {cpu: '100'}", name="b")
    assert [path for path, _ in said(f"{one}---\n{other}", "032")] == ["spec.template.metadata.labels.for"]
    for limits in ("limits: {nvidia.com/gpu: '8'}", "limits: {nodes: '8'}"):
        capped = pool(family("g6"), labels="{for: a}", rest=f"weight: 5\n{limits}", name="b")
        assert said(f"{one}---\n{capped}", "032") == []


def test_a_weight_matters_where_a_pod_takes_both_pools() -> None:
    one = pool(family("g5"), labels="{for: a}", rest="weight: 5")
    other = pool(family("g6"), labels="{for: b}", name="b")
    both = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  tolerations: [{operator: Exists}]\n"
        "  containers: [{name: a, image: 'a:1'}]\n"
    )
    assert [path for path, _ in said(f"{one}---\n{other}", "030")] == ["spec.weight"]
    assert said(f"{one}---\n{other}---\n{both}", "030") == []


def test_efa_in_the_pods_affinity_keeps_them_in_one_zone() -> None:
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  tolerations: [{operator: Exists}]\n"
        "  containers: [{name: a, image: 'a:1', resources: {limits: {vpc.amazonaws.com/efa: 32}}}]\n"
    )
    together = pod + (
        "  affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution:"
        " [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {a: b}}}]}}\n"
    )
    assert [path for path, _ in said(f"{pool(family('p5'))}---\n{pod}", "038")] == ["spec.template.spec.requirements"]
    assert said(f"{pool(family('p5'))}---\n{together}", "038") == []
    assert said(f"{pool(family('c5'))}---\n{pod}", "038") == []


def test_a_default_is_no_efa() -> None:
    script = "userData: |\n  #!/bin/bash\n  sysctl -w net.ipv4.conf.default.rp_filter=2\n"
    assert said(f"{pool(family('p5'))}---\n{node_class(script)}", "038") == []


# -- node classes --


@pytest.mark.parametrize(
    ("ebs", "fields"),
    [
        ("volumeType: gp3, volumeSize: 500Gi, iops: 16000, throughput: 1000", []),
        ("volumeType: gp3, volumeSize: 20Gi, iops: 16000", ["iops"]),
        ("volumeType: gp3, volumeSize: 1Gi, iops: 3000, throughput: 125", []),
        ("volumeType: gp3, volumeSize: 20Gi, iops: 2000", ["iops"]),
        ("volumeType: gp3, volumeSize: 1Ti, iops: 3000, throughput: 1000", ["throughput"]),
        ("volumeType: io2, volumeSize: 100Gi, iops: 64000", []),
        ("volumeType: io1, volumeSize: 100Gi, iops: 64000", ["iops"]),
        ("volumeType: gp2, volumeSize: 100Gi, iops: 3000, throughput: 125", ["iops", "throughput"]),
        ("volumeSize: 100Gi, iops: 3000", []),
        ("volumeType: gp3, volumeSize: lots, iops: 100000", ["iops"]),
    ],
)
def test_which_volumes_ec2_makes(ebs: str, fields: list[str]) -> None:
    text = node_class(f"blockDeviceMappings: [{{deviceName: /dev/xvda, ebs: {{{ebs}, encrypted: true}}}}]")
    assert [each.path.rpartition(".")[2] for each in findings(text, "049")] == fields


@pytest.mark.parametrize(
    ("ami", "script", "severities"),
    [
        ("bottlerocket@v1.50.0", "#!/bin/bash\n  true", [Severity.ERROR]),
        ("bottlerocket@v1.50.0", "[settings.kernel]\n  lockdown = 'integrity'", []),
        ("al2023@v20260801", "#!/bin/bash\n  /etc/eks/bootstrap.sh atelier", [Severity.WARNING]),
        ("al2023@v20260801", "#!/bin/bash\n  # not /etc/eks/bootstrap.sh", []),
    ],
)
def test_user_data_of_another_family(ami: str, script: str, severities: list[Severity]) -> None:
    found = findings(node_class(f"userData: |\n  {script}", ami), "048")
    assert [each.severity for each in found] == severities


@pytest.mark.parametrize(
    ("command", "numbers"),
    [
        ("yum install -y nvidia-driver-latest-dkms", ["044"]),
        ("systemctl enable --now nvidia-dcgm", ["044"]),
        ("nvidia-smi -pm 1", []),
        ("nvidia-smi -i 0 --compute-mode=EXCLUSIVE_PROCESS", ["046"]),
        ("nvidia-smi -c 0", []),
        ("sudo /usr/local/bin/kubectl label node a b=c", ["045"]),
        ("echo kubectl", []),
        ("curl -LO https://example.com/tool/latest/tool.tar.gz", ["047"]),
        ("curl -LO https://example.com/tool/v1.2.3/tool.tar.gz", []),
        ("# curl https://example.com/latest", []),
    ],
)
def test_commands_in_user_data(command: str, numbers: list[str]) -> None:
    found = findings(node_class(f"userData: |\n  #!/bin/bash\n  {command}"), "044", "045", "046", "047")
    assert [each.rule[-3:] for each in found] == numbers


def test_images_of_ones_own_may_need_drivers_and_are_of_no_known_size() -> None:
    rest = (
        "amiFamily: AL2023\nuserData: |\n  #!/bin/bash\n  dnf install -y nvidia-driver\n"
        "blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 8Gi, volumeType: gp3, encrypted: true}}]"
    )
    text = node_class(rest).replace("{alias: al2023@v20260801}", "{id: ami-0123456789abcdef0}")
    assert findings(text, "042", "043", "044", "050") == []


def test_windows_has_no_other_image_than_the_latest() -> None:
    assert findings(node_class("", "windows2022@latest"), "042") == []
    assert [path for path, _ in said(node_class("", "bottlerocket@latest"), "042")] == [
        "spec.amiSelectorTerms[0].alias"
    ]


def test_a_volume_that_does_not_say_may_be_encrypted_by_the_account() -> None:
    silent = node_class("blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 50Gi, volumeType: gp3}}]")
    assert [each.severity for each in findings(silent, "051")] == [Severity.INFO]
    assert findings(node_class("amiFamily: AL2023"), "051") == []


def test_without_an_endpoint_there_is_no_hop_and_no_token() -> None:
    text = node_class("metadataOptions: {httpEndpoint: disabled, httpTokens: optional}")
    assert findings(text, "040", "041") == []


def test_an_expired_node_waits_only_where_it_expires() -> None:
    pod = (
        "---\napiVersion: v1\nkind: Pod\n"
        "metadata: {name: p, annotations: {karpenter.sh/do-not-disrupt: 'true'}}\n"
        "spec:\n  tolerations: [{operator: Exists}]\n  containers: [{name: a, image: 'a:1'}]\n"
    )
    text = pool(family("g5"))
    assert [path for path, _ in said(text + pod, "054")] == ["spec.template.spec.terminationGracePeriod"]
    assert said(text.replace("      taints", "      expireAfter: Never\n      taints") + pod, "054") == []
    assert said(text + pod.replace("do-not-disrupt: 'true'", "do-not-disrupt: 'false'"), "054") == []
    auto = text.replace("karpenter.k8s.aws, kind: EC2NodeClass", "eks.amazonaws.com, kind: NodeClass")
    assert auto != text
    assert said(auto + pod, "054") == []  # it ends its nodes after 21 days


# -- what is filled in later, and what is broken --


def test_what_a_template_fills_in_is_not_judged() -> None:
    text = (
        "apiVersion: kro.run/v1alpha1\nkind: ResourceGraphDefinition\nmetadata: {name: g}\nspec:\n"
        "  schema: {apiVersion: v1alpha1, kind: P, spec: {}}\n  resources:\n  - id: p\n    template:\n"
        + "".join(
            f"      {line}\n"
            for line in pool(
                "{key: kubernetes.io/arch, operator: In, values: ['${schema.spec.arch}']}",
                labels="{kubernetes.io/arch: '${schema.spec.arch}'}",
                rest="disruption: {consolidateAfter: 0s, budgets: [{nodes: '1', reasons: ['${schema.spec.reason}']}]}",
            ).splitlines()
        )
    )
    assert [each for each in findings(text) if each.severity is not Severity.INFO and each.rule[-3:] != "034"] == []


JUNK = (None, 1, "x", [], {}, [[]], [{}], ["x", 1], {"a": {"b": [1]}}, float("nan"), "9" * 50)


def test_no_rule_fails_whatever_stands_in_a_place() -> None:
    """Each value of a pool and a node class in turn is something else."""
    whole = [
        *yaml.safe_load_all((HERE / "guide_wrong" / "08-spot-pool.yaml").read_text()),
    ]
    for tree in whole:
        for path in _paths(tree):
            for junk in JUNK:
                changed = _with(tree, path, junk)
                document = Document("a", 0, changed, {path: Position(2, 2)}, {path: Position(2, 1)}, {1: "# 4 GPUs"})
                cluster = Cluster(
                    [Manifest(changed, document), *(_manifest(each) for each in whole if each is not tree)]
                )
                for rule in karpenter.RULES:
                    for problem in rule.check(cluster):
                        assert "\n" not in problem.message


def _manifest(tree: dict[str, Any]) -> Manifest:
    return Manifest(tree, Document("b", 0, tree))


def _paths(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, each in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from _paths(each, (*path, key))


def _with(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(tree)
    place = changed
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return changed
