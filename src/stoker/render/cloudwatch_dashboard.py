"""CloudWatch's dashboard: GPUs, tokens, cost per million tokens, queue.

Source: Amazon CloudWatch user guide, "Dashboard body structure and syntax": each widget needs its region, and what an
expression calls m1 has to be a metric of the same widget (F16).
"""

from decimal import Decimal
from typing import Any

from stoker.render.cloudwatch_alarms import INSIGHTS, SQS, watches_interruptions
from stoker.render.facts import CLOUDWATCH_NAMESPACE
from stoker.render.monitoring_rules import gpu_types, usd_of_gpu
from stoker.render.plan import Plan

Metric = list[Any]

MODELS_AT_MOST = 100
"""A widget has at most 500 metrics: two for each model. Models beyond are in `stoker cost`, as all are."""
_WIDTH, _HEIGHT, _COLUMNS = 8, 6, 24


def body(plan: Plan) -> dict[str, Any]:
    shown = [*_gpus(plan), *_tokens(plan), *_queues(plan)]
    widgets = [
        {
            "type": "metric",
            "x": number * _WIDTH % _COLUMNS,
            "y": number * _WIDTH // _COLUMNS * _HEIGHT,
            "width": _WIDTH,
            "height": _HEIGHT,
            "properties": {"region": plan.region, "view": "timeSeries", **properties},
        }
        for number, properties in enumerate(shown)
    ]
    return {"widgets": widgets}


def _gpus(plan: Plan) -> list[dict[str, Any]]:
    if plan.gpu_exporter != "addon":
        return []

    def metric(name: str, stat: str, label: str) -> Metric:
        return [INSIGHTS, f"node_gpu_{name}", "ClusterName", plan.cluster, {"stat": stat, "label": label}]

    both = (("Average", "average"), ("Maximum", "highest"))
    return [
        {
            "title": "GPU utilization (%)",
            "period": 60,
            "metrics": [metric("utilization", stat, label) for stat, label in both],
        },
        {
            "title": "GPU memory in use (%)",
            "period": 60,
            "metrics": [metric("memory_utilization", stat, label) for stat, label in both],
        },
        {
            "title": "GPUs: there, and in use by pods",
            "period": 60,
            "metrics": [metric("limit", "Sum", "there"), metric("usage_total", "Sum", "in use")],
        },
        {
            "title": "GPU temperature (C) and power (W)",
            "period": 60,
            "metrics": [metric("temperature", "Maximum", "hottest"), metric("power_draw", "Sum", "power of all")],
        },
    ]


def _tokens(plan: Plan) -> list[dict[str, Any]]:
    found = [
        {
            "title": "Tokens by model",
            "period": 300,
            "stacked": True,
            "metrics": [[{"expression": _search(plan, "model,type", "stoker_tokens_total", "Sum", 300), "id": "t"}]],
        },
        {
            "title": "Requests by model and end",
            "period": 300,
            "stacked": True,
            "metrics": [
                [{"expression": _search(plan, "model,status", "stoker_requests_total", "Sum", 300), "id": "r"}]
            ],
        },
        _billed(plan),
    ]
    dearest = max((usd_of_gpu(plan, each) for each in gpu_types(plan)), default=None)
    if dearest is not None and plan.gpu_exporter == "addon":
        found.append(_per_million(plan, dearest))
    return found


def _billed(plan: Plan) -> dict[str, Any]:
    """By the prices of the spec, each token at its price, an hour at a time."""
    metrics: list[Metric] = []
    terms = []
    for number, (name, model) in enumerate(list(plan.spec.llm.models.items())[:MODELS_AT_MOST]):
        prices = {
            "input": model.prices.input_usd_per_million_tokens,
            "output": model.prices.output_usd_per_million_tokens,
        }
        for kind, price in prices.items():
            known = f"{kind[0]}{number}"
            metrics.append(
                [
                    CLOUDWATCH_NAMESPACE,
                    "stoker_tokens_total",
                    *("ClusterName", plan.cluster, "model", name, "type", kind),
                    {"id": known, "stat": "Sum", "visible": False},
                ]
            )
            terms.append(f"FILL({known},0)*{price:f}/1000000")
    return {
        "title": "Billed, USD per hour",
        "period": 3600,
        "metrics": [[{"expression": "+".join(terms), "label": "by the prices of the models", "id": "e"}], *metrics],
    }


def _per_million(plan: Plan, usd_per_gpu_hour: Decimal) -> dict[str, Any]:
    """Each node says its GPUs once a minute: the sum of an hour is GPU-minutes."""
    gpus = [
        *(INSIGHTS, "node_gpu_limit", "ClusterName", plan.cluster),
        {"id": "m1", "stat": "Sum", "visible": False},
    ]
    tokens = f"SUM({_search(plan, 'model,type', 'stoker_tokens_total', 'Sum', 3600)})"
    return {
        "title": "USD of GPUs per million tokens, at most",
        "period": 3600,
        "metrics": [
            [
                {
                    "expression": f"(m1/60*{usd_per_gpu_hour:f})/(m2/1000000)",
                    "label": f"each GPU at {usd_per_gpu_hour:f} USD an hour, the dearest that the pools allow",
                    "id": "e1",
                }
            ],
            [{"expression": tokens, "id": "m2", "visible": False}],
            gpus,
        ],
    }


def _queues(plan: Plan) -> list[dict[str, Any]]:
    found = [
        {
            "title": title,
            "period": 60,
            "metrics": [[{"expression": _search(plan, "model", metric, stat, 60), "id": "q"}]],
        }
        for title, metric, stat in (
            ("Tasks that wait", "stoker_queue_lag", "Maximum"),
            ("Tasks that run", "stoker_queue_pending", "Maximum"),
            ("Requests past the queue", "stoker_requests_in_flight", "Sum"),
        )
    ]
    if plan.spec.keda.scalers.sqs:
        queue = plan.spec.queue.dead_letters.sqs_queue
        found.append(_sqs("Dead letters", "ApproximateNumberOfMessagesVisible", queue, "Maximum"))
    if watches_interruptions(plan):
        found.append(
            _sqs("What EC2 says of its nodes (interruptions)", "NumberOfMessagesSent", plan.interruption_queue, "Sum")
        )
    return found


def _sqs(title: str, metric: str, queue: str, stat: str) -> dict[str, Any]:
    return {"title": title, "period": 300, "metrics": [[SQS, metric, "QueueName", queue, {"stat": stat}]]}


def _search(plan: Plan, dimensions: str, metric: str, stat: str, period: int) -> str:
    """All series of a metric, whatever models there are."""
    which = f'{{{CLOUDWATCH_NAMESPACE},ClusterName,{dimensions}}} MetricName="{metric}" ClusterName="{plan.cluster}"'
    return f"SEARCH('{which}', '{stat}', {period})"
