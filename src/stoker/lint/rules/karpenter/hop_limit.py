"""Containers do not reach the instance metadata by default.

v1 sets `httpPutResponseHopLimit` to 1, v1beta1 had 2. With 1, the answer does not get into a container that is not on
the host's network: what reads the metadata there (a spot notice, the region, the credentials of the node) gets nothing
after the move to v1.

Symptom: no EC2 IMDS role found; a request to 169.254.169.254 times out in a pod

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
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
      metadataOptions: {httpTokens: required, httpPutResponseHopLimit: 1}

Source: aws/karpenter-provider-aws@v1.14.1 and @v0.37.8 pkg/apis/crds: the defaults
Source: Karpenter documentation, v1 migration
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.edits import Add

_OPTIONS = ("spec", "metadataOptions")
_PATH = (*_OPTIONS, "httpPutResponseHopLimit")


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what keeps v1beta1's default, whatever the version of the object."""
    for each in node_classes(cluster):
        off = each.get(*_OPTIONS, "httpEndpoint") == "disabled"
        if off or not isinstance(each.get("spec"), dict) or each.get(*_PATH) is not None:
            continue
        if each.version == "v1beta1":
            yield Problem(
                each,
                _PATH,
                "the default hop limit is 2 in v1beta1 and 1 in v1: with the move containers lose the metadata",
                hint="httpPutResponseHopLimit: 1 with Pod Identity for the pods; 2 if they must reach it",
                severity=Severity.WARNING,
                edits=(Add(_PATH, 2),),
            )
        else:
            yield Problem(
                each,
                _PATH,
                "the hop limit is 1 by default: containers off the host's network do not reach the instance metadata",
                hint="httpPutResponseHopLimit: 1, to say that it is meant; 2 if pods must reach it",
            )


RULE = Rule("STK-KARPENTER-040", Severity.INFO, "The hop limit is left to the default", check, __name__, guide=("R20",))
