"""A claim asks for an access mode that its class cannot give.

EBS volumes are attached to one machine: a file system on them is ReadWriteOnce. A claim for ReadWriteMany of such a
class is never bound.

Symptom: ProvisioningFailed: only AccessMode SINGLE_NODE_WRITER is supported

Wrong:

    apiVersion: storage.k8s.io/v1
    kind: StorageClass
    metadata: {name: fast}
    provisioner: ebs.csi.aws.com
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: fast
      accessModes: [ReadWriteMany]
      resources: {requests: {storage: 100Gi}}

Right:

    apiVersion: storage.k8s.io/v1
    kind: StorageClass
    metadata: {name: fast}
    provisioner: ebs.csi.aws.com
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: fast
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 100Gi}}

Source: kubernetes-sigs/aws-ebs-csi-driver docs (access modes; multi-attach is for block volumes)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_OF_EBS = ("ebs.csi.aws.com", "ebs.csi.eks.amazonaws.com", "kubernetes.io/aws-ebs")
_MANY = ("ReadWriteMany", "ReadOnlyMany")


def check(cluster: Cluster) -> Iterator[Problem]:
    classes = {
        each.name: each.get("provisioner")
        for each in cluster.of("StorageClass", group="storage.k8s.io")
        if not each.templated
    }
    for claim in cluster.of("PersistentVolumeClaim", group=""):
        name, modes = claim.get("spec", "storageClassName"), claim.get("spec", "accessModes")
        if not isinstance(name, str) or classes.get(name) not in _OF_EBS or not isinstance(modes, list):
            continue
        for i, mode in enumerate(modes):
            if mode in _MANY and claim.get("spec", "volumeMode") != "Block" and claim.get("spec", "dataSource") is None:
                yield Problem(
                    claim,
                    ("spec", "accessModes", i),
                    f"{mode} of the class {name}, which is EBS: no volume is ever made",
                    hint="ReadWriteOnce; for many nodes a class of EFS or FSx for Lustre",
                )


RULE = Rule(
    "STK-MATCH-031", Severity.ERROR, "A claim asks for an access mode that its class cannot give", check, __name__
)
