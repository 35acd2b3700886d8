"""A formula of scalingModifiers can not be computed.

`formula` reckons with the values of triggers by their `name`. A name that no trigger has, or one of a cpu or memory
trigger, is unknown to it. And the result needs a `target` to be held against. KEDA refuses the ScaledObject
otherwise.

Symptom: error validating formula in ScalingModifiers: unknown name

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      advanced:
        scalingModifiers: {formula: waiting + running, target: "8"}
      triggers:
      - type: prometheus
        name: waiting
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(running)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      advanced:
        scalingModifiers: {formula: waiting + running, target: "8"}
      triggers:
      - type: prometheus
        name: waiting
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}
      - type: prometheus
        name: running
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(running)", threshold: "8"}

Source: kedacore/keda apis/keda/v1alpha1/scaledobject_webhook.go; kedacore/keda-docs
  content/docs/2.21/concepts/scaling-deployments.md
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, SCALED_OBJECT, number, scaled, text, triggers_of
from stoker.manifests.objects import Manifest, is_open
from stoker.spec.faults import shown

PATH = ("spec", "advanced", "scalingModifiers")
_STRINGS = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|//.*|/\*.*?\*/", re.DOTALL)
# Names that stand for a value: not a function's, not a member of something, not a key of a map.
_NAMES = re.compile(r"(?<![\w.#$?])([A-Za-z_]\w*)(?!\w)(?!\s*[(:])")
_WORDS = frozenset(
    [
        "nil",
        "true",
        "false",
        "and",
        "or",
        "not",
        "in",
        "let",
        "if",
        "else",
        "contains",
        "matches",
        "startsWith",
        "endsWith",
    ]
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        formula = text(manifest.get(*PATH, "formula"))
        if not formula or is_open(manifest, formula):
            continue
        yield from _names(manifest, formula)
        target = manifest.get(*PATH, "target")
        if target is None or (isinstance(target, str) and not _is_positive(target)):
            told = f"target is {shown(target)}" if target is not None else "a formula needs a target"
            yield Problem(manifest, (*PATH, "target"), f"{told}: KEDA refuses it", hint="a number over 0, in quotes")


def _is_positive(written: str) -> bool:
    value = number(written)
    return "${" in written or "{{" in written or (value is not None and value > 0)


def _names(manifest: Manifest, formula: str) -> Iterator[Problem]:
    triggers = triggers_of(manifest)
    bare = _STRINGS.sub(" ", formula)
    own = set(re.findall(r"\blet\s+(\w+)", bare))
    named = {each.name for each in triggers if each.type not in OF_PODS}
    for name in dict.fromkeys(_NAMES.findall(bare)):
        if name in named or name in own or name in _WORDS:
            continue
        of_pods = next((each.type for each in triggers if each.name == name), "")
        told = f"the formula can not use {of_pods}: only the HPA reads it" if of_pods else f"no trigger is named {name}"
        hint = (
            "names of triggers that are not cpu or memory" if of_pods else f"name: {name} at the trigger that is meant"
        )
        yield Problem(manifest, (*PATH, "formula"), f"{told}: KEDA refuses the formula", hint=hint)


RULE = Rule("STK-KEDA-043", Severity.ERROR, "A formula of scalingModifiers can not be computed", check, __name__)
