"""A label of the template against a requirement of the same key.

Both hold: what the label says and the requirement does not allow leaves nothing, and the pool launches no node at all.
What the requirement allows beyond the label is never launched.

Symptom: no instance type satisfied ... (NodePool requirements filtered out all available instance types)

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {kubernetes.io/arch: arm64}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/controllers/provisioning/scheduling/nodeclaimtemplate.go
"""

from collections.abc import Iterator

from stoker.catalog.labels import CAPACITY_TYPE, present_name
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import LABELS, pools, view_of
from stoker.manifests.objects import is_open, texts


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for key, given in texts(pool.get(*LABELS)).items():
            asked = view_of(pool).requirements.get(present_name(key))
            if asked is None or is_open(pool, given):
                continue
            if not asked.allows(given):
                yield Problem(
                    pool,
                    (*LABELS, key),
                    f"{key} is {given} by this label, and {asked} by the requirement: the pool launches no node",
                    hint="the one that is meant, in one of the two places",
                    severity=Severity.ERROR,
                )
            elif not asked.complement and len(asked.values) > 1 and key != CAPACITY_TYPE:
                lost = sorted(asked.values - {given})
                yield Problem(
                    pool,
                    (*LABELS, key),
                    f"the label leaves only {given} of {key}: never {' or '.join(lost)}, which the requirement allows",
                    hint=f"values: [{given}] in the requirement, or no such label",
                )


RULE = Rule("STK-KARPENTER-016", Severity.WARNING, "A label against a requirement", check, __name__)
