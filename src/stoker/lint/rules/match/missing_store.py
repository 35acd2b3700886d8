"""An ExternalSecret refers to a store that is not there.

It is never synchronised: the Secret that it should make does not come to be.

Symptom: SecretSyncedError: could not get secret store; CreateContainerConfigError in the pods

Wrong:

    apiVersion: external-secrets.io/v1
    kind: ExternalSecret
    metadata: {name: redis, namespace: ai}
    spec:
      refreshInterval: 1h
      secretStoreRef: {name: aws, kind: SecretStore}
      target: {name: redis}
      data: [{secretKey: password, remoteRef: {key: redis}}]

Right:

    apiVersion: external-secrets.io/v1
    kind: ExternalSecret
    metadata: {name: redis, namespace: ai}
    spec:
      refreshInterval: 1h
      secretStoreRef: {name: aws, kind: SecretStore}
      target: {name: redis}
      data: [{secretKey: password, remoteRef: {key: redis}}]
    ---
    apiVersion: external-secrets.io/v1
    kind: SecretStore
    metadata: {name: aws, namespace: ai}
    spec:
      provider:
        aws: {service: SecretsManager, region: us-west-2}

Source: external-secrets/external-secrets docs/api/externalsecret.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing

_PATH = ("spec", "secretStoreRef", "name")


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in cluster.of("ExternalSecret", group="external-secrets.io"):
        name = each.get(*_PATH)
        kind = each.get("spec", "secretStoreRef", "kind", default="SecretStore")
        if not isinstance(name, str) or kind not in ("SecretStore", "ClusterSecretStore"):
            continue
        namespace = each.namespace if kind == "SecretStore" else ""
        reference = Reference(each, _PATH, name, str(each), namespace)
        hint = f"a {kind} of this name, or exists: [{kind} ...] in the config"
        like = ("ClusterSecretStore",) if kind == "ClusterSecretStore" else ()
        yield from missing(cluster, kind, [reference], "the Secret is never made", hint, like=like)


RULE = Rule("STK-MATCH-024", Severity.WARNING, "An ExternalSecret refers to a store that is not there", check, __name__)
