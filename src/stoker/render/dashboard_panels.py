"""What Grafana's dashboards show: panels as rows of a table. `dashboards` lays them out, and leaves out those of which
something is not published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stoker.render.plan import Plan


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
    needs: frozenset[str] = frozenset()
    """Metrics without which it could show nothing, beside those that its expressions name."""


def boards(plan: Plan) -> Mapping[str, tuple[str, Sequence[Panel]]]:
    """By name: the title, and all panels that there could be."""
    return {
        "platform": ("Stoker / Platform", _PLATFORM),
        "gpus": ("Stoker / GPUs", _GPUS),
        "cost": ("Stoker / Cost", _COST),
        "scaling": ("Stoker / Queue and scaling", _scaling(plan)),
        "training": ("Stoker / Training", _TRAINING),
    }


_MODELS = 'model=~"$model"'


def _p95(buckets: str) -> str:
    return f"histogram_quantile(0.95, sum by (model, le) (rate({buckets}{{{_MODELS}}}[5m])))"


_PLATFORM = (
    Panel(
        "What fires",
        [('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}}")],
        kind="table",
        width=24,
        height=6,
        about="Each alert has a runbook: monitoring/rules.yaml, or `rules.yml` beside `stoker up`.",
    ),
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
        [(_p95("stoker_request_duration_seconds_bucket"), "{{model}}")],
        "s",
        width=12,
    ),
    Panel(
        "Time per token of an answer, p95", [(_p95("stoker_time_per_output_token_seconds_bucket"), "{{model}}")], "s"
    ),
    Panel("Between two tokens in engines, p95", [(_p95("vllm:inter_token_latency_seconds_bucket"), "{{model}}")], "s"),
    Panel("Wait in engines, p95", [(_p95("vllm:request_queue_time_seconds_bucket"), "{{model}}")], "s"),
    Panel(
        "Tokens per second",
        [(f"stoker:tokens:rate5m{{{_MODELS}}}", "{{model}} {{type}}")],
        stacked=True,
    ),
    Panel(
        "Input that a cache had",
        [
            (
                f"sum by (model) (rate(stoker_cached_tokens_total{{{_MODELS}}}[5m])) "
                f'/ (sum by (model) (rate(stoker_tokens_total{{{_MODELS},type="input"}}[5m])) > 0)',
                "{{model}}",
            )
        ],
        "percentunit",
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
        "Warnings",
        [('count by (alertname, severity, node, gpu) (ALERTS{alertname=~"Gpu.*",alertstate="firing"})', _GPU)],
        kind="table",
        width=24,
        height=6,
        about="`stoker gpus` says the same, with the evidence.",
        needs=frozenset({"DCGM_FI_DEV_GPU_UTIL"}),
    ),
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
        "Billed by list price, USD per hour",
        [(f"sum by (model) (rate(stoker_billed_usd_total{{{_MODELS}}}[1h])) * 3600", "{{model}}")],
        "currencyUSD",
        width=12,
        about="What usage records say, cached input at its own price.",
    ),
    Panel(
        "Budgets that are nearly used up, or are",
        [
            ('max by (scope) (stoker_budgets{used="0.95-1"})', "{{scope}}: less than 5 % left"),
            ('max by (scope) (stoker_budgets{used="all"})', "{{scope}}: nothing left"),
        ],
        width=12,
        about="`stoker budgets` says whose.",
    ),
    Panel(
        "Budgets by how much of them is spent",
        [("sum by (used) (max by (scope, used) (stoker_budgets))", "{{used}}")],
        width=12,
        stacked=True,
    ),
    Panel(
        "Set aside, USD",
        [("sum(stoker_reserved_usd)", "for requests that run")],
        "currencyUSD",
        width=12,
        about="Reserved of budgets until the request has ended and its true cost is known.",
    ),
    Panel(
        "Set aside, tokens",
        [
            ("sum(stoker_reserved_tokens)", "for requests that run"),
            ("sum(max by (model) (stoker_queue_waiting_tokens))", "for tasks that wait"),
        ],
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


_RUN = "{{run}} {{instance}}"
_TRAINING = (
    Panel("Steps done", [("stoker_train_step / (stoker_train_steps > 0)", _RUN)], "percentunit"),
    Panel("Loss", [("stoker_train_loss", _RUN)], "none"),
    Panel("Tokens per second", [("stoker_train_tokens_per_second", _RUN)]),
    Panel(
        "Goodput",
        [("stoker_train_goodput_ratio", _RUN)],
        "percentunit",
        about="Part of the time that made steps which count. `stoker runs show` says what the rest was.",
    ),
    Panel("Lost work", [("stoker_train_lost_work_seconds", _RUN)], "s"),
    Panel("Cost, USD", [("stoker_train_usd", _RUN)], "currencyUSD"),
    Panel(
        "Age of the last checkpoint",
        [("stoker_train_checkpoint_age_seconds", _RUN)],
        "s",
        about="What an end of the machine now would cost.",
    ),
    Panel(
        "Save of a checkpoint, mean of an hour",
        [
            (
                "rate(stoker_train_save_seconds_sum[1h]) / (rate(stoker_train_save_seconds_count[1h]) > 0)",
                f"{_RUN} {{{{part}}}}",
            )
        ],
        "s",
        about="wait: training stood still; whole: until it was durable. It has to be less than the notice of spot.",
    ),
    Panel(
        "Saves that failed in an hour",
        [("increase(stoker_train_save_failures_total[1h])", _RUN)],
    ),
    Panel("Size of a checkpoint", [("stoker_train_save_bytes", _RUN)], "bytes"),
    Panel("Read of the checkpoint that it went on from", [("stoker_train_restore_seconds", _RUN)], "s"),
    Panel("Machines", [("stoker_train_nodes", _RUN)]),
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
        Panel(
            "Age of the oldest task",
            [(f"max by (model) (stoker_queue_oldest_seconds{{{_MODELS}}})", "{{model}}")],
            "s",
        ),
        Panel(
            "Dead letters",
            [(f"max by (model) (stoker_queue_dead{{{_MODELS}}})", "{{model}}")],
            about="`stoker tasks dead` says why.",
        ),
        Panel("Tasks that run", [(f"stoker:queue_pending:max{{{_MODELS}}}", "{{model}}")]),
        Panel("Tasks before another attempt", [(f"max by (model) (stoker_queue_delayed{{{_MODELS}}})", "{{model}}")]),
        Panel("Tokens that wait", [(f"max by (model) (stoker_queue_waiting_tokens{{{_MODELS}}})", "{{model}}")]),
        Panel("Requests past the queue", [(f"sum by (model) (stoker_requests_in_flight{{{_MODELS}}})", "{{model}}")]),
        Panel(
            "Claims of workers per minute, by how they ended",
            [(f"60 * sum by (outcome) (rate(stoker_worker_claims_total{{{_MODELS}}}[5m]))", "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Tried again per minute",
            [
                (f"60 * sum by (model) (rate(stoker_worker_retries_total{{{_MODELS}}}[5m]))", "{{model}}"),
                (
                    f"60 * sum by (model) (rate(stoker_worker_reclaimed_total{{{_MODELS}}}[5m]))",
                    "{{model}}: taken back from a worker that was lost",
                ),
            ],
        ),
        Panel(
            "Tasks on workers",
            [
                (f"sum by (model) (stoker_worker_running{{{_MODELS}}})", "{{model}}"),
                (f"sum by (model) (stoker_worker_capacity{{{_MODELS}}})", "{{model}} at most"),
            ],
        ),
        Panel(
            "Workers whose engine answers",
            [(f"sum by (model) (stoker_worker_in_service{{{_MODELS}}})", "{{model}}")],
        ),
        Panel(
            "Steps of agents that wait and run",
            [
                ("max(stoker_agent_steps_waiting)", "wait"),
                ("sum(stoker_agent_steps_running)", "run"),
                ("sum(stoker_agent_steps_at_once)", "at most"),
            ],
        ),
        Panel(
            "Steps of agents per minute, by how they ended",
            [
                ("60 * sum by (outcome) (rate(stoker_agent_steps_total[5m]))", "{{outcome}}"),
                ("max(stoker_agent_steps_dead)", "dead letters"),
            ],
        ),
        Panel(
            "How long a replica takes to start",
            [(f"max by (model, phase) (stoker_start_seconds{{{_MODELS}}})", "{{model}} {{phase}}")],
            "s",
            width=12,
            stacked=True,
            about="Medians of the last day. `stoker starts` has each start, its dollars, and what would help.",
        ),
        Panel(
            "Starts of replicas in a day",
            [(f"max by (model) (stoker_starts{{{_MODELS}}})", "{{model}}")],
            width=12,
        ),
        Panel(
            "Replicas, and why so many",
            [
                (f"max by (model, reason) (stoker_scale_replicas{{{_MODELS}}})", "{{model}}: {{reason}}"),
                (f"max by (model) (stoker_scale_ready_replicas{{{_MODELS}}})", "{{model}} ready"),
            ],
            width=12,
            about="`stoker scale` has each decision with its numbers.",
        ),
        Panel(
            "Decisions in an hour",
            [
                (
                    f"sum by (model, reason) (increase(stoker_scale_decisions_total{{{_MODELS}}}[1h]))",
                    "{{model}}: {{reason}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Processes",
            [("sum by (role, state) (stoker_processes)", "{{role}} {{state}}")],
            width=12,
        ),
        Panel(
            "Processes begun again in an hour",
            [("sum by (role) (increase(stoker_process_restarts_total[1h]))", "{{role}}")],
            width=12,
        ),
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
