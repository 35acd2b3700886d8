"""A container needs a Secret that is not there.

A container whose Secret does not exist is not started, unless the reference says optional: true. Secrets are often kept
elsewhere for good reason: this is a warning only where others of the same namespace are in sight. What an
ExternalSecret, a SealedSecret, a Certificate or a kustomize generator makes counts as there.

Symptom: CreateContainerConfigError: secret "redis" not found

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        envFrom: [{secretRef: {name: redis}}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        envFrom: [{secretRef: {name: redis}}]
    ---
    apiVersion: external-secrets.io/v1
    kind: ExternalSecret
    metadata: {name: redis, namespace: ai}
    spec:
      refreshInterval: 1h
      secretStoreRef: {name: aws, kind: SecretStore}
      target: {name: redis}
      data:
      - {secretKey: password, remoteRef: {key: redis}}

Source: Kubernetes documentation, Secrets (optional Secrets)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import SECRETS, made_secrets, missing, named_in_pods, pod_specs


def check(cluster: Cluster) -> Iterator[Problem]:
    found = (each for spec in pod_specs(cluster) for each in named_in_pods(spec, "Secret"))
    yield from missing(
        cluster,
        "Secret",
        found,
        "the container does not start",
        "a Secret or an ExternalSecret of this name, or exists: [Secret ...] in the config",
        made=made_secrets(cluster),
        like=SECRETS,
    )


RULE = Rule("STK-MATCH-013", Severity.WARNING, "A container needs a Secret that is not there", check, __name__)
