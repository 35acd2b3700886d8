"""What NodePools and PodDisruptionBudgets say about taking nodes and pods away."""

from typing import Any

import pytest

from stoker.manifests.disruptions import budgets_of, disruption_of, policy_of
from stoker.manifests.objects import Manifest
from stoker.manifests.reading import read_text
from stoker.policy.cluster import Budget, Disruption, DisruptionBudget
from stoker.policy.requirements import of_labels

OWN = "karpenter.k8s.aws"
AUTO = "eks.amazonaws.com"


def manifest(text: str) -> Manifest:
    (found,) = read_text(text).manifests
    return found


def node_pool(disruption: str = "", node: str = "", group: str = OWN, version: str = "v1") -> Disruption:
    return disruption_of(the_pool(disruption, node, group, version))


def the_pool(disruption: str = "", node: str = "", group: str = OWN, version: str = "v1") -> Manifest:
    return manifest(
        f"apiVersion: karpenter.sh/{version}\nkind: NodePool\nmetadata: {{name: serving}}\nspec:\n"
        f"  template: {{spec: {{nodeClassRef: {{group: {group}, kind: NodeClass, name: a}}, {node}}}}}\n"
        f"  disruption: {{{disruption}}}\n"
    )


def test_karpenters_defaults() -> None:
    assert node_pool() == Disruption(
        policy="WhenEmptyOrUnderutilized",
        consolidate_after_s=0.0,
        budgets=(Budget(10, is_percent=True),),
        expire_after_s=720 * 3600.0,
        termination_grace_s=None,
    )
    bare = manifest("apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: a}")
    assert disruption_of(bare) == Disruption()


def test_the_defaults_of_auto_mode() -> None:
    found = node_pool(group=AUTO)
    assert (found.expire_after_s, found.termination_grace_s) == (336 * 3600.0, 24 * 3600.0)
    written = node_pool(group=AUTO, node="expireAfter: 48h, terminationGracePeriod: 30m")
    assert (written.expire_after_s, written.termination_grace_s) == (48 * 3600.0, 1800.0)


def test_what_is_written_counts() -> None:
    found = node_pool(
        'consolidationPolicy: WhenEmpty, consolidateAfter: 1h30m, budgets: [{nodes: "5"}, '
        '{nodes: "0%", schedule: "0 9 * * mon-fri", duration: 8h30m, reasons: [Underutilized, Drifted]}]',
        "expireAfter: 240h, terminationGracePeriod: 90s",
    )
    assert found == Disruption(
        policy="WhenEmpty",
        consolidate_after_s=5400.0,
        budgets=(
            Budget(5),
            Budget(0, True, ("Underutilized", "Drifted"), "0 9 * * mon-fri", 30_600.0),
        ),
        expire_after_s=864_000.0,
        termination_grace_s=90.0,
    )


def test_never() -> None:
    found = node_pool("consolidateAfter: Never", "expireAfter: Never")
    assert (found.consolidate_after_s, found.expire_after_s) == (None, None)


def test_in_v1_expire_after_is_of_the_nodes_and_in_v1beta1_of_the_pool() -> None:
    old = "consolidationPolicy: WhenUnderutilized, expireAfter: 12h"
    assert node_pool(old, version="v1beta1").expire_after_s == 12 * 3600.0
    assert node_pool(old, version="v1").expire_after_s == 720 * 3600.0
    assert node_pool(old, version="v1beta1").policy == "WhenEmptyOrUnderutilized"
    assert node_pool("expireAfter: Never", version="v1beta1").expire_after_s is None


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("WhenEmpty", "WhenEmpty"),
        ("Balanced", "Balanced"),
        ("WhenUnderutilized", "WhenEmptyOrUnderutilized"),
        ("Whenever", "WhenEmptyOrUnderutilized"),
        ("[]", "WhenEmptyOrUnderutilized"),
    ],
)
def test_policies(written: str, policy: str) -> None:
    assert policy_of(the_pool(f"consolidationPolicy: {written}")) == policy


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("1h30m", 5400.0),
        ("100ms", 0.1),
        ("0s", 0.0),
        ("soon", 0.0),
        ("-5s", 0.0),
        ("5", 0.0),
        ("[1]", 0.0),
    ],
)
def test_durations(written: str, seconds: float) -> None:
    """What the API server would refuse counts as not written."""
    assert node_pool(f"consolidateAfter: {written}").consolidate_after_s == seconds


