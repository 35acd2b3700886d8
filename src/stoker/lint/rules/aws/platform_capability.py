"""EFA is no platform capability of AWS Batch.

The list takes EC2 or FARGATE. EFA comes to a container by its devices (/dev/infiniband/uverbs0 and so on, in
linuxParameters.devices) and to the instance by a launch template with EFA interfaces.

Symptom: the registration is refused, with platformCapabilities in the message

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: container
      platformCapabilities: [EC2, EFA]

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
              requests: {cpu: 4, memory: 16Gi, vpc.amazonaws.com/efa: 1}
              limits: {memory: 16Gi, vpc.amazonaws.com/efa: 1}

Source: AWS Batch API reference, RegisterJobDefinition
Source: guide-errors E15
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions

_KNOWN = ("EC2", "FARGATE")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        named = manifest.get("spec", "platformCapabilities")
        for i, each in enumerate(named if isinstance(named, list) else ()):
            if isinstance(each, str) and each not in _KNOWN:
                yield Problem(
                    manifest,
                    ("spec", "platformCapabilities", i),
                    f"{each} is no platform capability: the job definition is refused",
                    hint="EC2; for EFA linuxParameters.devices (/dev/infiniband/uverbs*) and a launch template"
                    if each == "EFA"
                    else "EC2 or FARGATE",
                )


RULE = Rule(
    "STK-AWS-002", Severity.ERROR, "EFA is no platform capability of AWS Batch", check, __name__, guide=("E15",)
)
