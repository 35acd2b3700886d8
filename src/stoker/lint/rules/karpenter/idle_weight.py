"""A weight that decides nothing.

A weight matters where several pools could make the node of one pod. These pools keep their pods apart, by labels of
different values and by taints, so each pod has one pool, whatever the weights.

Symptom: changing the weight changes nothing

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          taints: [{key: example.com/for, value: serving, effect: NoSchedule}]
      weight: 10
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        metadata:
          labels: {example.com/for: training}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}
          taints: [{key: example.com/for, value: training, effect: NoSchedule}]

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          taints: [{key: example.com/for, value: serving, effect: NoSchedule}]
      weight: 10
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving-more}
    spec:
      template:
        metadata:
          labels: {example.com/for: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: a}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g6]}
          taints: [{key: example.com/for, value: serving, effect: NoSchedule}]

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/provisioning/scheduling/scheduler.go
"""

from collections import Counter
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import NODE, own_labels, pools, view_of
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import Manifest
from stoker.policy.placement import PodView, runs_on
from stoker.policy.taints import BLOCKING


def check(cluster: Cluster) -> Iterator[Problem]:
    every = [each for each in pools(cluster) if isinstance(each.get(*NODE), dict)]
    weighed = [each for each in every if isinstance(each.get("spec", "weight"), int)]
    if len(every) < 2 or not weighed or any(each.templated or not _is_tainted(each) for each in every):
        return
    given = Counter(item for each in every for item in own_labels(each).items())
    keys = Counter(key for each in every for key in own_labels(each))
    pods = [pod_view(each) for each in cluster.workloads]
    for pool in weighed:
        # A label that each pool gives, this one with a value of its own.
        apart = [key for key, value in own_labels(pool).items() if keys[key] == len(every) and given[key, value] == 1]
        if apart and not any(_goes_elsewhere(pod, pool, every) for pod in pods if not _asks_for(pod, apart)):
            yield Problem(
                pool,
                ("spec", "weight"),
                "the weight decides nothing: no other pool here takes the pods that this one takes",
                hint="no weight",
            )


def _is_tainted(pool: Manifest) -> bool:
    return any(each.effect in BLOCKING for each in view_of(pool).taints)


def _asks_for(pod: PodView, keys: list[str]) -> bool:
    """Whether the pod names one value of one of these labels: it then has one pool at most."""
    return all(
        any(key in asked and not asked[key].complement and len(asked[key].values) == 1 for key in keys)
        for asked in pod.requirements
    )


def _goes_elsewhere(pod: PodView, pool: Manifest, every: list[Manifest]) -> bool:
    return runs_on(pod, view_of(pool)) and any(runs_on(pod, view_of(each)) for each in every if each is not pool)


RULE = Rule("STK-KARPENTER-030", Severity.INFO, "A weight that decides nothing", check, __name__, guide=("S11",))
