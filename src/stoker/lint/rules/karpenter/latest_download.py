"""User data downloads whatever is the latest.

Two nodes that come up on different days have different software, and a release that breaks something breaks each new
node from then on, while the old ones go on to work.

Symptom: new nodes fail where those of yesterday work

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        #!/bin/bash
        curl -O https://efa-installer.amazonaws.com/aws-efa-installer-latest.tar.gz

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        #!/bin/bash
        curl -O https://efa-installer.amazonaws.com/aws-efa-installer-1.38.0.tar.gz

Source: EC2 documentation, EFA: install the software (versions are listed)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import commands, node_classes, user_data

_LATEST = re.compile(r"(?:https?|s3)://[^\s\"']*\blatest\b[^\s\"']*", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        found = dict.fromkeys(url for line in commands(user_data(each)) for url in _LATEST.findall(line))
        for url in found:
            yield Problem(
                each,
                ("spec", "userData"),
                f"user data loads {url}: nodes of different days get different software",
                hint="a version in the address, or an image that has it",
            )


RULE = Rule("STK-KARPENTER-047", Severity.WARNING, "User data loads the latest", check, __name__, guide=("W07",))
