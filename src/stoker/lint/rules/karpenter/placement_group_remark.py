"""A comment expects a placement group where none is asked for.

No requirement and no subnet puts nodes into a placement group. Since Karpenter 1.14 the EC2NodeClass has
`placementGroupSelector`; every current type has the nitro hypervisor, so a requirement of it changes nothing.

Symptom: nodes of one training job are far from one another; latency is that of any two machines

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      # subnets with a placement group
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      # a placement group of the strategy cluster
      placementGroupSelector: {name: training}

Source: Karpenter documentation, NodeClasses: spec.placementGroupSelector
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import denies, node_class_of, node_classes, pools, remarks
from stoker.manifests.objects import Manifest

_SAID = re.compile(r"\bplacement[ -]?groups?\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        node_class = node_class_of(cluster, pool)
        if node_class is None or not _selects(node_class):
            yield from _said(pool)
    for each in node_classes(cluster):
        if not _selects(each):
            yield from _said(each)


def _selects(node_class: Manifest) -> bool:
    """By the field, or by one that was meant: that it is unknown is another finding."""
    spec = node_class.get("spec")
    return isinstance(spec, dict) and any(str(key).startswith("placementGroup") for key in spec)


def _said(manifest: Manifest) -> Iterator[Problem]:
    for remark in remarks(manifest):
        if _SAID.search(remark.text) and not denies(remark.text):
            yield Problem(
                manifest,
                remark.path,
                "the comment speaks of a placement group: nothing here asks for one, so nodes are in none",
                hint="spec.placementGroupSelector: {name: <group>} in the EC2NodeClass (Karpenter 1.14)",
            )
            break  # once for each object


RULE = Rule(
    "STK-KARPENTER-039", Severity.WARNING, "A placement group that nobody asks for", check, __name__, guide=("S17",)
)
