"""User data in the form of another image family.

Bottlerocket reads TOML and runs no scripts: Karpenter cannot merge a shell script with its settings, and launches no
node. On AL2023 there is no `/etc/eks/bootstrap.sh`; nodeadm sets the node up from a NodeConfig.

Symptom: parsing UserData, invalid character; no node is launched
Symptom: /etc/eks/bootstrap.sh: No such file or directory, in the log of cloud-init

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: bottlerocket@v1.50.0}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        #!/bin/bash
        sysctl -w vm.max_map_count=262144

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: bottlerocket@v1.50.0}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      userData: |
        [settings.kernel.sysctl]
        "vm.max_map_count" = "262144"

Source: Karpenter documentation, NodeClasses: spec.userData
Source: aws/karpenter-provider-aws@v1.14.1 pkg/providers/amifamily/bootstrap/bottlerocket.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import ami_family, commands, node_classes, user_data

_NO_TOML = ("#!", "MIME-Version:", "<powershell>")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        family, script = ami_family(each), user_data(each)
        if family == "bottlerocket" and script.lstrip().startswith(_NO_TOML):
            yield Problem(
                each,
                ("spec", "userData"),
                f"Bottlerocket takes TOML, and this begins with {script.split()[0]}: no node is launched",
                hint="settings in TOML; what a script does belongs in a DaemonSet or a bootstrap container",
                severity=Severity.ERROR,
            )
        elif family == "al2023" and any("/etc/eks/bootstrap.sh" in line for line in commands(script)):
            yield Problem(
                each,
                ("spec", "userData"),
                "AL2023 has no /etc/eks/bootstrap.sh: the line fails, and its settings are lost",
                hint="spec.kubelet, or a NodeConfig in MIME user data",
            )


RULE = Rule("STK-KARPENTER-048", Severity.WARNING, "User data of another image family", check, __name__)
