"""The instance metadata is open to requests without a token.

With `httpTokens: optional`, one GET that an attacker makes a pod send (a URL that the pod fetches for them) returns
the credentials of the node's role. With a token required, as by default, such a request fails.

Symptom: a security scan finds IMDSv1 enabled

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      metadataOptions: {httpTokens: optional, httpPutResponseHopLimit: 1}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      metadataOptions: {httpTokens: required, httpPutResponseHopLimit: 1}

Source: EC2 documentation, instance metadata: IMDSv2
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes

_OPTIONS = ("spec", "metadataOptions")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        if each.get(*_OPTIONS, "httpTokens") == "optional" and each.get(*_OPTIONS, "httpEndpoint") != "disabled":
            yield Problem(
                each,
                (*_OPTIONS, "httpTokens"),
                "IMDSv1 is allowed: one request without a token returns the credentials of the node's role",
                hint="httpTokens: required",
            )


RULE = Rule("STK-KARPENTER-041", Severity.WARNING, "IMDSv1 is allowed", check, __name__)
