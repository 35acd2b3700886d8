"""An EC2NodeClass that selects no image.

v1 requires `amiSelectorTerms`. In v1beta1 `amiFamily` alone selected the latest image of its family; now the version
is to be said, so that a new image does not replace all nodes by surprise. For a v1beta1 object `--fix` writes the
latest, which is what it meant.

Symptom: spec.amiSelectorTerms: Required value

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiFamily: AL2023
      role: nodes
      subnetSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}
      securityGroupSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms:
      - alias: al2023@v20260801
      role: nodes
      subnetSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}
      securityGroupSelectorTerms:
      - tags: {karpenter.sh/discovery: atelier}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.k8s.aws_ec2nodeclasses.yaml
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.edits import Add

_PATH = ("spec", "amiSelectorTerms")
_ALIASES = {
    "AL2": "al2023@<version>",
    "AL2023": "al2023@<version>",
    "Bottlerocket": "bottlerocket@<version>",
    "Windows2019": "windows2019@latest",
    "Windows2022": "windows2022@latest",
    "Windows2025": "windows2025@latest",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for each in node_classes(cluster):
        if not isinstance(each.get("spec"), dict) or each.get(*_PATH) is not None:
            continue
        found = each.get("spec", "amiFamily")
        family = found if isinstance(found, str) else ""
        alias = _ALIASES.get(family)
        said = f"amiFamily {family} alone selects none: " if family else ""
        yield Problem(
            each,
            _PATH,
            f"v1 requires amiSelectorTerms; {said}the node class is refused",
            hint=f"amiSelectorTerms: [{{alias: {alias}}}]" if alias else "amiSelectorTerms: an id, tags or an alias",
            edits=(Add(_PATH, [{"alias": f"{family.lower()}@latest"}]),) if alias and each.version == "v1beta1" else (),
        )


RULE = Rule("STK-KARPENTER-010", Severity.ERROR, "A node class without an image", check, __name__, guide=("E07",))
