"""A Batch job is retried for a spot interruption in a way that cannot match.

A job over several nodes cannot run on a compute environment with Spot at all. For a job of one node the reason that
Batch gives is "Host EC2 (instance i-...) terminated.", not a sentence about Spot.

Symptom: the job fails after an interruption, though attempts is 3

Wrong:

    apiVersion: batch.aws.amazon.com/v1
    kind: JobDefinition
    metadata: {name: finetune}
    spec:
      type: multinode
      nodeProperties: {numNodes: 2, mainNode: 0}
      retryStrategy:
        attempts: 3
        evaluateOnExit:
        - {action: RETRY, onStatusReason: "Spot instance interrupted"}

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: finetune}
    spec:
      backoffLimit: 3
      podFailurePolicy:
        rules:
        - action: Ignore
          onPodConditions: [{type: DisruptionTarget}]
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: trainer
            image: registry.example.com/trainer:1.0
            resources:
              requests: {cpu: 4, memory: 16Gi}
              limits: {memory: 16Gi}

Source: docs.aws.amazon.com/batch/latest/userguide/mnp-ce.html
Source: AWS Batch user guide, Automated job retries
Source: guide-errors E18
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.aws._batch import definitions, is_multi_node
from stoker.manifests.objects import sections

_SPOT = re.compile(r"spot|interrupt", re.IGNORECASE)
_HOST = "Host EC2"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in definitions(cluster):
        for i, each in sections(manifest.get("spec", "retryStrategy", "evaluateOnExit")):
            reason = each.get("onStatusReason")
            if not isinstance(reason, str) or not (_SPOT.search(reason) or reason.startswith(_HOST)):
                continue
            several = is_multi_node(manifest)
            if several or not reason.startswith(_HOST):
                yield Problem(
                    manifest,
                    ("spec", "retryStrategy", "evaluateOnExit", i, "onStatusReason"),
                    "a job over several nodes cannot run on Spot, and the reason would not read like this"
                    if several
                    else f"Batch gives no reason that reads {reason!r}: the job is not tried again",
                    hint="an on-demand compute environment for several nodes" if several else '"Host EC2*"',
                )


RULE = Rule(
    "STK-AWS-005",
    Severity.WARNING,
    "A Batch job is retried for a spot interruption in a way that cannot match",
    check,
    __name__,
    guide=("E18",),
)
