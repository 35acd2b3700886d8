"""The newest image, whichever it is.

With `@latest` each new image of AWS drifts every node of the pool, on the day it comes out and untested. A pinned
version changes when the file does.

Symptom: all nodes are replaced on a day when nobody changed anything

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@latest}]
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

Source: Karpenter documentation, tasks: managing AMIs
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.objects import sections

_TERMS = ("spec", "amiSelectorTerms")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        for i, term in sections(each.get(*_TERMS)):
            alias = term.get("alias")
            family, _, version = alias.partition("@") if isinstance(alias, str) else ("", "", "")
            # Of Windows there is no other version.
            if version == "latest" and not family.lower().startswith("windows"):
                yield Problem(
                    each,
                    (*_TERMS, i, "alias"),
                    f"{alias} follows each new image: every node drifts the day one comes out",
                    hint=f"{family}@<version>",
                )


RULE = Rule("STK-KARPENTER-042", Severity.WARNING, "An image that is not pinned", check, __name__, guide=("W07",))
