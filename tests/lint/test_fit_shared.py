"""What several rules of fit take into account, each shown by what changes without it."""

import pytest

from stoker.lint.cluster import Cluster
from stoker.lint.run import lint
from stoker.manifests.node_pools import requests_of
from stoker.manifests.reading import read_text

POOL = """\
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: general}
spec:
  limits: {cpu: "4"}
  template:
    spec:
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: general}
      requirements:
      - {key: node.kubernetes.io/instance-type, operator: In, values: [g6.xlarge]}
      taints:
      - {key: team, value: ai, effect: NoSchedule}
---
"""
PODS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{key: team, operator: Exists}]
      containers:
      - {name: web, image: "web:1.0", resources: {requests: {cpu: 1900m, memory: 1Gi}}}
---
"""
AGENT = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      tolerations: [{operator: Exists}]
      containers:
      - {name: agent, image: "agent:1.0", resources: {requests: {cpu: 500m, memory: 64Mi}}}
---
"""


def _found(text: str, rule: str) -> list[str]:
    return [finding.object for finding in lint(read_text(text)).findings if finding.rule == rule]


def test_what_daemons_take_counts_against_what_the_limits_allow() -> None:
    """3920m are allocatable: two pods of 1900m, and one beside an agent of 500m."""
    assert _found(POOL + PODS, "STK-FIT-006") == []
    assert _found(POOL + PODS + AGENT, "STK-FIT-006") == ["Deployment web"]


def test_a_scaled_object_without_a_maximum_asks_for_a_hundred() -> None:
    scaler = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web}
spec:
  scaleTargetRef: {name: web}
  triggers:
  - {type: cpu, metricType: Utilization, metadata: {value: "60"}}
"""
    assert _found(POOL + PODS + scaler, "STK-FIT-006") == ["ScaledObject web"]


def test_the_place_is_the_container_that_asks_for_the_most() -> None:
    large = "      initContainers:\n      - {name: load, image: 'a:1', resources: {requests: {cpu: 9, memory: 1Gi}}}\n"
    text = POOL + PODS.replace("      containers:\n", large + "      containers:\n")
    found = [finding.path for finding in lint(read_text(text)).findings if finding.rule == "STK-FIT-001"]
    assert found == ["spec.template.spec.initContainers[0].resources.requests.cpu"]


@pytest.mark.parametrize(("where", "found"), [("spec", []), ("nowhere", ["Workflow train"])])
def test_what_a_workflow_says_for_all_its_templates_counts_for_each(where: str, found: list[str]) -> None:
    tolerations = "  tolerations: [{key: team, operator: Exists}]\n" if where == "spec" else ""
    text = f"""\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {{name: train}}
spec:
  entrypoint: main
{tolerations}  templates:
  - name: main
    nodeSelector: {{karpenter.sh/nodepool: general}}
    container: {{image: "train:1.0", resources: {{requests: {{cpu: "1", memory: 1Gi}}}}}}
"""
    assert _found(POOL + text, "STK-MATCH-004") == found


def test_the_overhead_of_a_pod_is_part_of_its_requests() -> None:
    text = PODS.replace("      containers:\n", "      overhead: {cpu: 250m}\n      containers:\n")
    (workload,) = Cluster(read_text(text).manifests).workloads
    assert requests_of(workload)["cpu"] == 2150


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{key: team, operator: NotIn, values: [ai]}", ["Pod probe"]),
        ("{key: team, operator: DoesNotExist}", ["Pod probe"]),
        ("{key: team, operator: NotIn, values: [other]}", []),
        ("{key: squad, operator: DoesNotExist}", []),
    ],
)
def test_an_affinity_that_denies_what_every_pool_gives(line: str, found: list[str]) -> None:
    pool = POOL.replace(
        "    spec:\n      nodeClassRef", "    metadata: {labels: {team: ai}}\n    spec:\n      nodeClassRef"
    )
    required = (
        f"requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchExpressions: [{line}]}}]}}"
    )
    pod = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: probe}}
spec:
  affinity: {{nodeAffinity: {{{required}}}}}
  tolerations: [{{key: team, operator: Exists}}]
  containers:
  - {{name: probe, image: "probe:1.0", resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}}}
"""
    assert _found(pool + pod, "STK-MATCH-001") == found
