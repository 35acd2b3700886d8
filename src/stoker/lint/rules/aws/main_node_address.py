"""The main node of a Batch job asks for its own address in a variable that it does not have.

AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS is set on the other nodes only. The main node gets an empty address, and
the group never forms.

Symptom: the main node waits for the others until the timeout, with master_addr empty

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: multinode
      nodeProperties:
        numNodes: 2
        mainNode: 0
        nodeRangeProperties:
        - targetNodes: "0:"
          container:
            image: registry.example.com/trainer:1.0
            command: [sh, -c, "torchrun --master_addr=$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS train.py"]

Right:

    apiVersion: trainer.kubeflow.org/v1alpha1
    kind: TrainJob
    metadata: {name: finetune}
    spec:
      runtimeRef: {apiGroup: trainer.kubeflow.org, kind: ClusterTrainingRuntime, name: torch-distributed}
      trainer: {numNodes: 2}

Source: AWS Batch user guide, Multi-node parallel jobs: environment variables
Source: guide-errors E18
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, includes_main, ranges

_ADDRESS = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
_INDEX = "AWS_BATCH_JOB_MAIN_NODE_INDEX"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for each in ranges(manifest):
            if not each.targets or not includes_main(manifest, each.targets):
                continue
            for path, text in each.command():
                if _ADDRESS in text and _INDEX not in text:
                    yield Problem(
                        manifest,
                        path,
                        f"{_ADDRESS} is set on the other nodes only: on the main node it is empty",
                        hint=f"on the main node ($AWS_BATCH_JOB_NODE_INDEX equals ${_INDEX}) its own address",
                    )


RULE = Rule(
    "STK-AWS-006",
    Severity.ERROR,
    "The main node of a Batch job asks for its own address in a variable that it does not have",
    check,
    __name__,
    guide=("E18",),
)
