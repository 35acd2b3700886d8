"""A trigger lacks a parameter without which its scaler can not be built.

KEDA looks for it in `metadata`, in the variable that `<name>FromEnv` names, and, for some, in the
TriggerAuthentication. When one trigger can not be built, the whole ScaledObject is not ready.

Symptom: KEDAScalerFailed: missing required parameter
Symptom: no address or host given

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {query: "sum(waiting_requests)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus.watch:9090", query: "sum(waiting_requests)", threshold: "8"}

Source: kedacore/keda@v2.20.2 schema/generated/scalers-schema.json, pkg/scalers/scalersconfig/typed_config.go,
  pkg/scalers/redis_scaler.go
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, auth_of, text, triggers
from stoker.manifests.objects import Manifest, sections

_ADDRESSES: Sequence[Sequence[str]] = (("address",), ("addresses",), ("host", "port"), ("hosts", "ports"))
_REDIS = (
    "redis",
    "redis-cluster",
    "redis-sentinel",
    "redis-streams",
    "redis-cluster-streams",
    "redis-sentinel-streams",
)
ALTERNATIVES: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType(
    dict.fromkeys(_REDIS, _ADDRESSES)
    | {"ibmmq": (("queueName",), ("queueNames",)), "rabbitmq": (("queueName",), ("host",))}
)
"""Declared as required each, of which one group will do (rabbitmq: its two are looked for in other ways, too)."""
NEVER_DEMANDED = frozenset(
    [
        "username",
        "password",
        "sentinelUsername",
        "sentinelPassword",
        "sentinelMaster",
        "Cert",
        "cert",
        "key",
        "keyPassword",
        "ca",
        "tenantId",
        "activationTargetValue",
        "activationValue",
    ]
)
"""Declared as required, but needed for some ways to sign in only, or taken for zero."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        if trigger.known is None:
            continue
        given = _from_auth(auth_of(cluster, trigger)) if trigger.auth[1] else frozenset()
        groups = ALTERNATIVES.get(trigger.type, ())
        grouped = {name for group in groups for name in group}
        for name, parameter in trigger.known.parameters.items():
            if not parameter.is_required or name in NEVER_DEMANDED or name in grouped or trigger.gives(name):
                continue
            if parameter.from_auth and (given is None or name in given):
                continue
            if not parameter.from_metadata and not parameter.from_env and not parameter.from_auth:
                continue
            yield _missing(trigger, name, f"{trigger.type} needs {name}")
        if trigger.type in _REDIS and given is not None and not _has_one(trigger, groups, given):
            yield _missing(trigger, "address", f"{trigger.type} has no address, nor host and port")


def _has_one(trigger: Trigger, groups: Sequence[Sequence[str]], given: frozenset[str]) -> bool:
    return any(all(trigger.gives(name) or name in given for name in group) for group in groups)


def _from_auth(auth: Manifest | None) -> frozenset[str] | None:
    """What a TriggerAuthentication gives; None when it could be anything: it is not in sight, or asks a vault."""
    if auth is None:
        return None
    spec = auth.get("spec")
    if not isinstance(spec, dict) or set(spec) - {"secretTargetRef", "env", "configMapTargetRef", "podIdentity"}:
        return None
    lists = (spec.get(key) for key in ("secretTargetRef", "env", "configMapTargetRef"))
    return frozenset(text(each.get("parameter")) for items in lists for _, each in sections(items))


def _missing(trigger: Trigger, name: str, told: str) -> Problem:
    return Problem(
        trigger.manifest,
        trigger.at("metadata", name),
        f"{told}: the scaler can not be built, and nothing is scaled",
        hint=f"metadata.{name}",
    )


RULE = Rule("STK-KEDA-003", Severity.ERROR, "A trigger lacks a parameter that it needs", check, __name__)
