"""A label or requirement that a pool may not have.

`karpenter.sh/nodepool` and `kubernetes.io/hostname` are set by others, and the domains of Karpenter are closed but for
the labels that it documents. Those of Kubernetes are open since Karpenter 1.14; before, the pool is refused.

Symptom: label domain "karpenter.sh" is restricted

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {karpenter.sh/team: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {example.com/team: serving}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/apis/v1/labels.go
"""

from collections.abc import Iterator

from stoker.catalog.labels import is_kept_for_kubernetes, why_restricted
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import LABELS, REQUIREMENTS, pools, section, view_of
from stoker.manifests.objects import Manifest, is_open, sections
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for name in section(pool, *LABELS):
            yield from _problems(pool, name, "give", (*LABELS, str(name)), key=True)
        for i, line in sections(pool.get(*REQUIREMENTS)):
            yield from _problems(pool, line.get("key"), "ask for", (*REQUIREMENTS, i, "key"), key=False)


def _problems(pool: Manifest, name: object, verb: str, path: Path, *, key: bool) -> Iterator[Problem]:
    if not isinstance(name, str) or is_open(pool, name):
        return
    why = why_restricted(name, view_of(pool).domain)
    if why is not None:
        yield Problem(
            pool,
            path,
            f"a pool may not {verb} {name}: {why}",
            hint="a label that Karpenter knows, or one in a domain of your own",
            key=key,
            instead_of=LABELS if key else None,
        )
    elif is_kept_for_kubernetes(name):
        yield Problem(
            pool,
            path,
            f"a pool may {verb} {name} since Karpenter 1.14 only: one before refuses the pool",
            hint="a label in a domain of your own",
            key=key,
            severity=Severity.INFO,
        )


RULE = Rule("STK-KARPENTER-017", Severity.ERROR, "A restricted label or requirement", check, __name__)
