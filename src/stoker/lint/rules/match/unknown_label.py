"""A pod wants a node label that no pool gives.

Karpenter launches a node only if the labels that a pod asks for come from the pool: from its template's labels, its
requirements, or those that Karpenter knows of the instance. A label of your own that no pool gives, or a value that
none gives, matches no node that will ever be.

Symptom: Pending with "incompatible requirements, label \"tier\" does not have known values"

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
      nodeSelector: {tier: batch}
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
      nodeSelector: {tier: serving}
      containers:
      - {name: server, image: "chat:v1"}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/scheduling/requirements.go (labels that a pool must give)
"""

from collections.abc import Iterator

from stoker.catalog.labels import NODE_POOL
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import Fleet, fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._labels import is_known, is_set_later, labels_of_node_groups
from stoker.policy.requirements import Requirement


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    if not known.is_whole:
        return
    groups = set(labels_of_node_groups(cluster))
    for pod in known.pods:
        if known.allowing(pod) or not pod.view.requirements:
            continue
        first, *others = pod.view.requirements
        for key, wanted in first.items():
            asked = [wanted, *(each[key] for each in others if key in each)]
            if len(asked) <= len(others) or key == NODE_POOL or is_known(key) or is_set_later(key):
                continue
            if key in groups or any(_is_given(known, each) for each in asked):
                continue
            given = sorted(_values(known, key))
            said = f": they give {', '.join(given[:6])}" if given else " label"
            yield Problem(
                pod.workload.manifest,
                pod.path_of_label(key),
                f"{pod.workload}: wants a node with {key} {wanted}, and no NodePool in sight gives that"
                f"{said}; it waits, unless other nodes have it",
                hint=f"{key}: {given[0]}" if len(given) == 1 else "a label that a pool's template gives",
            )


def _is_given(known: Fleet, wanted: Requirement) -> bool:
    for pool in known.pools:
        offered = pool.view.offered.get(wanted.key)
        if wanted.absent if offered is None else not wanted.intersect(offered).is_empty:
            return True
    return False


def _values(known: Fleet, key: str) -> set[str]:
    return {
        value
        for pool in known.pools
        if (offered := pool.view.offered.get(key)) is not None and not offered.complement
        for value in offered.values
    }


RULE = Rule(
    "STK-MATCH-001", Severity.WARNING, "A pod wants a node label that no pool gives", check, __name__, guide=("R16",)
)
