"""A tag that Karpenter sets itself.

Karpenter knows its instances by these tags. A node class that sets one is refused.

Symptom: tag contains a restricted tag matching karpenter.sh/nodepool

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      tags: {karpenter.sh/nodepool: serving}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      tags: {team: serving}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.k8s.aws_ec2nodeclasses.yaml, spec.tags
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes, section

_TAGS = ("eks:eks-cluster-name", "karpenter.sh/nodepool", "karpenter.sh/nodeclaim", "karpenter.k8s.aws/ec2nodeclass")
_PREFIX = "kubernetes.io/cluster"


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        for tag in section(each, "spec", "tags"):
            if isinstance(tag, str) and (tag in _TAGS or tag.startswith(_PREFIX)):
                yield Problem(
                    each,
                    ("spec", "tags", tag),
                    f"Karpenter sets the tag {tag} itself: the node class is refused",
                    hint="no such tag; Karpenter's own carry the names of cluster, pool and node class",
                    key=True,
                    instead_of=("spec", "tags"),
                )


RULE = Rule("STK-KARPENTER-052", Severity.ERROR, "A tag that Karpenter sets", check, __name__)
