"""Several pods share a volume that one node at a time can have.

An EBS volume is attached to one machine, in one zone. A second pod on another machine cannot mount it, and in another
zone it cannot even be scheduled. What is shared needs ReadWriteMany: EFS, FSx for Lustre, or objects through the S3
driver. What is not shared needs a volume for each pod: a StatefulSet, or an ephemeral volume.

Symptom: FailedAttachVolume: Multi-Attach error for volume
Symptom: Pending with "had volume node affinity conflict"

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          volumes: [{name: weights, persistentVolumeClaim: {claimName: weights}}]
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: gp3
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 100Gi}}

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          volumes: [{name: weights, persistentVolumeClaim: {claimName: weights}}]
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: weights, namespace: ai}
    spec:
      storageClassName: efs
      accessModes: [ReadWriteMany]
      resources: {requests: {storage: 100Gi}}

Source: Kubernetes documentation, Persistent Volumes (access modes)
Source: Amazon EBS user guide, attach an Amazon EBS volume to an instance
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open, most_of, scalers
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import PodSpec, claims
from stoker.manifests.objects import Manifest, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_SHARED = ("ReadWriteMany", "ReadOnlyMany")
_OVER_THE_NETWORK = ("efs", "fsx", "nfs", "s3")
_OF_A_DAEMON = 2  # at least: one on each node
_APART = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def check(cluster: Cluster) -> Iterator[Problem]:
    known = scalers(cluster)
    users: dict[tuple[str, str], list[tuple[Workload, Path, int]]] = defaultdict(list)
    for workload in cluster.workloads:
        most, _, _ = most_of(workload, known)
        for each in claims(PodSpec(workload.manifest, workload.path, str(workload))):
            if not holds_open(workload.manifest, each.name):
                pods = _OF_A_DAEMON if workload.kind == "DaemonSet" else most or 1
                users[each.namespace, each.name].append((workload, each.path, pods))
    for (namespace, name), found in users.items():
        claim = cluster.find("PersistentVolumeClaim", name, namespace or None)
        pods = sum(n for _, _, n in found)
        if pods < 2 or (claim is not None and (claim.templated or _may_be_shared(cluster, claim))):
            continue
        workload, path, most = max(found, key=lambda each: each[2])
        apart = next((key for each, _, _ in found for key in _APART if is_spread(each, key)), None)
        many = "the" if workload.kind == "DaemonSet" else str(most)
        who = f"{many} pods of {workload}" if len(found) == 1 else f"the pods of {len(found)} workloads"
        mode = "ReadWriteOnce" if claim is not None else "ReadWriteOnce, if its class is EBS (it is not in sight)"
        spread = f", and they are to be spread by {apart}" if apart else ""
        yield Problem(
            workload.manifest,
            path,
            f"{who} mount the claim {name}, which is {mode}: one node at a time has it{spread}, so the others wait",
            hint="a claim with ReadWriteMany (EFS, FSx for Lustre), or a volume for each pod",
            # Single pods of several workloads may take turns, as a job that fills it and a server that reads it.
            severity=Severity.INFO if apart is None and (claim is None or most == 1) else None,
        )


def _may_be_shared(cluster: Cluster, claim: Manifest) -> bool:
    """By its access modes; or by a class of files over the network, which are attached to no machine."""
    modes, name = claim.get("spec", "accessModes"), claim.get("spec", "storageClassName")
    if not isinstance(modes, list) or any(each in _SHARED for each in modes):
        return True
    made_by = cluster.find("StorageClass", name) if isinstance(name, str) else None
    said = f"{made_by.get('provisioner')}" if made_by is not None else str(name)
    return any(each in said for each in _OVER_THE_NETWORK)


def is_spread(workload: Workload, key: str) -> bool:
    """Whether its pods must not be together in one of these."""
    return any(
        each.get("topologyKey") == key and each.get("whenUnsatisfiable") == "DoNotSchedule"
        for _, each in sections(workload.spec.get("topologySpreadConstraints"))
    )


RULE = Rule(
    "STK-MATCH-030",
    Severity.WARNING,
    "Several pods share a volume that one node at a time can have",
    check,
    __name__,
    guide=("R02",),
)
