"""The gateway as an Argo Rollout: a new version gets a tenth, then half, and goes back when its requests fail.

Sources: Argo Rollouts documentation, "Canary" (setWeight without a traffic router is a ratio of pods), "Analysis"
(Prometheus, podTemplateHashValue), "Horizontal Pod Autoscaling". The metric is the gateway's own (gateway/measures.py).
"""

from collections.abc import Iterator

from stoker.render.facts import GATEWAY
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, selector
from stoker.render.plan import Plan

REFERENCE: Object = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
WHY = """\
Weights are ratios of pods, rounded up: of two gateways a tenth is one of three. After each step its failures are \
looked at; without requests there is nothing against it, and without Prometheus there are only the pauses."""
ERRORS = "gateway-errors"
_MOST_FAILED = 0.05


def rollout(plan: Plan, template: Object) -> Object:
    return {
        **REFERENCE,
        "metadata": metadata(plan, GATEWAY, "gateway", namespace=plan.namespace),
        "spec": {
            "selector": {"matchLabels": selector(GATEWAY)},
            "strategy": {"canary": {"maxUnavailable": 0, "maxSurge": 1, "steps": _steps(plan)}},
            "template": template,
        },
    }


def _steps(plan: Plan) -> list[Object]:
    look = [_look()] if _is_watched(plan) else []
    steps: list[Object] = []
    for weight in (10, 50):
        steps += [{"setWeight": weight}, {"pause": {"duration": "5m"}}, *look]
    return [*steps, {"setWeight": 100}]


def _look() -> Object:
    newest = {"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}}
    return {"analysis": {"templates": [{"templateName": ERRORS}], "args": [newest]}}


def _is_watched(plan: Plan) -> bool:
    seen = plan.spec.global_.observability
    return seen.enabled and seen.prometheus


def analysis(plan: Plan) -> Iterator[Item]:
    if _is_watched(plan):
        yield Resource("gateway/canary.yaml", _errors(plan), f"more than {_MOST_FAILED:.0%} failed, three times: back")


def _errors(plan: Plan) -> Object:
    pods = f'namespace="{plan.namespace}", pod=~"{GATEWAY}-{{{{args.hash}}}}-.*"'
    failed = f'sum(rate(stoker_requests_total{{{pods}, status="failed"}}[5m]))'
    query = f"({failed} or vector(0)) / sum(rate(stoker_requests_total{{{pods}}}[5m]))"
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": metadata(plan, ERRORS, "gateway", namespace=plan.namespace),
        "spec": {
            "args": [{"name": "hash"}],
            "metrics": [
                {
                    "name": "failed",
                    "interval": "1m",
                    "count": 5,
                    "failureLimit": 2,
                    # No series yet, and 0 of 0 requests: neither says anything against it.
                    "successCondition": f"len(result) == 0 || isNaN(result[0]) || result[0] <= {_MOST_FAILED}",
                    "provider": {
                        "prometheus": {"address": plan.spec.global_.observability.prometheus_url, "query": query}
                    },
                }
            ],
        },
    }
