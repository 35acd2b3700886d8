"""A trigger has a parameter that its scaler does not read.

`metadata` is free text to the API server: a misspelt parameter is neither refused nor used, and the default applies.
What belongs to the trigger itself (`metricType`, `useCachedMetrics`, `name`, `authenticationRef`) is not read from
`metadata`.

Symptom: a threshold that was changed makes no difference
Symptom: KEDAScalersInfo event about an unused property

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", queueLenght: "10", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", queueLength: "10", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Source: kedacore/keda@v2.20.2 schema/generated/scalers-schema.json, pkg/scalers/scalersconfig/typed_config.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, triggers
from stoker.manifests.edits import Rename

OF_THE_TRIGGER = ("metricType", "useCachedMetrics", "authenticationRef")
OF_THE_WHOLE = ("minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "idleReplicaCount")
PASSED_ON = ("external", "external-push")
"""Their scalers get whatever stands in `metadata`."""

PARTLY_LISTED = ("azure-eventhub",)
"""What these read is not all in the list."""

# Read by code that many scalers share, and not in the list of each: sign-in to AWS, Azure and Google, to a web server.
SHARED = re.compile(
    r"^(aws(RoleArn|ExternalId|AccessKeyI[dD]|SecretAccessKey|SessionToken|Endpoint|Region|AccountId)|identityOwner|azure\w*|cloud|endpointSuffix|activeDirectory\w*|tenantId|client\w*|credentials\w*|gcp\w*|"
    r"auth\w*|username|password|bearerToken|apiKey|token|customAuth\w*|oauth\w*|scopes?|ca|cert|key|keyPassword|tls|"
    r"enableTLS|unsafeSsl|connection|timeout|workloadIdentity\w*|subscriptionId|resourceGroupName)(FromEnv|FromEnvFile)?$"
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        if trigger.known is None or trigger.type in PASSED_ON:
            continue
        for name in trigger.metadata:
            problem = _judged(trigger, name)
            if problem:
                yield problem


def _judged(trigger: Trigger, name: str) -> Problem | None:
    known, path = trigger.known, trigger.at("metadata", name)
    if known is None or known.written_as(name) is not None:
        return None
    if name in OF_THE_TRIGGER:
        told = f"{name} belongs to the trigger: in metadata {trigger.type} does not read it"
        return Problem(trigger.manifest, path, told, hint=f"{name} beside metadata, one level up", key=True)
    if name in OF_THE_WHOLE:
        told = f"{name} belongs to the {trigger.manifest.kind}: in metadata {trigger.type} does not read it"
        return Problem(trigger.manifest, path, told, hint=f"spec.{name}", key=True)
    near = known.nearest(name)
    is_other_case = near is not None and near.lower() == name.lower()
    if SHARED.match(name) and not is_other_case:
        return None
    if near and near not in trigger.metadata:
        told = f"{trigger.type} has no parameter {name}: it is not read"
        # A name that differs in the case of letters alone can mean nothing else.
        edits = (Rename(path, near),) if is_other_case else ()
        return Problem(trigger.manifest, path, told, hint=near, key=True, edits=edits)
    if trigger.type in PARTLY_LISTED:
        return None
    told = f"{trigger.type} is not known to read {name}"
    return Problem(trigger.manifest, path, told, hint="leave it out", key=True, severity=Severity.INFO)


RULE = Rule(
    "STK-KEDA-002", Severity.WARNING, "A trigger has a parameter that its scaler does not read", check, __name__
)
