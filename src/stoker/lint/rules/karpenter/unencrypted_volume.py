"""A node's volume is not encrypted.

Without `blockDeviceMappings` Karpenter encrypts the root. With a mapping it passes on what is written: a volume
without `encrypted: true` is encrypted only where the account does so by default. Pods leave models, prompts and
answers on it.

Symptom: a security scan finds unencrypted volumes on nodes

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
        ebs: {volumeSize: 100Gi, volumeType: gp3, encrypted: false}

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

Source: aws/karpenter-provider-aws@v1.14.1 pkg/providers/amifamily: the default block device
Source: EBS documentation, encryption by default
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.objects import sections

_MAPPINGS = ("spec", "blockDeviceMappings")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        for i, mapping in sections(each.get(*_MAPPINGS)):
            ebs = mapping.get("ebs")
            if not isinstance(ebs, dict) or ebs.get("encrypted", False) is not False:
                continue
            said = "encrypted" in ebs
            yield Problem(
                each,
                (*_MAPPINGS, i, "ebs", "encrypted"),
                f"volume {mapping.get('deviceName', i)} is not encrypted"
                + ("" if said else ", unless the account does so by default"),
                hint="encrypted: true",
                severity=None if said else Severity.INFO,
            )


RULE = Rule("STK-KARPENTER-051", Severity.WARNING, "An unencrypted volume", check, __name__)
