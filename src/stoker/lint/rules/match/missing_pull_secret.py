"""A pull secret is named that is not there.

The kubelet then pulls without credentials, and says nothing about the missing Secret but in an event.

Symptom: ErrImagePull: 401 Unauthorized; FailedToRetrieveImagePullSecret

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      imagePullSecrets: [{name: registry}]
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      imagePullSecrets: [{name: registry}]
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: external-secrets.io/v1
    kind: ExternalSecret
    metadata: {name: registry, namespace: ai}
    spec:
      refreshInterval: 1h
      secretStoreRef: {name: aws, kind: SecretStore}
      target: {name: registry}
      data:
      - {secretKey: .dockerconfigjson, remoteRef: {key: registry}}

Source: Kubernetes documentation, Pull an Image from a Private Registry
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import SECRETS, Reference, made_secrets, missing, pod_specs
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    yield from missing(
        cluster,
        "Secret",
        _named(cluster),
        "the image is pulled without credentials",
        "a Secret of type kubernetes.io/dockerconfigjson of this name",
        made=made_secrets(cluster),
        like=SECRETS,
    )


def _named(cluster: Cluster) -> Iterator[Reference]:
    for spec in pod_specs(cluster):
        for i, _ in sections(spec.get("imagePullSecrets")):
            yield from spec.refers("imagePullSecrets", i, "name")
    for account in cluster.of("ServiceAccount", group=""):
        for i, each in sections(account.get("imagePullSecrets")):
            if isinstance(each.get("name"), str):
                path = ("imagePullSecrets", i, "name")
                yield Reference(account, path, each["name"], str(account), account.namespace)


RULE = Rule("STK-MATCH-014", Severity.WARNING, "A pull secret is named that is not there", check, __name__)
