"""A Batch container says its size in the old fields.

`vcpus` and `memory` are deprecated in favour of resourceRequirements, and Fargate does not take them at all.

Symptom: on Fargate the registration is refused; elsewhere none, until the fields go

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: container
      containerProperties:
        image: registry.example.com/trainer:1.0
        vcpus: 4
        memory: 16384

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

Source: AWS Batch API reference, ContainerProperties: vcpus, memory
Source: guide-errors E17
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, ranges

_TYPES = {"vcpus": "VCPU", "memory": "MEMORY"}


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for each in ranges(manifest):
            for key, kind in _TYPES.items():
                if key in each.container:
                    unit = " (MiB)" if key == "memory" else ""
                    yield Problem(
                        manifest,
                        (*each.container_path, key),
                        f"{key} is deprecated, and Fargate does not take it",
                        hint=f'resourceRequirements: [{{type: {kind}, value: "{each.container[key]}"}}]{unit}',
                        key=True,
                    )


RULE = Rule(
    "STK-AWS-004",
    Severity.WARNING,
    "A Batch container says its size in the old fields",
    check,
    __name__,
    guide=("E17",),
)
