"""identityOwner is going away.

Deprecated since KEDA 2.13 and to be removed in 3, as is `podIdentity: {provider: aws-eks}`. What it says belongs in a
TriggerAuthentication: `podIdentity: {provider: aws}`. With that one in place KEDA does not look at identityOwner any
more.

Symptom: after the upgrade of KEDA the AWS triggers find no credentials

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-sqs-queue
        metadata:
          {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2, identityOwner: operator}

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

Source: kedacore/keda-docs content/docs/2.21/scalers/aws-sqs.md, authentication-providers/aws-eks.md;
  kedacore/keda@v2.20.2 pkg/scalers/aws/aws_common.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import auth_of, triggers
from stoker.manifests.edits import Remove

PROVIDER = ("spec", "podIdentity", "provider")


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        if "identityOwner" not in trigger.metadata:
            continue
        path = trigger.at("metadata", "identityOwner")
        auth = auth_of(cluster, trigger)
        is_idle = auth is not None and auth.get("spec", "podIdentity", "provider") == "aws"
        yield Problem(
            trigger.manifest,
            path,
            "identityOwner is not read beside a TriggerAuthentication with podIdentity aws"
            if is_idle
            else "identityOwner is deprecated since KEDA 2.13 and goes away in 3",
            hint="no identityOwner"
            if is_idle
            else "authenticationRef: a TriggerAuthentication with podIdentity: {provider: aws}",
            key=True,
            edits=(Remove(path),) if is_idle else (),
        )
    for auth in cluster.of("TriggerAuthentication", "ClusterTriggerAuthentication", group="keda.sh"):
        if auth.get(*PROVIDER) == "aws-eks":
            told = "podIdentity aws-eks is deprecated since KEDA 2.13 and goes away in 3"
            yield Problem(auth, PROVIDER, told, hint="provider: aws, with a role that KEDA's own role may assume")


RULE = Rule("STK-KEDA-020", Severity.WARNING, "identityOwner is going away", check, __name__, guide=("S10",))
