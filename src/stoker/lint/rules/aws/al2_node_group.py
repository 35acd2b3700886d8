"""A node group with Amazon Linux 2.

EKS 1.32 is the last version with AMIs of Amazon Linux 2. On 1.33 and later the node group is refused; before, it gets
no more new AMIs.

Symptom: the node group is not created, or not upgraded: its AMI type is not supported for the version

Wrong:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Nodegroup
    metadata: {name: gpu}
    spec:
      name: gpu
      clusterName: prod
      nodeRole: arn:aws:iam::111122223333:role/node
      amiType: AL2_x86_64_GPU

Right:

    apiVersion: eks.services.k8s.aws/v1alpha1
    kind: Nodegroup
    metadata: {name: gpu}
    spec:
      name: gpu
      clusterName: prod
      nodeRole: arn:aws:iam::111122223333:role/node
      amiType: AL2023_x86_64_NVIDIA

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/nodeclasses.md
Source: guide-errors W02
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._versions import minor
from stoker.manifests.edits import Replace

_RIGHT = {
    "AL2_x86_64": "AL2023_x86_64_STANDARD",
    "AL2_x86_64_GPU": "AL2023_x86_64_NVIDIA",
    "AL2_ARM_64": "AL2023_ARM_64_STANDARD",
}
_LAST = 32


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Nodegroup", group="eks.services.k8s.aws"):
        ami = manifest.get("spec", "amiType")
        right = _RIGHT.get(ami) if isinstance(ami, str) else None
        if right is None:
            continue
        version = minor(manifest.get("spec", "version"))
        refused = version is not None and version > _LAST
        yield Problem(
            manifest,
            ("spec", "amiType"),
            f"{ami}: EKS 1.{_LAST} is the last version with Amazon Linux 2"
            + (f", and this is 1.{version}: it is refused" if refused else ""),
            hint=f"{right}, with user data of nodeadm where there is any",
            severity=Severity.ERROR if refused else None,
            # What runs at boot is written differently: only without it is the change safe.
            edits=() if manifest.get("spec", "launchTemplate") is not None else (Replace(("spec", "amiType"), right),),
        )


RULE = Rule("STK-AWS-010", Severity.WARNING, "A node group with Amazon Linux 2", check, __name__, guide=("W02",))
