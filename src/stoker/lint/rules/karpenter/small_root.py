"""A root volume smaller than the image.

The EKS images of Amazon Linux are made for a root of 20 GiB: EC2 refuses to make a smaller volume of their snapshot.
Room for container images comes on top; an engine's image alone is about as large.

Symptom: InvalidBlockDeviceMapping: Volume of size 5GB is smaller than snapshot, expect size >= 20GB

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      blockDeviceMappings:
      - deviceName: /dev/xvda
        ebs: {volumeSize: 5Gi, volumeType: gp3, encrypted: true}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      blockDeviceMappings:
      - deviceName: /dev/xvda
        ebs: {volumeSize: 100Gi, volumeType: gp3, encrypted: true}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/providers/amifamily/al2023.go: the default root of 20Gi
Source: aws/karpenter-provider-aws issues 3302 and 7928: what EC2 answers to a volume below the snapshot
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import ami_family, has_own_images, node_classes
from stoker.manifests.objects import look, sections
from stoker.manifests.quantities import bytes_of

_MAPPINGS = ("spec", "blockDeviceMappings")
_LEAST_GIB = 20


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        if ami_family(each) not in ("al2", "al2023") or has_own_images(each):
            continue
        for i, mapping in sections(each.get(*_MAPPINGS)):
            size = look(mapping, "ebs", "volumeSize")
            try:
                small = mapping.get("deviceName") == "/dev/xvda" and bytes_of(size) < _LEAST_GIB * 2**30
            except ValueError:
                continue
            if small:
                yield Problem(
                    each,
                    (*_MAPPINGS, i, "ebs", "volumeSize"),
                    f"{size} is less than the image's root of {_LEAST_GIB}Gi: EC2 makes no such volume",
                    hint=f"volumeSize: {_LEAST_GIB}Gi at least, and room for container images",
                )


RULE = Rule("STK-KARPENTER-050", Severity.WARNING, "A root volume smaller than the image", check, __name__)
