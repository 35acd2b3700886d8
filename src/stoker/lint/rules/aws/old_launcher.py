"""A Batch job starts PyTorch by torch.distributed.launch.

The module is deprecated: torchrun has its options, sets the ranks in the environment, and starts again what failed.

Symptom: FutureWarning: The module torch.distributed.launch is deprecated

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: container
      containerProperties:
        image: registry.example.com/trainer:1.0
        command: [python, -m, torch.distributed.launch, --nproc_per_node=8, train.py]

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
            command: [torchrun, --nproc_per_node=8, train.py]
            resources:
              requests: {cpu: 4, memory: 16Gi}
              limits: {memory: 16Gi}

Source: PyTorch documentation, torch.distributed.launch
Source: guide-errors W05
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, ranges


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for each in ranges(manifest):
            for path, text in each.command():
                if "torch.distributed.launch" in text:
                    yield Problem(
                        manifest,
                        path,
                        "torch.distributed.launch is deprecated",
                        hint="torchrun, with the same options (--use_env is its default)",
                    )


RULE = Rule(
    "STK-AWS-008",
    Severity.WARNING,
    "A Batch job starts PyTorch by torch.distributed.launch",
    check,
    __name__,
    guide=("W05",),
)
