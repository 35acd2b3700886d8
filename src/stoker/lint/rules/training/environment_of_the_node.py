"""Variables for training are set on the node, where containers do not see them.

A container has the environment of its image and of its pod. What user data writes to /etc/environment or to a profile
is for people who log in; neither the kubelet nor a container reads it.

Symptom: NCCL settings have no effect, and NCCL_DEBUG prints nothing

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      role: node-role
      amiSelectorTerms: [{alias: al2023@v20260801}]
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        #!/bin/bash
        echo "NCCL_DEBUG=INFO" >> /etc/environment

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        env: [{name: NCCL_DEBUG, value: INFO}]

Source: Kubernetes documentation, tasks/inject-data-application/define-environment-variable-container
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_FILE = re.compile(r"/etc/environment\b|/etc/profile\b|/etc/profile\.d/|\.bashrc\b|\.bash_profile\b")
_NAME = re.compile(r"\b((?:NCCL|FI|CUDA|TORCH|PYTORCH|OMP|HF|UCX|VLLM|GLOO)_[A-Z0-9_]+|LD_LIBRARY_PATH)\s*=")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("EC2NodeClass"):
        text = manifest.get("spec", "userData")
        if not isinstance(text, str) or not _FILE.search(text):
            continue
        names = list(dict.fromkeys(_NAME.findall(text)))
        if names:
            yield Problem(
                manifest,
                ("spec", "userData"),
                f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} set on the node, where no container sees it",
                hint="env of the pods' containers",
            )


RULE = Rule(
    "STK-TRAINING-008",
    Severity.WARNING,
    "Variables for training are set on the node",
    check,
    __name__,
    guide=("R11",),
)
