"""The rules about room: which pods fit which pools, what the limits allow, and what they let be."""

from pathlib import Path

import pytest

from stoker.lint.config import Config
from stoker.lint.rules import fit
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text

HERE = Path(__file__).parent
G5 = "{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}"
GPU_2XLARGE = f"[{G5}, {{key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge]}}]"
M6I = "[{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]"
ZONES = "{key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}"
OWN = frozenset(rule.id for rule in fit.RULES)


def pool(requirements: str = M6I, *, name: str = "serving", labels: str = "{tier: serving}", more: str = "") -> str:
    return f"""
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {{name: {name}}}
spec:
  {more}
  template:
    metadata: {{labels: {labels}}}
    spec:
      requirements: {requirements}
      nodeClassRef: {{group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}}
---
"""


def deployment(
    requests: str, *, replicas: int = 1, name: str = "chat", spec: str = "nodeSelector: {tier: serving}"
) -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: ai}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {spec}
      containers:
      - name: server
        image: chat:v1
        resources: {{requests: {requests}}}
---
"""


def daemon(requests: str, spec: str = "") -> str:
    return deployment(requests, name="agent", spec=spec).replace("kind: Deployment", "kind: DaemonSet")


def said(text: str, only: frozenset[str] = OWN) -> list[tuple[str, str, str]]:
    """Rule, severity and path of each finding of this area."""
    report = lint(read_text(text), Config(only=only))
    return [(finding.rule, finding.severity.value, finding.path) for finding in report.findings]


def messages(text: str, rule: str) -> list[str]:
    return [f"{each.message} -> {each.hint}" for each in lint(read_text(text)).findings if each.rule == rule]


REQUESTS = "spec.template.spec.containers[0].resources.requests"


def test_without_a_pool_in_sight_nothing_is_said_of_room() -> None:
    assert said(deployment("{cpu: 900, memory: 9000Gi, nvidia.com/gpu: 64}")) == []


def test_a_pod_one_thousandth_too_large_is_flagged_and_one_that_fits_exactly_is_not() -> None:
    """7910m of CPU is what pods can have of a g5.2xlarge."""
    too_large = pool(GPU_2XLARGE) + deployment("{cpu: 7911m, memory: 8Gi, nvidia.com/gpu: 1}")
    fits = pool(GPU_2XLARGE) + deployment("{cpu: 7910m, memory: 8Gi, nvidia.com/gpu: 1}")
    assert said(too_large) == [("STK-FIT-001", "error", f"{REQUESTS}.cpu")]
    assert ("STK-FIT-001", "error", f"{REQUESTS}.cpu") not in said(fits)


def test_the_message_says_what_blocks_and_the_hint_which_type_would_do() -> None:
    text = pool(GPU_2XLARGE) + deployment("{cpu: 8, memory: 8Gi, nvidia.com/gpu: 1}")
    assert messages(text, "STK-FIT-001") == [
        "Deployment ai/chat: fits no node of NodePool serving, so it is never scheduled: g5.2xlarge does not do: "
        "cpu: 8 wanted, 7910m there -> g5.4xlarge or g4dn.4xlarge would do: allow it in the pool, or request less"
    ]


def test_a_pod_that_no_label_ties_to_the_pool_may_go_elsewhere() -> None:
    text = pool(GPU_2XLARGE) + deployment("{cpu: 100}", spec="")
    assert said(text) == [("STK-FIT-001", "warning", f"{REQUESTS}.cpu")]


def test_a_second_pool_that_takes_the_pod_is_enough() -> None:
    text = pool(GPU_2XLARGE) + pool(M6I, name="more") + deployment("{cpu: 60, memory: 8Gi}")
    assert "STK-FIT-001" not in {rule for rule, _, _ in said(text)}


def test_only_the_daemons_are_in_the_way() -> None:
    text = pool(GPU_2XLARGE) + deployment("{cpu: 7500m}") + daemon("{cpu: 500m}")
    assert said(text) == [("STK-FIT-004", "error", f"{REQUESTS}.cpu")]
    assert "DaemonSets, which take 500m of cpu of each node" in messages(text, "STK-FIT-004")[0]


def test_a_daemon_that_does_not_run_there_takes_nothing() -> None:
    elsewhere = daemon("{cpu: 500m}", spec="nodeSelector: {tier: other}")
    text = pool(GPU_2XLARGE) + deployment("{cpu: 7500m, nvidia.com/gpu: 1}") + elsewhere
    assert "STK-FIT-004" not in {rule for rule, _, _ in said(text)}


def test_a_limit_below_one_machine_is_the_pool_s_fault() -> None:
    text = pool(GPU_2XLARGE, more='limits: {cpu: "4"}') + deployment("{cpu: 2, nvidia.com/gpu: 1}")
    assert said(text) == [("STK-FIT-005", "error", "spec.limits.cpu")]


def scaler(most: int) -> str:
    return f"""
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: chat, namespace: ai}}
spec:
  scaleTargetRef: {{name: chat}}
  maxReplicaCount: {most}
  triggers: [{{type: cron, metadata: {{timezone: UTC, start: 0 8 * * *, end: 0 9 * * *, desiredReplicas: "2"}}}}]
