"""More pods are asked for than the limits of the pools allow.

The pools that a pod may run on stop launching when their limits are reached; what the autoscaler asks for beyond that
waits, at the very hour of the highest load. Where one pool alone is enough and another is not, it depends on which of
them is there.

Symptom: Pending pods at peak; "all available instance types exceed limits for nodepool"
Symptom: the HPA stands at its maximum and the number of ready replicas does not

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      limits: {cpu: "64"}
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 50
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      limits: {cpu: "256"}
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 50
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/nodepools.md (spec.limits)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if not pod.most or pod.most_in is None or not known.fits(pod):
            continue
        pools = known.allowing(pod)
        if all(known.has_room(pod, pool, pod.most) for pool in pools):
            continue
        held = {pool: known.most_pods(pod, pool) for pool in pools}
        counted = {pool: n for pool, n in held.items() if n is not None}
        each_said = ", ".join(f"{pool.view.name} {n}" for pool, n in counted.items())
        total = sum(counted.values())
        if len(counted) == len(held) and total < pod.most:
            together = " together" if len(counted) > 1 else ""
            yield Problem(
                pod.most_in,
                pod.most_at,
                f"{pod.most} pods of {pod.workload}, and the limits of its pools allow {total}{together} ({each_said}):"
                " the others wait",
                hint=f"at most {total}, or higher limits",
            )
            continue
        short = {pool: n for pool, n in counted.items() if 0 < n < pod.most}
        if short:
            least = min(short, key=lambda pool: short[pool])
            yield Problem(
                pod.most_in,
                pod.most_at,
                f"{pod.most} pods of {pod.workload} need more than one pool: {least} alone allows {short[least]} "
                "by its limits",
                hint=f"keep the other pools deployed, or at most {short[least]}",
                severity=Severity.INFO,
            )


RULE = Rule(
    "STK-FIT-006",
    Severity.WARNING,
    "More pods are asked for than the limits of the pools allow",
    check,
    __name__,
    guide=("S24",),
)
