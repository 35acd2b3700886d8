"""A TriggerAuthentication reads a key that its Secret does not have.

KEDA looks the key up in the Secret (or the ConfigMap) and hands an empty value on when it is not there.

Symptom: NOAUTH Authentication required
Symptom: KEDA's log: error trying to get secret

Wrong:

    apiVersion: v1
    kind: Secret
    metadata: {name: redis, namespace: ai}
    stringData: {redis-password: from-the-vault}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: TriggerAuthentication
    metadata: {name: redis, namespace: ai}
    spec:
      secretTargetRef: [{parameter: password, name: redis, key: password}]

Right:

    apiVersion: v1
    kind: Secret
    metadata: {name: redis, namespace: ai}
    stringData: {redis-password: from-the-vault}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: TriggerAuthentication
    metadata: {name: redis, namespace: ai}
    spec:
      secretTargetRef: [{parameter: password, name: redis, key: redis-password}]

Source: kedacore/keda@v2.20.2 pkg/scaling/resolver/scale_resolvers.go
"""

from collections.abc import Iterator
from typing import Any

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import text
from stoker.manifests.objects import Manifest, is_open, look, sections

SOURCES = {"secretTargetRef": "Secret", "configMapTargetRef": "ConfigMap"}


def check(cluster: Cluster) -> Iterator[Problem]:
    for auth in cluster.of("TriggerAuthentication", "ClusterTriggerAuthentication", group="keda.sh"):
        for part, kind in SOURCES.items():
            for i, each in sections(auth.get("spec", part)):
                problem = _judged(cluster, auth, kind, each, ("spec", part, i))
                if problem:
                    yield problem


def _judged(
    cluster: Cluster, auth: Manifest, kind: str, ref: dict[str, Any], path: tuple[str | int, ...]
) -> Problem | None:
    name, key = text(ref.get("name")), text(ref.get("key"))
    if not name or not key or is_open(auth, name) or is_open(auth, key):
        return None
    namespace = auth.namespace if auth.kind == "TriggerAuthentication" else ""
    # Not ACK's Secret, which is of AWS Secrets Manager.
    same = [
        each
        for each in cluster.of(kind, group="")
        if each.name == name and each.namespace in ("", namespace or each.namespace)
    ]
    if not same:
        if kind == "Secret" and _is_made_by_another(cluster, name, namespace):
            return None
        if cluster.exists(kind, name, namespace):
            return None
        told = (
            f"no {kind} {name} is in sight, from which {auth.name} takes {text(ref.get('parameter')) or 'a parameter'}"
        )
        return Problem(auth, (*path, "name"), told, hint=f"a {kind} with the key {key}", severity=Severity.INFO)
    source = same[0]
    same = [each for each in same if each.namespace in ("", namespace or source.namespace)]
    keys = {k for each in same for part in ("data", "stringData", "binaryData") for k in _keys(each.get(part))}
    if key in keys:  # in one of them: of overlays, each has its own Secret of this name
        return None
    near = keda.nearest(key, keys) or (min(keys) if len(keys) == 1 else "")
    told = f"{source} has no key {key}: the parameter {text(ref.get('parameter'))} is empty"
    return Problem(auth, (*path, "key"), told, hint=near or f"a key of the {kind}")


def _keys(tree: Any) -> list[str]:
    return [each for each in tree if isinstance(each, str)] if isinstance(tree, dict) else []


def _is_made_by_another(cluster: Cluster, name: str, namespace: str) -> bool:
    """ExternalSecrets and SealedSecrets make the Secret of their target's or their own name."""
    for each in cluster.of("ExternalSecret", "SealedSecret", "ClusterExternalSecret"):
        made = text(look(each.data, "spec", "target", "name")) or each.name
        if made == name and each.namespace in ("", namespace or each.namespace):
            return True
    return False


RULE = Rule(
    "STK-KEDA-024", Severity.ERROR, "A TriggerAuthentication reads a key that its Secret does not have", check, __name__
)