@pytest.mark.parametrize(
    ("written", "budgets"),
    [
        ("[]", ()),
        ("{}", (Budget(10, is_percent=True),)),
        ('[{nodes: "0"}]', (Budget(0),)),
        ("[{nodes: 3}]", (Budget(3),)),
        ('[{nodes: "100%"}]', (Budget(100, is_percent=True),)),
        ('[{nodes: "101%"}, {nodes: "1"}]', (Budget(1),)),
        ('[{nodes: "-1"}]', ()),
        ("[{nodes: true}]", ()),
        ('[{reasons: [Empty], nodes: "2"}]', (Budget(2, reasons=("Empty",)),)),
        ("[{reasons: [Drifted]}]", (Budget(10, is_percent=True, reasons=("Drifted",)),)),
        ('[{nodes: "1", schedule: "@daily", duration: 10m}]', (Budget(1, schedule="@daily", duration_s=600.0),)),
        ('[{nodes: "1", schedule: "@daily"}]', ()),
        ('[{nodes: "1", duration: 10m}]', ()),
        ('[{nodes: "1", schedule: 5, duration: 10m}]', ()),
    ],
)
def test_budgets(written: str, budgets: tuple[Budget, ...]) -> None:
    assert node_pool(f"budgets: {written}").budgets == budgets


def pdb(spec: str, namespace: str = "") -> DisruptionBudget:
    where = f", namespace: {namespace}" if namespace else ""
    return budgets_of(
        manifest(f"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: llm{where}}}\nspec: {{{spec}}}")
    )


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [
        ("minAvailable: 2", (2, None, False)),
        ("maxUnavailable: 1", (None, 1, False)),
        ("maxUnavailable: 0", (None, 0, False)),
        ("minAvailable: 50%", (50, None, True)),
        ('maxUnavailable: "25%"', (None, 25, True)),
        ("maxUnavailable: 1, minAvailable: 50%", (None, 1, False)),
        ("", (None, None, False)),
        ("minAvailable: -1", (None, None, False)),
        ("minAvailable: true", (None, None, False)),
    ],
)
def test_how_many_pods_may_be_away(spec: str, numbers: tuple[Any, ...]) -> None:
    found = pdb(f"{spec}{', ' if spec else ''}selector: {{matchLabels: {{app: llm}}}}")
    assert (found.min_available, found.max_unavailable, found.is_percent) == numbers
    assert (found.name, found.namespace, found.selector) == ("llm", "default", of_labels({"app": "llm"}))


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("selector: {}", ["", "llm", "web"]),
        ("selector: {matchLabels: {app: llm}}", ["llm"]),
        ("selector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", ["", "llm"]),
        ("selector: {matchExpressions: [{key: app, operator: Exists}]}", ["llm", "web"]),
        ("selector: {matchExpressions: [{key: app, operator: Exists}], matchLabels: {app: web}}", ["web"]),
        ("selector: {matchExpressions: [{key: app, operator: Like, values: [w]}]}", []),
        ("selector: {matchExpressions: [{key: app, operator: In, values: 1}]}", []),
        ("maxUnavailable: 1", []),
    ],
)
def test_which_pods_a_budget_is_about(selector: str, selected: list[str]) -> None:
    found = pdb(selector, namespace="ai")
    labels = {"": {}, "llm": {"app": "llm"}, "web": {"app": "web"}}
    about = [
        name for name, own in labels.items() if all(each.allows(own.get(key)) for key, each in found.selector.items())
    ]
    assert about == selected
    assert found.namespace == "ai"
