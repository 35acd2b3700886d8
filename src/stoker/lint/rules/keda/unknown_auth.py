"""A trigger signs in by something that is not there.

`authenticationRef` names a TriggerAuthentication of the ScaledObject's own namespace, or with `kind:
ClusterTriggerAuthentication` one of the cluster. While it is missing, the scaler is not built.

Symptom: KEDAScalerFailed: triggerauthentications.keda.sh not found

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2}
        authenticationRef: {name: aws}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ClusterTriggerAuthentication
    metadata: {name: aws}
    spec:
      podIdentity: {provider: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2}
        authenticationRef: {name: aws, kind: ClusterTriggerAuthentication}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ClusterTriggerAuthentication
    metadata: {name: aws}
    spec:
      podIdentity: {provider: aws}

Source: kedacore/keda-docs content/docs/2.21/concepts/authentication.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, auth_of, triggers
from stoker.manifests.objects import is_open

OF_NAMESPACE, OF_CLUSTER = "TriggerAuthentication", "ClusterTriggerAuthentication"


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        kind, name = trigger.auth
        namespace = trigger.manifest.namespace if kind == OF_NAMESPACE else ""
        if not name or is_open(trigger.manifest, name) or auth_of(cluster, trigger) is not None:
            continue
        if kind in (OF_NAMESPACE, OF_CLUSTER) and not cluster.exists(kind, name, namespace):
            yield Problem(
                trigger.manifest,
                trigger.at("authenticationRef", "name"),
                f"no {kind} {f'{namespace}/' if namespace else ''}{name} is in sight, so {trigger} can not be asked",
                hint=_hint(cluster, trigger, kind, name),
            )


def _hint(cluster: Cluster, trigger: Trigger, kind: str, name: str) -> str:
    other = OF_CLUSTER if kind == OF_NAMESPACE else OF_NAMESPACE
    found = cluster.find(other, name)
    if found is not None and other == OF_CLUSTER:
        return f"kind: {OF_CLUSTER}"
    elsewhere = cluster.find(kind, name)
    if elsewhere is not None:
        return f"one in namespace {trigger.manifest.namespace}: that of {elsewhere.namespace} is not looked at"
    return f"a {kind} of this name"


RULE = Rule("STK-KEDA-022", Severity.WARNING, "A trigger signs in by something that is not there", check, __name__)
