"""A claim names a storage class that is not in sight.

A PersistentVolumeClaim whose class does not exist stays Pending, and its pods with it. A cluster of EKS has gp2 from
the start, and no other.

Symptom: ProvisioningFailed: storageclass.storage.k8s.io "efs" not found

Wrong:

    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: efs
      accessModes: [ReadWriteMany]
      resources: {requests: {storage: 100Gi}}

Right:

    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: efs
      accessModes: [ReadWriteMany]
      resources: {requests: {storage: 100Gi}}
    ---
    apiVersion: storage.k8s.io/v1
    kind: StorageClass
    metadata: {name: efs}
    provisioner: efs.csi.aws.com

Source: Kubernetes documentation, Storage Classes
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing, named
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    hint = "a StorageClass of this name, or exists: [StorageClass ...] in the config"
    found = _named(cluster)
    yield from missing(cluster, "StorageClass", found, "no volume is made", hint, known=("gp2",), most=Severity.INFO)


def _named(cluster: Cluster) -> Iterator[Reference]:
    for claim in cluster.of("PersistentVolumeClaim", group=""):
        # A claim of a volume that is named, too, is bound by that name: its class need not exist.
        if claim.get("spec", "volumeName") is None:
            yield from named(claim, ("spec", "storageClassName"))
    for each in cluster.of("StatefulSet", group="apps"):
        for i, _ in sections(each.get("spec", "volumeClaimTemplates")):
            yield from named(each, ("spec", "volumeClaimTemplates", i, "spec", "storageClassName"))


RULE = Rule("STK-MATCH-017", Severity.INFO, "A claim names a storage class that is not in sight", check, __name__)
