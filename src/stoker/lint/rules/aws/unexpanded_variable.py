"""A variable in a Batch command is not filled in.

A command that is a list is run as it is: no shell reads it, so $NAME is passed on as these letters. The variables of
Batch exist only in the container.

Symptom: error: argument --node_rank: invalid int value: '$AWS_BATCH_JOB_NODE_INDEX'

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: container
      containerProperties:
        image: registry.example.com/trainer:1.0
        command: [torchrun, --node_rank=$AWS_BATCH_JOB_NODE_INDEX, train.py]

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: finetune}
    spec:
      completionMode: Indexed
      completions: 2
      parallelism: 2
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: trainer
            image: registry.example.com/trainer:1.0
            command: [sh, -c, "exec torchrun --node_rank=$JOB_COMPLETION_INDEX train.py"]
            resources:
              requests: {cpu: 4, memory: 16Gi}
              limits: {memory: 16Gi}

Source: AWS Batch user guide, Job environment variables
Source: guide-errors E18
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, ranges

_VARIABLE = re.compile(r"\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")
_SHELLS = ("sh", "bash", "ash", "zsh", "dash")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for each in ranges(manifest):
            command = each.command()
            if command and command[0][1].rpartition("/")[2] in _SHELLS:
                continue
            for path, text in command:
                match = _VARIABLE.search(text)
                if match:
                    yield Problem(
                        manifest,
                        path,
                        f"no shell reads this command: {match[0]} is passed on as these letters",
                        hint='command: [sh, -c, "exec ..."]',
                    )


RULE = Rule(
    "STK-AWS-006",
    Severity.ERROR,
    "A variable in a Batch command is not filled in",
    check,
    __name__,
    guide=("E18",),
)
