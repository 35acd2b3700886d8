"""A Rollout without a strategy.

A Rollout has `canary` or `blueGreen`, and one of them only. Without, the controller does not touch it: no pods.

Symptom: InvalidSpec: The Rollout is invalid: spec.strategy.strategy: Required value

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec: {containers: [{name: chat, image: "registry.example.com/chat:1.0"}]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    metadata: {name: chat}
    spec:
      strategy: {canary: {maxSurge: 1}}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec: {containers: [{name: chat, image: "registry.example.com/chat:1.0"}]}

Source: Argo Rollouts documentation, Rollout specification
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import GROUP
from stoker.manifests.objects import filled_in_later


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Rollout", group=GROUP):
        strategy = manifest.get("spec", "strategy")
        if filled_in_later(strategy):
            continue
        named = [key for key in ("canary", "blueGreen") if isinstance(strategy, dict) and key in strategy]
        if len(named) != 1:
            said = "both canary and blueGreen" if named else "neither canary nor blueGreen"
            yield Problem(
                manifest,
                ("spec", "strategy"),
                f"{said}: the Rollout is invalid and makes no pods",
                hint="strategy: {canary: {...}} or {blueGreen: {activeService: ...}}",
            )


RULE = Rule("STK-ARGO-023", Severity.ERROR, "A Rollout without a strategy", check, __name__)