"""


@pytest.mark.parametrize(("most", "found"), [(32, []), (33, [("STK-FIT-006", "warning", "spec.maxReplicaCount")])])
def test_the_autoscaler_s_maximum_against_the_limit(most: int, found: list[tuple[str, str, str]]) -> None:
    """One GPU a machine, and a limit of 32."""
    limited = pool(GPU_2XLARGE, more="limits: {nvidia.com/gpu: 32}")
    text = limited + deployment("{cpu: 4, memory: 8Gi, nvidia.com/gpu: 1}", replicas=99) + scaler(most)
    assert said(text, frozenset({"STK-FIT-006"})) == found


def test_the_limits_of_two_pools_add_up() -> None:
    """32 and 10: for 40 both are needed, for 43 they are not enough."""
    pools = pool(GPU_2XLARGE, more="limits: {nvidia.com/gpu: 32}")
    pools += pool(GPU_2XLARGE, name="spare", more="limits: {nvidia.com/gpu: 10}")
    pods = deployment("{cpu: 4, memory: 8Gi, nvidia.com/gpu: 1}")
    only = frozenset({"STK-FIT-006"})
    assert said(pools + pods + scaler(40), only) == [("STK-FIT-006", "info", "spec.maxReplicaCount")]
    assert said(pools + pods + scaler(43), only) == [("STK-FIT-006", "warning", "spec.maxReplicaCount")]
    assert "allow 42 together (serving 32, spare 10)" in messages(pools + pods + scaler(43), "STK-FIT-006")[0]


def test_two_workloads_share_a_limit() -> None:
    """Each asks for 36 cores of 64."""
    text = pool(M6I, more='limits: {cpu: "64"}')
    text += deployment("{cpu: 3}", replicas=12) + deployment("{cpu: 3}", replicas=12, name="draw")
    assert said(text, frozenset({"STK-FIT-007"})) == [("STK-FIT-007", "info", "spec.limits.cpu")]


def test_one_type_of_many_is_worse_on_spot() -> None:
    sizes = M6I[:-1] + ", {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}"
    pod = deployment("{cpu: 6, memory: 8Gi}")
    spot = sizes + ", {key: karpenter.sh/capacity-type, operator: In, values: [spot]}]"
    only = frozenset({"STK-FIT-003"})
    assert said(pool(sizes + "]") + pod, only) == [("STK-FIT-003", "info", f"{REQUESTS}.cpu")]
    assert said(pool(spot) + pod, only) == [("STK-FIT-003", "warning", f"{REQUESTS}.cpu")]


def test_the_size_that_fits_nobody_is_pointed_at() -> None:
    sizes = M6I[:-1] + ", {key: karpenter.k8s.aws/instance-size, operator: In, values: [large, xlarge]}]"
    text = pool(sizes) + deployment("{cpu: 3, memory: 8Gi}")
    path = "spec.template.spec.requirements[1].values[0]"
    assert said(text, frozenset({"STK-FIT-008"})) == [("STK-FIT-008", "info", path)]


def test_a_pod_for_a_managed_node_group_is_not_judged() -> None:
    """It wants a label that no pool has: its arch is not these pools' matter."""
    arm = "nodeSelector: {eks.amazonaws.com/nodegroup: arm, kubernetes.io/arch: arm64}"
    assert said(pool() + deployment("{cpu: 1}", spec=arm)) == []


def test_the_zone_of_an_affinity_is_pointed_at() -> None:
    spec = """nodeSelector: {tier: serving}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2c]}"""
    text = pool(f"{M6I[:-1]}, {ZONES}]") + deployment("{cpu: 1}", spec=spec)
    path = (
        "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        ".matchExpressions[0].values"
    )
    assert said(text) == [("STK-FIT-009", "error", path)]


def test_min_domains_above_the_zones_keeps_pods_waiting() -> None:
    spread = """nodeSelector: {tier: serving, topology.kubernetes.io/zone: us-west-2a}
      topologySpreadConstraints:
      - maxSkew: 1
        minDomains: 2
        topologyKey: topology.kubernetes.io/zone
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: chat}}"""
    text = pool(f"{M6I[:-1]}, {ZONES}]") + deployment("{cpu: 1}", replicas=2, spec=spread)
    path = "spec.template.spec.topologySpreadConstraints[0].minDomains"
    assert said(text) == [("STK-FIT-016", "error", path)]


