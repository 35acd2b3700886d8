"""User data installs GPU drivers over those of the image.

For types with GPUs Karpenter takes the accelerated image of the family, which has driver, container toolkit and
persistence daemon. Installing others makes each node minutes slower to come up, and a second driver may leave it with
none that loads.

Symptom: Failed to initialize NVML: Driver/library version mismatch
Symptom: GPU nodes take minutes longer to be ready

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
        dnf install -y nvidia-driver-latest-dkms

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Source: aws/karpenter-provider-aws@v1.14.1 pkg/providers/amifamily/al2.go, al2023.go
Source: EKS documentation, accelerated AMIs
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import ami_family, commands, has_own_images, listed, node_classes, user_data

_THINGS = (
    r"nvidia-(?:driver|dkms|open|gpgpu|container-toolkit|docker)\S*|kmod-nvidia\S*|cuda-drivers?\S*"
    r"|NVIDIA-Linux-\S+\.run|nvidia-dcgm|datacenter-gpu-manager\S*|aws-neuronx?-dkms\S*"
)
_INSTALLS = re.compile(
    rf"(?:\binstall\b|\brpm\b|\bdpkg\b|\bsh\b|\./|\bcurl\b|\bwget\b|\bsystemctl\s+(?:enable|start|restart)\b).*?({_THINGS})"
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        if ami_family(each) not in ("al2", "al2023", "bottlerocket") or has_own_images(each):
            continue
        found = [match[1] for line in commands(user_data(each)) for match in _INSTALLS.finditer(line)]
        if found:
            yield Problem(
                each,
                ("spec", "userData"),
                f"it installs or starts {listed(dict.fromkeys(found))}: the image for GPU types has its own driver",
                hint="no such lines",
            )


RULE = Rule("STK-KARPENTER-044", Severity.WARNING, "Drivers in user data", check, __name__, guide=("S05",))
