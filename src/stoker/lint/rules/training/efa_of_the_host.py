"""The host's EFA software is mounted over that of the image.

A `hostPath` of /opt/amazon/efa puts the node's libfabric where the image has its own. What is on the node depends on
its image and on how the installer was called: with `--minimal` there is a driver and no libfabric, and the mount
hides the one that would have worked. The devices come by the resource `vpc.amazonaws.com/efa`; libraries belong into
the image.

Symptom: "fi_getinfo: No data available", or NCCL that does not find libfabric.so
Symptom: works on one AMI and not on the next

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        volumeMounts: [{name: efa, mountPath: /opt/amazon/efa}]
      volumes:
      - name: efa
        hostPath: {path: /opt/amazon/efa}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train-with-efa:v1

Source: awsdocs/amazon-eks-user-guide@main latest/ug/ml/node-efa.adoc
Source: Amazon EC2 user guide, EFA (installer options)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look, sections

_PATHS = ("/opt/amazon/efa", "/opt/amazon/openmpi", "/opt/amazon/ofi-nccl", "/opt/aws-ofi-nccl")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for i, volume in sections(workload.spec.get("volumes")):
            path = look(volume, "hostPath", "path")
            if isinstance(path, str) and (path.startswith(_PATHS) or path.rstrip("/") == "/opt/amazon"):
                yield Problem(
                    workload.manifest,
                    (*workload.path, "volumes", i, "hostPath", "path"),
                    f"{path} of the node hides what the image has there: NCCL finds another libfabric, or none",
                    hint="libfabric and aws-ofi-nccl in the image, and no hostPath",
                )


RULE = Rule(
    "STK-TRAINING-004",
    Severity.WARNING,
    "The host's EFA software is mounted over that of the image",
    check,
    __name__,
    guide=("R14",),
)
