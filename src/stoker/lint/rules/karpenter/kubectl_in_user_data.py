"""User data calls kubectl.

It runs on each node at each boot, before the node has joined. The EKS images have no kubectl, and the role of a node
may not create what is applied: the line fails on every node, and what it was to install is never there.

Symptom: kubectl: command not found, in the log of cloud-init
Symptom: the DaemonSet that user data was to apply does not exist

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        #!/bin/bash
        kubectl apply -f https://example.com/daemonset.yaml

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Source: EKS documentation, node IAM role: AmazonEKSWorkerNodePolicy
Source: kubernetes documentation, node authorization
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import commands, node_classes, user_data

_CALL = re.compile(r"(?:^|[\s;&|(`/])kubectl\s+(?:-\S+\s+)*[a-z]+")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        call = next((match[0] for line in commands(user_data(each)) if (match := _CALL.search(line))), None)
        if call is not None:
            yield Problem(
                each,
                ("spec", "userData"),
                f"user data calls {call.strip(' ;&|(`/')}: the images have no kubectl, and a node may not do this",
                hint="install it once, from outside the nodes",
            )


RULE = Rule("STK-KARPENTER-045", Severity.WARNING, "kubectl in user data", check, __name__, guide=("R08",))
