"""Volumes of a Batch job stand beside the container.

They are a member of the container's properties. Beside it they are unknown, and the mount points refer to nothing.

Symptom: the registration is refused: a mount point names a volume that is not defined

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: multinode
      nodeProperties:
        nodeRangeProperties:
        - targetNodes: "0:"
          container:
            image: registry.example.com/trainer:1.0
            mountPoints: [{sourceVolume: data, containerPath: /data}]
          volumes:
          - {name: data, host: {sourcePath: /data}}

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: finetune}
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: trainer
            image: registry.example.com/trainer:1.0
            resources:
              requests: {cpu: 4, memory: 16Gi}
              limits: {memory: 16Gi}
            volumeMounts: [{name: data, mountPath: /data}]
          volumes:
          - {name: data, emptyDir: {}}

Source: AWS Batch API reference, ContainerProperties
Source: guide-errors E16
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, ranges


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for each in ranges(manifest):
            for key in ("volumes", "mountPoints", "linuxParameters", "environment", "resourceRequirements"):
                if key in each.tree:
                    inside = each.container_path[-1]
                    yield Problem(
                        manifest,
                        (*each.path, key),
                        f"{key} stands beside {inside}, where Batch does not know it",
                        hint=f"{key} under {inside}",
                        key=True,
                    )


RULE = Rule(
    "STK-AWS-003",
    Severity.ERROR,
    "Volumes of a Batch job stand beside the container",
    check,
    __name__,
    guide=("E16",),
)
