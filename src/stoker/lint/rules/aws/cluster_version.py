"""A version of Kubernetes that EKS does not support any more, or only at a price.

After standard support (14 months) a cluster costs six times as much per hour, after extended support (12 more) AWS
upgrades the control plane by itself, at a time that it chooses, and no new cluster can have that version.

Symptom: the cluster is not created, its version is not supported; or a bill for extended support

Wrong:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Cluster
    metadata: {name: prod}
    spec:
      name: prod
      version: "1.30"
      roleARN: arn:aws:iam::111122223333:role/cluster
      resourcesVPCConfig: {subnetIDs: [subnet-1, subnet-2]}

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Cluster
    metadata: {name: prod}
    spec:
      name: prod
      version: "1.35"
      roleARN: arn:aws:iam::111122223333:role/cluster
      resourcesVPCConfig: {subnetIDs: [subnet-1, subnet-2]}

Source: awsdocs/amazon-eks-user-guide latest/ug/versioning/kubernetes-versions.adoc
Source: guide-errors W03
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._versions import LAST_ENDED, LAST_EXTENDED, SUPPORT, minor


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Cluster", group="eks.services.k8s.aws"):
        version = minor(manifest.get("spec", "version"))
        if version is None or version > LAST_EXTENDED:
            continue
        standard, extended = SUPPORT.get(version, ("", ""))
        if version <= LAST_ENDED:
            ended = f" on {extended}" if extended else ""
            message = (
                f"support of 1.{version} ended{ended}: AWS upgrades such clusters by itself, and makes no new ones"
            )
        else:
            message = f"standard support of 1.{version} ended on {standard}: until {extended} it costs more each hour"
        yield Problem(
            manifest,
            ("spec", "version"),
            message,
            hint=f'"1.{LAST_EXTENDED + 2}", one minor after the other for a cluster that runs',
            severity=None if version <= LAST_ENDED else Severity.INFO,
        )


RULE = Rule(
    "STK-AWS-011",
    Severity.WARNING,
    "A version of Kubernetes that EKS does not support any more, or only at a price",
    check,
    __name__,
    guide=("W03",),
)
