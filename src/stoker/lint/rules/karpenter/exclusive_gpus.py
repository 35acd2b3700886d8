"""User data allows one process for each GPU.

Compute mode 3 (EXCLUSIVE_PROCESS) is right for a trainer with one rank for each GPU. Whatever shares a GPU fails on
such nodes: time slicing, a second engine, a monitor that opens a context.

Symptom: CUDA error: all CUDA-capable devices are busy or unavailable

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
        nvidia-smi -c 3

Right:

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
        nvidia-smi -pm 1

Source: NVIDIA documentation, nvidia-smi: compute mode
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import commands, node_classes, user_data

_EXCLUSIVE = re.compile(r"nvidia-smi\b.*?(?:\s-c|--compute-mode)[\s=]*(3|EXCLUSIVE_PROCESS)\b")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        if any(_EXCLUSIVE.search(line) for line in commands(user_data(each))):
            yield Problem(
                each,
                ("spec", "userData"),
                "compute mode 3 allows one process for each GPU: nothing that shares a GPU runs on these nodes",
                hint="no compute mode, where anything but one rank for each GPU may run",
            )


RULE = Rule("STK-KARPENTER-046", Severity.INFO, "One process for each GPU", check, __name__, guide=("S20",))
