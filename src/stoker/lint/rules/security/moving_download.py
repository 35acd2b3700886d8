"""A node fetches whatever is the latest at its boot.

Two nodes of one pool then differ, and a bad release of the vendor breaks every node that comes from that hour on, while
nothing of yours has changed.

Symptom: new nodes do not join since last night, the old ones are fine

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: node
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: a}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: a}}]
      userData: |
        #!/bin/bash
        curl -O https://efa-installer.amazonaws.com/aws-efa-installer-latest.tar.gz

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: node
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: a}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: a}}]
      userData: |
        #!/bin/bash
        curl -O https://efa-installer.amazonaws.com/aws-efa-installer-1.43.0.tar.gz

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/tasks/managing-amis.md
Source: guide-errors W07
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_FETCHED = re.compile(r"https?://[^\s\"']*(?:[-_./]latest\b|:latest\b|/(?:master|main)/)[^\s\"']*")
_METADATA = "169.254.169.254"  # /latest/ is its only path that anybody uses


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("EC2NodeClass"):
        script = manifest.get("spec", "userData")
        found = [url for url in _FETCHED.findall(script) if _METADATA not in url] if isinstance(script, str) else []
        if found:
            yield Problem(
                manifest,
                ("spec", "userData"),
                f"each node fetches {found[0]} at boot: what that is changes without you",
                hint="the address of one version, or an AMI that has it",
            )


RULE = Rule(
    "STK-SECURITY-008",
    Severity.WARNING,
    "A node fetches whatever is the latest at its boot",
    check,
    __name__,
    guide=("W07",),
)
