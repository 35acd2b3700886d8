"""A job definition of AWS Batch is no object of Kubernetes.

Batch is an API of AWS. No cluster has a group for it: there is no controller for it, ACK's has released none. It is
registered with AWS; to stay in Kubernetes there are Job, JobSet, Kueue and TrainJob.

Symptom: no matches for kind "JobDefinition" in version "batch.aws.amazon.com/v1"

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: container
      containerProperties:
        image: registry.example.com/trainer:1.0

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

Source: aws-controllers-k8s/batch-controller@1e88aa5d: no CRD
Source: guide-errors E14
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        yield Problem(
            manifest,
            ("kind",),
            f"no cluster has {manifest.group}: a job definition of AWS Batch is registered with AWS",
            hint="aws batch register-job-definition --cli-input-json; in Kubernetes Job, JobSet or TrainJob",
        )


RULE = Rule(
    "STK-AWS-001",
    Severity.ERROR,
    "A job definition of AWS Batch is no object of Kubernetes",
    check,
    __name__,
    guide=("E14",),
)
