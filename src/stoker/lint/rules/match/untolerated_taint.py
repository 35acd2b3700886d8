"""A pod selects a pool whose taint it does not tolerate.

A selector says where a pod wants to go, a toleration where it is let in. For a pool with taints both are needed; with
the selector alone the pod is refused there and wanted nowhere else.

Symptom: Pending with "did not tolerate taint"

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
          taints: [{key: tier, value: serving, effect: NoSchedule}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {tier: serving}
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
          taints: [{key: tier, value: serving, effect: NoSchedule}]
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {tier: serving}
      tolerations: [{key: tier, value: serving, effect: NoSchedule}]
      containers:
      - {name: server, image: "chat:v1"}

Source: Kubernetes documentation, Taints and Tolerations
"""

from collections.abc import Iterator

from stoker.catalog.labels import NODE_POOL
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import ARGO, Fleet, Pod, fleet
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Add
from stoker.manifests.node_pools import pod_view
from stoker.policy.taints import Taint, untolerated


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    daemons = [
        Pod(each, pod_view(each)) for each in cluster.workloads_like(["DaemonSet"]) if not each.manifest.templated
    ]
    for pod in (*known.pods, *(daemons if known.pools else ())):
        against = taints_of_meant(known, pod)
        if not against:
            continue
        pool, taints = min(against, key=lambda each: len(each[1]))
        at = (*pod.workload.path, "tolerations")
        why = "selects" if known.tied(pod) else "needs"
        yield Problem(
            pod.workload.manifest,
            at,
            f"{pod.workload}: {why} {pool} and does not tolerate its taint{'s' if len(taints) > 1 else ''} "
            f"{', '.join(str(each) for each in taints)}, so it is never scheduled there",
            hint="; ".join(_written(each) for each in taints),
            severity=Severity.ERROR if is_sure(known, pod, taints) else Severity.WARNING,
            # Of a template of a Workflow they would take the place of those that the Workflow has for all.
            edits=additions(pod, taints) if is_sure(known, pod, taints) and pod.workload.kind not in ARGO else (),
        )


def taints_of_meant(known: Fleet, pod: Pod) -> list[tuple[Pool, tuple[Taint, ...]]]:
    """The pools that the pod is meant for by label or device, and whose taints alone keep it off; none where one of
    them lets it on, or where it may go elsewhere."""
    if known.allowing(pod):
        return []
    found = [(pool, untolerated(pool.view.taints, pod.view.tolerations)) for pool in known.meant(pod)]
    if any(not taints for _, taints in found):
        return []
    return found


def is_sure(known: Fleet, pod: Pod, taints: tuple[Taint, ...]) -> bool:
    """Whether the pod is for this pool and no other nodes: it names the pool, asks for its devices, or selects by the
    label that is tainted. Another label may be one that nodes out of sight have too."""
    keys = {key for each in pod.view.requirements for key in each}
    named = NODE_POOL in keys or bool(pod.devices) or any(each.key in keys for each in taints)
    return named and bool(known.tied(pod))


def additions(pod: Pod, taints: tuple[Taint, ...]) -> list[Add]:
    """The tolerations that are missing, after those that are written."""
    at = (*pod.workload.path, "tolerations")
    written = pod.workload.manifest.get(*at)
    missing = [
        {"key": each.key, **({"value": each.value} if each.value else {"operator": "Exists"}), "effect": each.effect}
        for each in taints
    ]
    if written is None:
        return [Add(at, missing)]
    return [Add((*at, len(written) + i), each) for i, each in enumerate(missing)] if isinstance(written, list) else []


def _written(taint: Taint) -> str:
    value = f"value: {taint.value}" if taint.value else "operator: Exists"
    return f"tolerations: {{key: {taint.key}, {value}, effect: {taint.effect}}}"


RULE = Rule(
    "STK-MATCH-004",
    Severity.ERROR,
    "A pod selects a pool whose taint it does not tolerate",
    check,
    __name__,
    guide=("R16",),
)
