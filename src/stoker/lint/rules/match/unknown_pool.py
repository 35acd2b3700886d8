"""A pod wants the nodes of a NodePool that is not there.

karpenter.sh/nodepool is the name of the pool that launched a node. No node has the name of a pool that does not exist.

Symptom: Pending with "incompatible requirements, key karpenter.sh/nodepool"

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
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {karpenter.sh/nodepool: gpu-training}
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
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {karpenter.sh/nodepool: serving}
      containers:
      - {name: server, image: "chat:v1"}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/scheduling.md (selecting nodes)
"""

from collections.abc import Iterator

from stoker.catalog.labels import AUTO_MODE, NODE_POOL
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity

_OF_AUTO_MODE = ("general-purpose", "system")
"""Pools that EKS Auto Mode brings along."""


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    if not known.is_whole:
        return
    built_in = _OF_AUTO_MODE if any(pool.view.domain == AUTO_MODE for pool in known.pools) else ()
    for pod in known.pods:
        wanted = [each.get(NODE_POOL) for each in pod.view.requirements]
        names = {name for each in wanted if each is not None and not each.complement for name in each.values}
        if not names or any(each is None or each.complement for each in wanted):
            continue
        if any(name in built_in or cluster.exists("NodePool", name) for name in names):
            continue
        others = ", ".join(sorted(pool.view.name for pool in known.pools))
        yield Problem(
            pod.workload.manifest,
            pod.path_of_label(NODE_POOL),
            f"{pod.workload}: wants a node of the NodePool {' or '.join(sorted(names))}, and none of that name is in "
            "sight, so it is never scheduled",
            hint=f"one of {others}, or exists: [NodePool ...] in the config",
        )


RULE = Rule(
    "STK-MATCH-002",
    Severity.WARNING,
    "A pod wants the nodes of a NodePool that is not there",
    check,
    __name__,
    guide=("R16",),
)
