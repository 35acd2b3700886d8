"""CloudWatch's dashboard: GPUs, tokens, dollars, queue. What is ours is searched for, whatever models there are.

Source: Amazon CloudWatch user guide, "Dashboard body structure and syntax": each widget needs its region, and what an
expression calls m1 has to be a metric of the same widget (F16).
"""

from decimal import Decimal
from typing import Any

from stoker.aws import cloudwatch_names as names
from stoker.render.cloudwatch_alarms import INSIGHTS, SQS, watches_interruptions
from stoker.render.monitoring_rules import gpu_types, usd_of_gpu
from stoker.render.plan import Plan

Metric = list[Any]

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
    kinds = (("p", names.PROMPT), ("k", names.CACHED), ("c", names.COMPLETION))
    found = [
        {
            "title": "Tokens by model",
            "period": 300,
            "stacked": True,
            "metrics": [
                [{"expression": _search(plan, names.TOKENS, metric, "Sum", 300), "id": id, "label": metric}]
                for id, metric in kinds
                if metric != names.CACHED  # part of the prompt's
            ],
        },
        {
            "title": "Part of prompts that was cached",
            "period": 300,
            "metrics": [
                [{"expression": "100*k/FILL(p,1)", "label": "per cent", "id": "e"}],
                *(
                    [{"expression": f"SUM({_search(plan, names.TOKENS, metric, 'Sum', 300)})", "id": id, **_HIDDEN}]
                    for id, metric in kinds[:2]
                ),
            ],
        },
        _one("Requests by model", 300, _search(plan, names.TOKENS, names.REQUESTS, "Sum", 300), stacked=True),
        _one("Requests that failed", 300, _search(plan, names.TOKENS, names.ERRORS, "Sum", 300), stacked=True),
        _one("Time to the first token, p95, s", 60, _search(plan, names.TOKENS, names.FIRST_TOKEN, "p95", 60)),
        _one("By the models' prices, USD per hour", 3600, _search(plan, names.COST, names.LIST_PRICE, "Sum", 3600)),
    ]
    dearest = max((usd_of_gpu(plan, each) for each in gpu_types(plan)), default=None)
    if dearest is not None and plan.gpu_exporter == "addon":
        found.append(_per_million(plan, dearest))
    return found


_HIDDEN = {"visible": False}


def _one(title: str, period: int, expression: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "period": period, **more, "metrics": [[{"expression": expression, "id": "q"}]]}


def _per_million(plan: Plan, usd_per_gpu_hour: Decimal) -> dict[str, Any]:
    """Each node says its GPUs once a minute: the sum of an hour is GPU-minutes."""
    gpus = [
        *(INSIGHTS, "node_gpu_limit", "ClusterName", plan.cluster),
        {"id": "m1", "stat": "Sum", "visible": False},
    ]
    asked = [
        (id, _search(plan, names.TOKENS, name, "Sum", 3600))
        for id, name in (("p", names.PROMPT), ("c", names.COMPLETION))
    ]
    return {
        "title": "USD of GPUs per million tokens, at most",
        "period": 3600,
        "metrics": [
            [
                {
                    "expression": f"(m1/60*{usd_per_gpu_hour:f})/((p+c)/1000000)",
                    "label": f"each GPU at {usd_per_gpu_hour:f} USD an hour, the dearest that the pools allow",
                    "id": "e1",
                }
            ],
            *([{"expression": f"SUM({search})", "id": id, **_HIDDEN}] for id, search in asked),
            gpus,
        ],
    }


def _queues(plan: Plan) -> list[dict[str, Any]]:
    found = [
        _one(title, 60, _search(plan, names.QUEUE, metric, stat, 60))
        for title, metric, stat in (
            ("Tasks that wait", names.WAITING, "Maximum"),
            ("Tasks that run", names.RUNNING, "Maximum"),
            ("Requests past the queue", names.IN_FLIGHT, "Sum"),
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


def _search(plan: Plan, namespace: str, metric: str, stat: str, period: int) -> str:
    """All series of a metric, whatever models there are."""
    dimensions = f"{{{namespace},{names.CLUSTER},{names.MODEL}}}"
    return f"""SEARCH('{dimensions} MetricName="{metric}" {names.CLUSTER}="{plan.cluster}"', '{stat}', {period})"""
