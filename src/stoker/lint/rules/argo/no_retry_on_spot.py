"""A step runs on spot nodes and is not tried again.

The node is taken away with two minutes' notice, the pod with it, and the workflow fails as a whole: the hours before
are paid for. A pod that is deleted with its node is an Error to Argo and no Failure, which `OnFailure`, the default
policy, leaves alone.

Symptom: a workflow failed with: pod deleted; or with exit code 143 after hours of training

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: training}
    spec:
      entrypoint: train
      templates:
      - name: train
        nodeSelector: {karpenter.sh/capacity-type: spot}
        container: {image: "registry.example.com/train:1.0", command: [train]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: training}
    spec:
      entrypoint: train
      templates:
      - name: train
        nodeSelector: {karpenter.sh/capacity-type: spot}
        retryStrategy: {limit: 5, retryPolicy: Always}
        container: {image: "registry.example.com/train:1.0", command: [train]}

Source: argoproj/argo-workflows@v4.1.2 docs/retries.md
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Flow, Template, flows
from stoker.manifests.objects import look, sections

_SPOT = {"karpenter.sh/capacity-type": "spot", "eks.amazonaws.com/capacityType": "SPOT"}
_ENOUGH = ("Always", "OnError", "OnTransientError")


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for template in flow.templates:
            if not any(key in template.tree for key in ("container", "script", "containerSet")):
                continue
            if not (_is_spot(template.tree) or _is_spot(flow.spec)):
                continue
            strategy = _strategy(flow, template)
            if strategy is None:
                yield Problem(
                    flow.manifest,
                    (*template.path, "retryStrategy"),
                    f"{template.name} runs on spot nodes, and one interruption fails the whole workflow",
                    hint="retryStrategy: {limit: 5, retryPolicy: Always}, and checkpoints to go on from",
                )
            elif strategy.get("retryPolicy", "OnFailure") not in _ENOUGH and "expression" not in strategy:
                yield Problem(
                    flow.manifest,
                    (*template.path, "retryStrategy", "retryPolicy"),
                    f"{template.name} runs on spot nodes: a pod that went with its node is an Error,"
                    " which OnFailure does not try again",
                    hint="retryPolicy: Always",
                )


def _strategy(flow: Flow, template: Template) -> dict[str, Any] | None:
    places = (template.tree, look(flow.spec, "templateDefaults"), flow.spec)
    return next((found for each in places for found in [look(each, "retryStrategy")] if isinstance(found, dict)), None)


def _is_spot(tree: dict[str, Any]) -> bool:
    if any(look(tree, "nodeSelector", key) == value for key, value in _SPOT.items()):
        return True
    required = look(
        tree, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    for _i, term in sections(required):
        for _j, each in sections(term.get("matchExpressions")):
            if each.get("operator") == "In" and each.get("values") == [_SPOT.get(str(each.get("key")), 0)]:
                return True
    return False


RULE = Rule("STK-ARGO-012", Severity.WARNING, "A step runs on spot nodes and is not tried again", check, __name__)
