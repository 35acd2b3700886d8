"""Grafana dashboards: panels as rows of a table, laid out from left to right, as the JSON that Grafana reads.

Like the rules, a panel is there only where what its expressions name is published. Source of the fields: Grafana docs,
dashboard JSON model.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stoker.render.metric_names import names_in, published
from stoker.render.monitoring_rules import recorded
from stoker.render.plan import Plan

SCHEMA_VERSION = 41  # Grafana 12
COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    title: str
    queries: Sequence[tuple[str, str]]
    """Expression and legend."""
    unit: str = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8
    height: int = 8
    about: str = ""
    stacked: bool = False


def texts(plan: Plan) -> dict[str, str]:
    """The JSON of each dashboard by name; one without any panel left is left out."""
    known = published(plan, recorded(plan) if plan.spec.global_.observability.prometheus else ())
    found = {}
    for name, (title, panels) in _all(plan).items():
        kept = [panel for panel in panels if all(names_in(expr) <= known for expr, _ in panel.queries)]
        if kept:
            found[name] = json.dumps(_dashboard(name, title, kept), indent=1) + "\n"
    return found


def _all(plan: Plan) -> dict[str, tuple[str, Sequence[Panel]]]:
    return {
        "platform": ("Stoker / Platform", _PLATFORM),
        "gpus": ("Stoker / GPUs", _GPUS),
        "cost": ("Stoker / Cost", _COST),
        "scaling": ("Stoker / Queue and scaling", _scaling(plan)),
    }


_MODELS = 'model=~"$model"'
_PLATFORM = (
    Panel(
        "Requests per second",
        [(f"sum by (status) (stoker:requests:rate5m{{{_MODELS}}})", "{{status}}")],
        "reqps",
        stacked=True,
    ),
    Panel(
        "Requests that failed",
        [(f"stoker:errors:ratio5m{{{_MODELS}}}", "{{model}}")],
        "percentunit",
        about="Ended with an error, or with the death of their process.",
    ),
    Panel(
        "Refused per second",
        [("sum by (code) (rate(stoker_refused_total[5m]))", "{{code}}")],
        "reqps",
        about="Answered with an error before they ran: a key, a budget, a limit, a full queue.",
    ),
    Panel(
        "Time to the first token",
        [
            (f"stoker:time_to_first_token_seconds:p{part}{{{_MODELS}}}", f"{{{{model}}}} p{part}")
            for part in (50, 95, 99)
        ],
        "s",
        width=12,
    ),
    Panel(
        "Duration of a request, p95",
        [
            (
                "histogram_quantile(0.95, sum by (model, le) "
                f"(rate(stoker_request_duration_seconds_bucket{{{_MODELS}}}[5m])))",
                "{{model}}",
            )
        ],
        "s",
        width=12,
    ),
    Panel(
        "Tokens per second",
        [(f"stoker:tokens:rate5m{{{_MODELS}}}", "{{model}} {{type}}")],
        stacked=True,
    ),
    Panel(
        "Replicas that answer",
        [(f"stoker:replicas_up:max{{{_MODELS}}}", "{{model}}")],
    ),
    Panel(
        "Tasks that wait",
        [(f"stoker:queue_lag:max{{{_MODELS}}}", "{{model}}")],
    ),
    Panel(
        "Running on engines",
        [(f"sum by (model) (vllm:num_requests_running{{{_MODELS}}})", "{{model}}")],
    ),
    Panel(
        "Waiting in engines",
        [(f"sum by (model) (vllm:num_requests_waiting{{{_MODELS}}})", "{{model}}")],
    ),
    Panel(
        "KV cache in use",
        [(f"avg by (model) (vllm:kv_cache_usage_perc{{{_MODELS}}})", "{{model}}")],
        "percentunit",
    ),
)
_GPU = "{{node}} {{gpu}} {{pod}}"
_ON = 'node=~"$node"'
_GPUS = (
    Panel(
        "GPUs", [("sum by (instance_type, capacity_type) (stoker:gpus:count)", "{{instance_type}} {{capacity_type}}")]
    ),
    Panel("GPUs of each model", [("sum by (model) (stoker:gpus:count)", "{{model}}")], stacked=True),
    Panel("Utilization by model", [(f"avg by (model) (DCGM_FI_DEV_GPU_UTIL{{{_ON}}})", "{{model}}")], "percent"),
    Panel(
        "Utilization",
        [(f"DCGM_FI_DEV_GPU_UTIL{{{_ON}}}", _GPU)],
        "percent",
        width=12,
        about="Part of the time in which any kernel ran: 100 % does not mean that the GPU could do no more.",
    ),
    Panel(
        "Tensor cores",
        [(f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{_ON}}}", _GPU)],
        "percentunit",
        width=12,
        about="What a GPU is bought for. Decoding is bound by memory, so that a low number is usual.",
    ),
    Panel(
        "Memory in use",
        [(f"DCGM_FI_DEV_FB_USED{{{_ON}}} / (DCGM_FI_DEV_FB_USED{{{_ON}}} + DCGM_FI_DEV_FB_FREE{{{_ON}}})", _GPU)],
        "percentunit",
        about="vLLM takes nine tenths at its start.",
    ),
    Panel("Memory bus", [(f"DCGM_FI_PROF_DRAM_ACTIVE{{{_ON}}}", _GPU)], "percentunit"),
    Panel("Power", [(f"DCGM_FI_DEV_POWER_USAGE{{{_ON}}}", _GPU)], "watt"),
    Panel("Temperature", [(f"DCGM_FI_DEV_GPU_TEMP{{{_ON}}}", _GPU)], "celsius"),
    Panel("Last XID error", [(f"DCGM_FI_DEV_XID_ERRORS{{{_ON}}}", _GPU)], "none"),
    Panel("Uncorrected memory errors since boot", [(f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{_ON}}}", _GPU)], "none"),
)
_COST = (
    Panel(
        "Machines by pool, USD per hour",
        [("max by (nodepool, capacity) (stoker_machine_usd_per_hour)", "{{nodepool}} {{capacity}}")],
        "currencyUSD",
        width=12,
        stacked=True,
        about="What the ledger has of the machines that are there, volumes and fees too.",
    ),
    Panel(
        "Machines by model, USD per hour",
        [("max by (model) (stoker_model_usd_per_hour)", "{{model}}")],
        "currencyUSD",
        width=12,
        stacked=True,
        about="(idle): what no replica has of a machine. `stoker cost` splits it over tenants.",
    ),
    Panel(
        "GPUs, USD per hour",
        [("sum(stoker:gpu_usd_per_hour)", "all")],
        "currencyUSD",
        "stat",
        about="Whole nodes, idle ones too. Spot at its price of now where Karpenter publishes it, else on demand.",
    ),
    Panel("Billed, USD per hour", [("sum(stoker:billed_usd_per_hour)", "all")], "currencyUSD", "stat"),
    Panel(
        "GPUs, USD per million tokens",
        [("stoker:gpu_usd_per_million_tokens", "all")],
        "currencyUSD",
        "stat",
        about="Of the last hour. Without a token it is not defined.",
    ),
    Panel(
        "GPUs by model, USD per hour",
        [("sum by (model) (stoker:gpu_usd_per_hour)", "{{model}}")],
        "currencyUSD",
        width=12,
        stacked=True,
        about="Without a name: GPUs that no model holds.",
    ),
    Panel(
        "GPUs by node, USD per hour",
        [
            (
                "sum by (instance_type, capacity_type) (stoker:gpu_usd_per_hour)",
                "{{instance_type}} {{capacity_type}}",
            )
        ],
        "currencyUSD",
        width=12,
        stacked=True,
    ),
    Panel(
        "Billed by model, USD per hour",
        [(f"stoker:billed_usd_per_hour{{{_MODELS}}}", "{{model}}")],
        "currencyUSD",
        width=12,
        about="By the prices of the spec, cached input at the price of input: `stoker cost` has the exact bill.",
    ),
    Panel(
        "USD per million tokens by model",
        [(f"stoker:gpu_usd_per_million_tokens:model{{{_MODELS}}}", "{{model}}")],
        "currencyUSD",
        width=12,
    ),
    Panel(
        "Tokens of the last day",
        [(f"sum by (model, type) (increase(stoker_tokens_total{{{_MODELS}}}[1d]))", "{{model}} {{type}}")],
        kind="table",
        width=12,
    ),
    Panel(
        "Prices, USD per million tokens",
        [(f"stoker:price_usd_per_million_tokens{{{_MODELS}}}", "{{model}} {{type}}")],
        "currencyUSD",
        "table",
        width=12,
    ),
)


def _scaling(plan: Plan) -> tuple[Panel, ...]:
    ours = f'namespace="{plan.namespace}"'
    return (
        Panel(
            "Tasks that wait",
            [
                (f"stoker:queue_lag:max{{{_MODELS}}}", "{{model}}"),
                (f"stoker:capacity_tasks{{{_MODELS}}}", "{{model}}: what all replicas can run"),
            ],
        ),
        Panel("Tasks that run", [(f"stoker:queue_pending:max{{{_MODELS}}}", "{{model}}")]),
        Panel("Tasks before another attempt", [(f"max by (model) (stoker_queue_delayed{{{_MODELS}}})", "{{model}}")]),
        Panel("Tokens that wait", [(f"max by (model) (stoker_queue_waiting_tokens{{{_MODELS}}})", "{{model}}")]),
        Panel("Requests past the queue", [(f"sum by (model) (stoker_requests_in_flight{{{_MODELS}}})", "{{model}}")]),
        Panel("What KEDA reads", [("keda_scaler_metrics_value", "{{scaledObject}} {{metric}}")]),
        Panel(
            "Replicas wanted and allowed",
            [
                (
                    f"kube_horizontalpodautoscaler_status_desired_replicas{{{ours}}}",
                    "{{horizontalpodautoscaler}}",
                ),
                (
                    f"kube_horizontalpodautoscaler_spec_max_replicas{{{ours}}}",
                    "{{horizontalpodautoscaler}} at most",
                ),
            ],
            width=12,
        ),
        Panel(
            "Replicas ready and wanted",
            [
                (f"kube_deployment_status_replicas_ready{{{ours}}}", "{{deployment}} ready"),
                (f"kube_deployment_spec_replicas{{{ours}}}", "{{deployment}} wanted"),
            ],
            width=12,
        ),
        Panel(
            "Pods that wait for a node",
            [
                (
                    f'sum by (namespace) (kube_pod_status_phase{{phase="Pending",namespace=~"{plan.namespace}.*"}})',
                    "{{namespace}}",
                )
            ],
        ),
        Panel(
            "Nodes made and removed in an hour",
            [
                ("sum by (nodepool) (increase(karpenter_nodeclaims_created_total[1h]))", "{{nodepool}} made"),
                (
                    "sum by (nodepool, reason) (increase(karpenter_nodeclaims_disrupted_total[1h]))",
                    "{{nodepool}} {{reason}}",
                ),
            ],
        ),
        Panel(
            "Messages of EC2 in an hour",
            [
                (
                    "sum by (message_type) (increase(karpenter_interruption_received_messages_total[1h]))",
                    "{{message_type}}",
                )
            ],
            about="Spot interruptions among them.",
        ),
        Panel(
            "Limits of the pools",
            [
                (
                    "karpenter_nodepools_usage / on (nodepool, resource_type) (karpenter_nodepools_limit > 0)",
                    "{{nodepool}} {{resource_type}}",
                )
            ],
            "percentunit",
        ),
        Panel(
            "Memory of Redis",
            [("redis_memory_used_bytes", "{{pod}}"), ("redis_memory_max_bytes > 0", "{{pod}} at most")],
            "bytes",
        ),
    )


def _dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    used = {each for panel in panels for expr, _ in panel.queries for each in ("model", "node") if f"${each}" in expr}
    variables = [_datasource(), *(_values_of(each) for each in sorted(used))]
    return {
        "uid": f"stoker-{name}",
        "title": title,
        "tags": ["stoker"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Stoker", "tags": ["stoker"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": variables},
        "panels": _laid_out(panels),
    }


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0}


def _values_of(label: str) -> dict[str, Any]:
    metric = {"model": "stoker_replicas", "node": "DCGM_FI_DEV_FB_USED"}[label]
    return {
        "type": "query",
        "name": label,
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({metric}, {label})", "refId": label},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _laid_out(panels: Iterable[Panel]) -> list[dict[str, Any]]:
    """From left to right; one that has no room left begins the next row, below the highest of this one."""
    found: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        found.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
        x, row = x + panel.width, max(row, panel.height)
    return found


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    is_instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _DATASOURCE,
            "expr": expr,
            "legendFormat": legend,
            **({"instant": True, "range": False} if is_instant else {"range": True}),
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, (expr, legend) in enumerate(panel.queries)
    ]
    drawn = {"stacking": {"mode": "normal"}, "fillOpacity": 20} if panel.stacked else {"fillOpacity": 5}
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"showPoints": "never", **drawn}}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "type": panel.kind,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
    }
