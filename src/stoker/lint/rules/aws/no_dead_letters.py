"""A queue without a dead-letter queue.

A message that cannot be handled comes back each time its visibility ends, until it expires: it takes workers from the
others for days, and keeps the scaler from going to zero.

Symptom: the same task fails for four days, and then is gone

Wrong:

    apiVersion: sqs.services.k8s.aws/v1alpha1
    kind: Queue
    metadata: {name: tasks}
    spec:
      queueName: tasks

Right:

    apiVersion: sqs.services.k8s.aws/v1alpha1
    kind: Queue
    metadata: {name: tasks}
    spec:
      queueName: tasks
      redrivePolicy: |
        {"deadLetterTargetArn": "arn:aws:sqs:us-west-2:111122223333:tasks-dlq", "maxReceiveCount": 3}

Source: AWS documentation, SQS: dead-letter queues
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_IS_ONE = re.compile(r"dlq|dead|failed|poison", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    queues = list(cluster.of("Queue", group="sqs.services.k8s.aws"))
    policies = " ".join(str(each.get("spec", "redrivePolicy", default="")) for each in queues)
    for queue in queues:
        name = queue.get("spec", "queueName")
        if queue.get("spec", "redrivePolicy") is not None or not isinstance(name, str):
            continue
        if _IS_ONE.search(name) or f":{name}" in policies or queue.get("spec", "redriveAllowPolicy") is not None:
            continue
        yield Problem(
            queue,
            ("spec", "redrivePolicy"),
            f"a message that {name} cannot get rid of comes back until it expires",
            hint='redrivePolicy: {"deadLetterTargetArn": "arn:aws:sqs:...", "maxReceiveCount": 3}, as JSON text',
        )


RULE = Rule("STK-AWS-015", Severity.INFO, "A queue without a dead-letter queue", check, __name__)
