"""An AWS trigger has nothing to sign in with.

Without an `authenticationRef` KEDA looks for access keys in `metadata`, and when there are none it does not build the
scaler. The role of KEDA's own pods is only used when a TriggerAuthentication says `podIdentity: {provider: aws}` (or
the older `identityOwner: operator`).

Symptom: KEDAScalerFailed: awsAccessKeyID not found

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2}
        authenticationRef: {name: aws}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: TriggerAuthentication
    metadata: {name: aws}
    spec:
      podIdentity: {provider: aws}

Source: kedacore/keda@v2.20.2 pkg/scalers/aws/aws_common.go; kedacore/keda-docs content/docs/2.21/scalers/aws-sqs.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import triggers

_AWS = ("aws-cloudwatch", "aws-dynamodb", "aws-dynamodb-streams", "aws-kinesis-stream", "aws-sqs-queue")


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, *_AWS):
        if trigger.auth[1] or trigger.metadata.get("identityOwner") == "operator":
            continue
        if trigger.gives("awsAccessKeyID") and trigger.gives("awsSecretAccessKey"):
            continue
        yield Problem(
            trigger.manifest,
            trigger.at("authenticationRef"),
            f"{trigger} has no authenticationRef and no access keys: the scaler can not be built",
            hint="authenticationRef: a TriggerAuthentication with podIdentity: {provider: aws}",
        )


RULE = Rule("STK-KEDA-045", Severity.ERROR, "An AWS trigger has nothing to sign in with", check, __name__)
