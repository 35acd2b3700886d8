"""A pod tolerates a taint that no pool has.

It does nothing. Often the key or the value is misspelt, and the taint that was meant is not tolerated.

Symptom: Pending with "did not tolerate taint", though a toleration is written

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
      tolerations: [{key: tier, value: serving}, {key: teir, value: serving}]
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
      tolerations: [{key: tier, value: serving}]
      containers:
      - {name: server, image: "chat:v1"}

Source: Kubernetes documentation, Taints and Tolerations
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet, holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._labels import is_of_system
from stoker.manifests.objects import look, sections
from stoker.policy.taints import Taint


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    if not known.pools or not known.is_whole:
        return
    taints = [taint for pool in known.pools for taint in (*pool.view.taints, *_startup(pool.manifest.data))]
    for workload in cluster.workloads:
        for i, each in sections(workload.manifest.get(*workload.path, "tolerations")):
            key, value = each.get("key"), each.get("value", "")
            if not isinstance(key, str) or not key or is_of_system(key) or holds_open(workload.manifest, [key, value]):
                continue
            of_key = sorted({taint.value for taint in taints if taint.key == key})
            if not of_key:
                said, hint = (
                    f"tolerates the taint {key}, which no NodePool in sight has",
                    "leave it out, or mend the key",
                )
            elif each.get("operator", "Equal") == "Equal" and value not in of_key:
                values = ", ".join(of_key) or "no value"
                said = f"tolerates {key}={value}, and the NodePools in sight have it with {values}"
                hint = f"value: {of_key[0]}"
            else:
                continue
            yield Problem(
                workload.manifest, (*workload.path, "tolerations", i), f"{workload}: {said}: it does nothing", hint=hint
            )


def _startup(pool: dict[str, object]) -> list[Taint]:
    """Taints that a node has only at first; agents tolerate them."""
    found = sections(look(pool, "spec", "template", "spec", "startupTaints"))
    return [Taint(str(each.get("key")), str(each.get("value", ""))) for _, each in found]


RULE = Rule("STK-MATCH-006", Severity.INFO, "A pod tolerates a taint that no pool has", check, __name__)