def test_gpus_shared_by_a_node_overlay_are_not_counted() -> None:
    """Four pods a GPU: what the type has is not what the node says it has."""
    overlay = """
apiVersion: karpenter.sh/v1alpha1
kind: NodeOverlay
metadata: {name: slices}
spec:
  requirements: [{key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["1"]}]
  capacity: {nvidia.com/gpu: 4}
"""
    text = pool(GPU_2XLARGE) + deployment("{cpu: 1, nvidia.com/gpu: 4}")
    assert said(text) == [("STK-FIT-001", "error", f'{REQUESTS}."nvidia.com/gpu"')]
    assert said(text + overlay) == []


def test_pods_that_kueue_places_are_not_judged() -> None:
    job = """
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: ai, labels: {kueue.x-k8s.io/queue-name: gpus}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: train, image: "train:v1", resources: {requests: {cpu: 900}}}]
"""
    assert said(pool() + job) == []
    assert said(pool() + job.replace("kueue.x-k8s.io/queue-name", "queue")) != []


def test_what_a_workflow_says_for_all_templates_counts() -> None:
    workflow = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: run, namespace: ai}
spec:
  entrypoint: work
  nodeSelector: {tier: serving}
  templates:
  - name: work
    container: {image: "work:v1", resources: {requests: {cpu: 8}}}
"""
    path = "spec.templates[0].container.resources.requests.cpu"
    assert said(pool(GPU_2XLARGE) + workflow, frozenset({"STK-FIT-001"})) == [("STK-FIT-001", "error", path)]


def test_the_guide_s_faults_are_found_where_they_stand() -> None:
    report = lint(read([str(HERE / "guide_wrong")]), Config(only=OWN))
    entries = {rule.id: rule.guide for rule in fit.RULES}
    found = {(each.rule, each.object, each.path) for each in report.findings if entries[each.rule]}
    job, chat = "PyTorchJob training/finetune", "Deployment ai/chat"
    cpu = "template.spec.containers[0].resources.requests.cpu"
    master, worker = (f"spec.pytorchReplicaSpecs.{role}.{cpu}" for role in ("Master", "Worker"))
    general = "Deployment ai/general"
    assert found == {
        ("STK-FIT-002", chat, f"spec.{cpu}"),
        ("STK-FIT-002", job, master),
        ("STK-FIT-002", job, worker),
        ("STK-FIT-003", general, f"{REQUESTS}.memory"),
        ("STK-FIT-003", job, master),
        ("STK-FIT-003", job, worker),
        ("STK-FIT-006", "ScaledObject ai/chat", "spec.maxReplicaCount"),
        ("STK-FIT-008", "NodePool general", "spec.template.spec.requirements[1].values[0]"),
        ("STK-FIT-008", "NodePool serving-spot", "spec.template.spec.requirements[1].values[0]"),
        ("STK-FIT-008", "NodePool serving-spot", "spec.template.spec.requirements[1].values[1]"),
        *(
            ("STK-FIT-008", "NodePool training", f"spec.template.spec.requirements[{place}]")
            for place in ("0].values[0", "0].values[2", "1].values[0", "1].values[1")
        ),
    }


def test_the_corrected_forms_have_room() -> None:
    report = lint(read([str(HERE / "guide_right")]), Config(only=OWN))
    assert {each.severity.value for each in report.findings} == {"info"}


def test_small_pods_share_machines_and_miss_none() -> None:
    """One core is all of a medium machine; a pod that large shares a larger one."""
    broad = "[{key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m, r]}]"
    only = frozenset({"STK-FIT-002"})
    assert said(pool(broad) + deployment("{cpu: 1}"), only) == []
    assert said(pool(broad) + deployment("{cpu: 16, memory: 8Gi}"), only) == [
        ("STK-FIT-002", "info", f"{REQUESTS}.cpu")
    ]


def test_no_gpus_anywhere_is_said_once() -> None:
    gpu = deployment("{cpu: 1, nvidia.com/gpu: 1}", spec="")
    tied = deployment("{cpu: 1, nvidia.com/gpu: 1}")
    path = f'{REQUESTS}."nvidia.com/gpu"'
    assert said(pool() + gpu) == [("STK-FIT-013", "warning", path)]
    assert said(pool() + tied) == [("STK-FIT-001", "error", path)]


def test_a_gpu_count_that_no_type_of_the_pool_has_is_said_once() -> None:
    """g5 has 1, 4 or 8 GPUs."""
    two = 'nodeSelector: {tier: serving, karpenter.k8s.aws/instance-gpu-count: "2"}'
    path = 'spec.template.spec.nodeSelector."karpenter.k8s.aws/instance-gpu-count"'
    assert said(pool(f"[{G5}]") + deployment("{cpu: 1}", spec=two)) == [("STK-FIT-010", "error", path)]
