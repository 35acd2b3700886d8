"""A label or requirement that a pool may not have.

`karpenter.sh/nodepool` and `kubernetes.io/hostname` are set by others. The domains of Karpenter are closed but for the
labels that it documents. Those of Kubernetes are checked when Karpenter reads the pool: the pool is then not ready.

Symptom: label domain "karpenter.sh" is restricted
Symptom: NodePool is not Ready: ValidationSucceeded=False

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata:
          labels: {node-role.kubernetes.io/serving: "true"}
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
          labels: {example.com/serving: "true"}
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/apis/v1/labels.go
"""

from collections.abc import Iterator

from stoker.catalog.labels import why_restricted
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import LABELS, REQUIREMENTS, is_open, pools, section, view_of
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        domain = view_of(pool).domain
        for key in section(pool, *LABELS):
            why = why_restricted(key, domain) if isinstance(key, str) and not is_open(pool, key) else None
            if why is not None:
                yield Problem(
                    pool,
                    (*LABELS, key),
                    f"a pool may not give the label {key}: {why}",
                    hint="a label in a domain of your own",
                    key=True,
                )
        for i, line in sections(pool.get(*REQUIREMENTS)):
            asked = line.get("key")
            why = why_restricted(asked, domain) if isinstance(asked, str) and not is_open(pool, asked) else None
            if why is not None:
                yield Problem(
                    pool,
                    (*REQUIREMENTS, i, "key"),
                    f"a pool may not ask for {asked}: {why}",
                    hint="a label that Karpenter knows, or one in a domain of your own",
                )


RULE = Rule("STK-KARPENTER-017", Severity.ERROR, "A restricted label or requirement", check, __name__)
