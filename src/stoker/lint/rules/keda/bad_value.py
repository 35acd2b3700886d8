"""A parameter has a value that its scaler does not take.

Every parameter is text, but KEDA reads numbers, truth values and fixed words out of it. What it can not read, it
refuses: the scaler is not built, and nothing is scaled.

Symptom: KEDAScalerFailed: unable to set param
Symptom: KEDAScalerFailed: value must be one of

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus.watch:9090", query: "sum(waiting)", threshold: "8 requests"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus.watch:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda@v2.20.2 pkg/scalers/scalersconfig/typed_config.go, schema/generated/scalers-schema.json
"""

import re
from collections.abc import Iterator

from stoker.catalog.keda import Parameter
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import number, triggers
from stoker.spec.faults import shown

# Numbers that have no default to tell it by. `value` and `threshold` are numbers in every trigger that has them.
_NUMBERS = re.compile(
    r"^(activation\w+|(target|query|metric)?(value|threshold)|targetQueryValue|targetMetricValue|minMetricValue|queryValue|"
    r"targetValue|lagCount|desiredReplicas|databaseIndex)$",
    re.IGNORECASE,
)
_TRUTHS = ("true", "false", "1", "0", "t", "f", "T", "F", "True", "False", "TRUE", "FALSE")
# Of these the number may carry a unit or be a rate of another kind.
_NOT_JUDGED = frozenset({("cpu", "value"), ("memory", "value"), ("kubernetes-resource", "targetValue")})


# By whatever tool, also where the manifest itself is no template: Flux and envsubst fill in plain ones.
_FILLED_IN = re.compile(r"\$\{|\$\(|\{\{")


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        known = trigger.known
        if known is None:
            continue
        for name, value in trigger.metadata.items():
            parameter = known.parameters.get(name)
            if parameter is None or not parameter.from_metadata or not value.strip():
                continue
            if _FILLED_IN.search(value) or (trigger.type, name) in _NOT_JUDGED:
                continue
            wrong, right = _judged(parameter, value)
            if wrong:
                yield Problem(
                    trigger.manifest,
                    trigger.at("metadata", name),
                    f"{name} of {trigger.type} is {shown(value)}, which is {wrong}: the scaler can not be built",
                    hint=right,
                )


def _judged(parameter: Parameter, value: str) -> tuple[str, str]:
    """What is wrong, and what would be right; both empty where nothing is."""
    if parameter.allowed:
        unknown = [each.strip() for each in value.split(",") if each.strip() not in parameter.allowed]
        return ("none of the words it may be", "one of " + ", ".join(parameter.allowed)) if unknown else ("", "")
    if parameter.default in ("true", "false"):
        return ("", "") if value.strip() in _TRUTHS else ("neither true nor false", "true or false")
    if parameter.separator or parameter.range_separator:
        return "", ""
    if _NUMBERS.match(parameter.name) or (parameter.default and number(parameter.default) is not None):
        return ("", "") if number(value) is not None else ("no number", "a number in quotes, without a unit")
    return "", ""


RULE = Rule("STK-KEDA-005", Severity.ERROR, "A parameter has a value that its scaler does not take", check, __name__)
