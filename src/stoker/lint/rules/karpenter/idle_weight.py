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

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import own_labels, pools, view_of
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import Manifest
from stoker.policy.placement import PodView, runs_on
from stoker.policy.taints import BLOCKING


def check(cluster: Cluster) -> Iterator[Problem]:
    every = [each for each in pools(cluster) if isinstance(each.get("spec", "template", "spec"), dict)]
    weighed = [each for each in every if isinstance(each.get("spec", "weight"), int)]
    if len(every) < 2 or not weighed or any(each.templated for each in every):
        return
    pods = [pod_view(each) for each in cluster.workloads]
    for pool in weighed:
        if all(_apart(pool, other, pods) for other in every if other.name != pool.name):
            yield Problem(
                pool,
                ("spec", "weight"),
                "the weight decides nothing: no other pool here takes the pods that this one takes",
                hint="no weight",
            )


def _apart(a: Manifest, b: Manifest, pods: list[PodView]) -> bool:
    """Whether no pod of these manifests goes to both, and labels and taints show that none is to."""
    ours, theirs = own_labels(a), own_labels(b)
    labelled = any(theirs.get(key, value) != value for key, value in ours.items())
    taints = [{(t.key, t.value) for t in view_of(each).taints if t.effect in BLOCKING} for each in (a, b)]
    return (
        labelled
        and bool(taints[0] and taints[1])
        and not any(runs_on(pod, view_of(a)) and runs_on(pod, view_of(b)) for pod in pods)
    )


RULE = Rule("STK-KARPENTER-030", Severity.INFO, "A weight that decides nothing", check, __name__, guide=("S11",))
