"""A label that cancels the fall-back from spot to on-demand.

Labels of a pool's template become requirements, and those of one key are intersected. With the label `spot`, a
requirement that allows spot and on-demand allows spot alone: when there is no spot capacity, no node comes.

Symptom: pods stay Pending during a shortage of spot capacity although the pool allows on-demand

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {karpenter.sh/capacity-type: spot}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/provisioning/scheduling/nodeclaimtemplate.go
"""

from collections.abc import Iterator

from stoker.catalog.labels import CAPACITY_TYPE
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import LABELS, label_at, pools, section, view_of
from stoker.manifests.edits import Remove
from stoker.manifests.objects import is_open

_PATH = (*LABELS, CAPACITY_TYPE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        given = label_at(pool, CAPACITY_TYPE)
        asked = view_of(pool).requirements.get(CAPACITY_TYPE)
        if not given or asked is None or is_open(pool, given) or not asked.allows(given):
            continue
        lost = sorted(asked.values - {given})
        if asked.complement or not lost:
            continue
        alone = len(section(pool, *LABELS)) == 1
        yield Problem(
            pool,
            _PATH,
            f"the label leaves only {given} of the capacity types asked for: {' and '.join(lost)} are never launched"
            if len(lost) > 1
            else f"the label leaves only {given} of the capacity types asked for: {lost[0]} is never launched",
            hint="no such label: each node gets it by itself",
            key=True,
            edits=(Remove(LABELS if alone else _PATH),),
        )


RULE = Rule(
    "STK-KARPENTER-015", Severity.WARNING, "A label that cancels the fall-back", check, __name__, guide=("S03",)
)
