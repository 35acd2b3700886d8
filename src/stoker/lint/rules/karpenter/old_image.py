"""Images of Amazon Linux 2.

EKS makes none for Kubernetes 1.33 and later, and no more for the versions before since November 2025. On AL2023 nodes
are set up by nodeadm: user data is MIME with a NodeConfig, and `/etc/eks/bootstrap.sh` is not there.

Symptom: no AMIs exist given constraints; EC2NodeClass is not Ready: AMIsReady=False

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2@v20250801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Source: EKS documentation, Amazon Linux 2 AMI deprecation
Source: Karpenter documentation, NodeClasses: spec.amiFamily
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.objects import sections
from stoker.spec.faults import Path

_TERMS = ("spec", "amiSelectorTerms")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        terms = sections(each.get(*_TERMS))
        aliases: list[Path] = [
            (*_TERMS, i, "alias")
            for i, term in terms
            if isinstance(term.get("alias"), str) and term["alias"].partition("@")[0].lower() == "al2"
        ]
        # With images of one's own, the family only says how they are set up.
        by_family = each.get("spec", "amiFamily") == "AL2" and not terms
        for path in [("spec", "amiFamily")] if by_family else aliases:
            yield Problem(
                each,
                path,
                "EKS has no images of Amazon Linux 2 for Kubernetes 1.33 and later: no node is launched there",
                hint="al2023@<version> or bottlerocket@<version>; user data of AL2 does not carry over",
            )


RULE = Rule("STK-KARPENTER-043", Severity.WARNING, "Images of Amazon Linux 2", check, __name__, guide=("W02",))
