"""Recording rules and alerts for Prometheus, from the spec: capacity of queues, prices of tokens and of nodes.

A rule is rendered only where all that its expression names is published (`metric_names.published`): an alert on a
metric that is not there would never fire, and nobody would know. Thresholds that no key of the spec says stand here
with their reason.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.xids import HARDWARE_XIDS
from stoker.policy import gpu_health
from stoker.render.metric_names import LOCAL, names_in, published, publishers
from stoker.render.plan import Plan

Severity = Literal["critical", "warning", "info"]

SLOW_FIRST_TOKEN_S = 10
"""Nobody waits longer for the first word of an answer."""
ERRORS_PART = 0.05
SPOT_PER_HOUR = 5
OLD_TASK_S = 900
"""A task that waits so long is one that somebody asks about."""
RETRIED_PART = 0.2
RESTARTS = 3
CHECKPOINT_OLD_S = 3600
GOODPUT_LOW = 0.8
LOCAL_HURRY = 60
"""On one machine an alert waits a second where the cluster's waits a minute: nobody is woken, and who tries out a rule
does not want to wait. Not less than LOCAL_LEAST_S, two looks: Prometheus itself has to see everybody first."""
LOCAL_LEAST_S = 10
BUDGET_CODE = "budget_exhausted"
NEARLY_USED_UP = "0.95-1"
"""Of `policy.alerts.PARTS`."""
ENDED_BADLY = "failed|lost"


@dataclass(frozen=True)
class Record:
    name: str
    expr: str
    labels: tuple[tuple[str, str], ...] = ()

    def written(self) -> dict[str, Any]:
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expr, **labels}


@dataclass(frozen=True)
class Alert:
    name: str
    expr: str
    lasts: str
    severity: Severity
    summary: str
    runbook: str

    def written(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "runbook": self.runbook},
        }


Rule = Record | Alert
Group = tuple[str, list[Rule]]


def groups(plan: Plan, *, is_local: bool = False) -> list[Group]:
    """All groups with the rules whose metrics are there, in the order of evaluation. `is_local`: of one machine."""
    kept: list[Group] = []
    recorded: set[str] = set()
    for name, rules in _all_groups(plan, is_local=is_local):
        found: list[Rule] = []
        for rule in rules:
            if names_in(rule.expr) <= published(plan, recorded, by=LOCAL if is_local else None):
                found.append(rule)
                if isinstance(rule, Record):
                    recorded.add(rule.name)
        if found:
            kept.append((name, found))
    return kept


def local(plan: Plan) -> dict[str, Any]:
    """A file of rules for a Prometheus beside `stoker up`, whose alerts wait LOCAL_HURRY times less."""
    found = []
    for name, rules in groups(plan, is_local=True):
        written = [rule.written() for rule in rules]
        for rule in written:
            if "for" in rule:
                rule["for"] = f"{_hurried(rule['for'])}s"
        found.append({"name": name, "rules": written})
    return {"groups": found}


def _hurried(duration: str) -> int:
    seconds = int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]
    return max(LOCAL_LEAST_S, seconds // LOCAL_HURRY) if seconds else 0


def recorded(plan: Plan, *, is_local: bool = False) -> frozenset[str]:
    every = groups(plan, is_local=is_local)
    return frozenset(rule.name for _, rules in every for rule in rules if isinstance(rule, Record))


def _all_groups(plan: Plan, *, is_local: bool) -> list[tuple[str, Iterable[Rule]]]:
    return [
        ("stoker.prices", [*_token_prices(plan), *_node_prices(plan), *_capacities(plan, is_local=is_local)]),
        ("stoker.records", _RECORDS),
        ("stoker.cost", _cost(plan)),
        ("stoker.requests", _request_alerts(plan)),
        ("stoker.tasks", _task_alerts()),
        ("stoker.training", _TRAINING_ALERTS),
        ("stoker.gpus", _gpu_alerts()),
        ("stoker.nodes", _node_alerts(plan)),
        ("stoker.redis", _REDIS_ALERTS),
    ]


_RECORDS = [
    Record("stoker:requests:rate5m", "sum by (model, status) (rate(stoker_requests_total[5m]))"),
    Record("stoker:tokens:rate5m", "sum by (model, type) (rate(stoker_tokens_total[5m]))"),
    Record(
        "stoker:errors:ratio5m",
        f'sum by (model) (rate(stoker_requests_total{{status=~"{ENDED_BADLY}"}}[5m])) '
        "/ (sum by (model) (rate(stoker_requests_total[5m])) > 0)",
    ),
    *(
        Record(
            f"stoker:time_to_first_token_seconds:p{int(part * 100)}",
            f"histogram_quantile({part}, sum by (model, le) (rate(stoker_time_to_first_token_seconds_bucket[5m])))",
        )
        for part in (0.5, 0.95, 0.99)
    ),
    # Each gateway tells the same numbers of the one queue, so the highest, not the sum.
    Record("stoker:queue_lag:max", "max by (model) (stoker_queue_lag)"),
    Record("stoker:queue_pending:max", "max by (model) (stoker_queue_pending)"),
    # A gateway's breakers are its own opinion: a replica is there when any gateway gets through to it.
    Record(
        "stoker:replicas_up:max",
        'max by (model) (sum by (model, pod) (stoker_replicas{breaker!="open"}))',
    ),
]


def _token_prices(plan: Plan) -> Iterator[Record]:
    """What a tenant pays, by `llm.models.*.prices`. The gateway counts cached tokens among the input, so what they cost
    less is not seen here: usage and bills have it (`stoker cost`)."""
    for name, model in plan.spec.llm.models.items():
        for kind, price in (
            ("input", model.prices.input_usd_per_million_tokens),
            ("output", model.prices.output_usd_per_million_tokens),
        ):
            yield Record(
                "stoker:price_usd_per_million_tokens", f"vector({_number(price)})", (("model", name), ("type", kind))
            )


def _node_prices(plan: Plan) -> Iterator[Record]:
    """Of one GPU of each type that a pool allows, on demand, by the catalogue."""
    for each in gpu_types(plan):
        yield Record(
            "stoker:gpu_usd_per_hour:on_demand",
            f"vector({_number(usd_of_gpu(plan, each))})",
            (("instance_type", each.name),),
        )
        yield Record("stoker:gpus_of_type", f"vector({each.gpu_count})", (("instance_type", each.name),))


def gpu_types(plan: Plan) -> list[InstanceType]:
    """The priced types with GPUs that any pool allows, by name."""
    found = {each.name: each for pool in plan.pools for each in pool.types if each.gpu_count and each.prices}
    return [found[name] for name in sorted(found)]


def usd_of_gpu(plan: Plan, instance: InstanceType) -> Decimal:
    """In the region of the cluster, else in us-east-1, else the dearest region that is known."""
    price = instance.usd_per_hour(plan.region) or instance.usd_per_hour() or max(instance.prices.values())
    return (Decimal(repr(price)) / instance.gpu_count).quantize(Decimal("0.0001"))


def _capacities(plan: Plan, *, is_local: bool) -> Iterator[Record]:
    for name, tasks in capacities(plan, is_local=is_local).items():
        yield Record("stoker:capacity_tasks", f"vector({tasks})", (("model", name),))


def capacities(plan: Plan, *, is_local: bool = False) -> dict[str, int]:
    """By model, how many requests its most replicas run at once. A longer queue waits for a second round."""
    spec = plan.spec
    if is_local:
        return {
            name: spec.local_replicas(name).max * model.limits.concurrency for name, model in spec.llm.models.items()
        }
    return {name: spec.cluster_replicas(name).max * spec.cluster_limits(name).concurrency for name in spec.llm.models}


def _cost(plan: Plan) -> Iterator[Record]:
    """Dollars of GPUs by model (a GPU that no model holds has none) and of tokens. A node has as many series as GPUs,
    so that counting GPUs pays for whole nodes, idle ones included."""
    gpus = (
        "count by (model, instance_type, capacity_type, zone) "
        "(max by (model, instance_type, capacity_type, zone, node, gpu) (DCGM_FI_DEV_FB_USED))"
    )
    yield Record("stoker:gpus:count", gpus)
    on_demand = "stoker:gpus:count * on (instance_type) group_left () stoker:gpu_usd_per_hour:on_demand"
    if "karpenter" in publishers(plan):
        # Karpenter knows what spot costs now, by zone. Reserved capacity is 0 there, and is paid for nevertheless.
        price = (
            "(max by (instance_type, capacity_type, zone) "
            "(karpenter_cloudprovider_instance_type_offering_price_estimate) > 0)"
        )
        now = (
            f"stoker:gpus:count * on (instance_type, capacity_type, zone) group_left () {price} "
            "/ on (instance_type) group_left () stoker:gpus_of_type"
        )
        yield Record("stoker:gpu_usd_per_hour", f"({now}) or ({on_demand})")
    else:
        yield Record("stoker:gpu_usd_per_hour", on_demand)
    yield Record(
        "stoker:billed_usd_per_hour",
        "sum by (model) (sum by (model, type) (rate(stoker_tokens_total[1h])) * 3600 / 1000000 "
        "* on (model, type) group_left () stoker:price_usd_per_million_tokens)",
    )
    tokens = "(sum by (model) (rate(stoker_tokens_total[1h])) * 3600 / 1000000 > 0)"
    yield Record(
        "stoker:gpu_usd_per_million_tokens:model",
        f'sum by (model) (stoker:gpu_usd_per_hour{{model!=""}}) / {tokens}',
    )
    yield Record("stoker:gpu_usd_per_million_tokens", f"sum(stoker:gpu_usd_per_hour) / sum({tokens})")


def _request_alerts(plan: Plan) -> Iterator[Alert]:
    yield Alert(
        "GatewayDown",
        'absent(up{job="gateway"} == 1)',
        "2m",
        "critical",
        "No gateway answers Prometheus.",
        "kubectl get pods -l app.kubernetes.io/name=gateway; requests are refused until one is ready.",
    )
    yield Alert(
        "QueueLong",
        "stoker:queue_lag:max > on (model) stoker:capacity_tasks",
        "10m",
        "warning",
        "More tasks wait for {{ $labels.model }} than all of its replicas can run at once.",
        "See whether replicas are at their maximum (ReplicasAtMaximum) or nodes do not come (PodsWaitForGpu); raise "
        "maxReplicas or the pool's limits.",
    )
    yield Alert(
        "QueueStuck",
        "stoker:queue_lag:max > 0 unless on (model) stoker:queue_pending:max > 0",
        "10m",
        "critical",
        "Tasks wait for {{ $labels.model }} and none runs.",
        "See whether a replica is up, then the logs of its worker, then `stoker tasks list`.",
    )
    yield Alert(
        "QueueUnknown",
        "absent(stoker_queue_lag)",
        "5m",
        "critical",
        "No gateway can tell the depth of the queue.",
        "The gateways do not reach Redis: see its pods, its password and the network policies.",
    )
    always = [name for name in plan.spec.llm.models if not plan.spec.may_be_at_zero(name)]
    if always:
        yield Alert(
            "NoReplica",
            f'stoker:replicas_up:max{{model=~"{"|".join(always)}"}} == 0',
            "5m",
            "critical",
            "{{ $labels.model }} has no replica.",
            "kubectl describe the pods of model-{{ $labels.model }}: an image, weights that do not load, or no node.",
        )
    yield Alert(
        "NoReplicaForTasks",
        "stoker:queue_lag:max > 0 and on (model) stoker:replicas_up:max == 0",
        "15m",
        "critical",
        "Tasks wait for {{ $labels.model }}, which has no replica.",
        "See the ScaledObject's conditions and events, then whether a node comes for its pods.",
    )
    yield Alert(
        "DeadLetters",
        # Where nobody looked 15 minutes ago, there was none: new with Prometheus itself, or with the model.
        "max by (model) (stoker_queue_dead) "
        "> (max by (model) (stoker_queue_dead offset 15m) or 0 * max by (model) (stoker_queue_dead))",
        "0m",
        "warning",
        "Tasks of {{ $labels.model }} were given up.",
        "`stoker tasks dead` says why; `stoker tasks replay` puts back what is mended.",
    )
    yield Alert(
        "ManyErrors",
        f"stoker:errors:ratio5m > {ERRORS_PART}",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} fail.",
        "See the logs of the gateway for `code`, then those of the engine.",
    )
    yield Alert(
        "SlowFirstToken",
        f"stoker:time_to_first_token_seconds:p95 > {SLOW_FIRST_TOKEN_S}",
        "10m",
        "warning",
        "One in twenty waits more than {{ $value | humanizeDuration }} for the first token of {{ $labels.model }}.",
        "See running_count and maxReplicas of the model, and whether prompts became longer.",
    )
    yield Alert(
        "CacheFull",
        "avg by (model) (vllm:kv_cache_usage_perc) > 0.95 "
        "and on (model) sum by (model) (vllm:num_requests_waiting) > 0",
        "10m",
        "warning",
        "The KV cache of {{ $labels.model }} is full and requests wait in the engine.",
        "Lower limits.concurrency or contextTokens, or give the model a larger GPU.",
    )
    yield Alert(
        "ScalerErrors",
        "sum by (exported_namespace, scaledObject) (increase(keda_scaler_detail_errors_total[10m])) > 0",
        "10m",
        "warning",
        "KEDA cannot read a trigger of {{ $labels.scaledObject }}.",
        "kubectl describe the ScaledObject; its fallback holds the replicas meanwhile.",
    )
    ours = f'namespace="{plan.namespace}"'
    yield Alert(
        "ReplicasAtMaximum",
        f"kube_horizontalpodautoscaler_status_desired_replicas{{{ours}}} "
        f">= on (namespace, horizontalpodautoscaler) kube_horizontalpodautoscaler_spec_max_replicas{{{ours}}} "
        f"> on (namespace, horizontalpodautoscaler) kube_horizontalpodautoscaler_spec_min_replicas{{{ours}}}",
        "15m",
        "warning",
        "{{ $labels.horizontalpodautoscaler }} is at its maximum.",
        "If the queue grows, raise replicas.max of the model, and the limits of its pool with it.",
    )


def _task_alerts() -> Iterator[Alert]:
    yield Alert(
        "TaskTooOld",
        f"max by (model) (stoker_queue_oldest_seconds) > {OLD_TASK_S}",
        "1m",
        "warning",
        "A task has waited {{ $value | humanizeDuration }} for {{ $labels.model }}.",
        "See QueueLong and QueueStuck; if only one tenant waits, its weight: `stoker tasks list` says whose it is.",
    )
    yield Alert(
        "ManyRetries",
        "sum by (model) (rate(stoker_worker_retries_total[10m])) "
        f"/ (sum by (model) (rate(stoker_worker_claims_total[10m])) > 0) > {RETRIED_PART}",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} of what workers of {{ $labels.model }} do was tried before.",
        "See the attempts of a task (`stoker tasks show`) for why they fail, then the log of the engine.",
    )
    yield Alert(
        "NoWorkerInService",
        "max by (model) (stoker_worker_in_service) == 0",
        "5m",
        "critical",
        "No worker of {{ $labels.model }} has an engine that answers.",
        "See the log of the engine: it does not start, or it is stuck. Its worker goes on as soon as it answers.",
    )
    yield Alert(
        "BudgetUsedUp",
        f'sum by (code) (increase(stoker_refused_total{{code="{BUDGET_CODE}"}}[10m])) > 0',
        "0m",
        "warning",
        "Requests are refused because a budget is used up.",
        "`stoker budgets` says whose: raise it in platform.yaml, or wait until its window is over.",
    )
    # Of those that are used up nobody is told here: one for good of a key that nobody uses would be told of for ever.
    yield Alert(
        "BudgetNearlyUsedUp",
        f'max by (scope) (stoker_budgets{{used="{NEARLY_USED_UP}"}}) > 0',
        "0m",
        "info",
        "Less than 5 % is left of {{ $value }} budgets of a {{ $labels.scope }}.",
        "`stoker budgets` says whose: requests are refused (BudgetUsedUp) once too little is left for them.",
    )
    yield Alert(
        "ReservationsStuck",
        "max(stoker_reserved_tokens) > 0 unless on () sum(stoker_requests_in_flight) > 0",
        "15m",
        "warning",
        "{{ $value | humanize }} tokens are set aside and no request runs.",
        "Budgets seem fuller than they are: restart the gateway, whose journal says what is really open.",
    )
    yield Alert(
        "ProcessRestarts",
        f"sum by (role) (increase(stoker_process_restarts_total[10m])) > {RESTARTS}",
        "0m",
        "warning",
        "Processes of the role {{ $labels.role }} die again and again.",
        "`stoker ps` says how they ended; their log is in logs/ of the state directory.",
    )


_RUN = "{{ with $labels.run }}{{ . }}{{ else }}{{ $labels.instance }}{{ end }}"
_TRAINING_ALERTS = [
    Alert(
        "CheckpointOld",
        f"stoker_train_checkpoint_age_seconds > {CHECKPOINT_OLD_S}",
        "1m",
        "warning",
        f"The last checkpoint of {_RUN} is {{{{ $value | humanizeDuration }}}} old.",
        "`stoker runs show` says when it saves; an end of the machine now costs all of that work.",
    ),
    Alert(
        "CheckpointFailed",
        "increase(stoker_train_save_failures_total[30m]) > 0",
        "0m",
        "warning",
        f"Checkpoints of {_RUN} are not kept.",
        "`stoker runs show` says why: a disk that is full, or a store that is away. Training goes on, and tries again.",
    ),
    Alert(
        "GoodputLow",
        f"stoker_train_goodput_ratio < {GOODPUT_LOW}",
        "30m",
        "warning",
        f"Of the time of {_RUN} only {{{{ $value | humanizePercentage }}}} makes steps that count.",
        "`stoker runs show` says what the rest was: lost work, starts, or saves.",
    ),
]


def _gpu_alerts() -> Iterator[Alert]:
    """The rules of `policy.gpu_health` in PromQL: `stoker gpus` says the same of the same numbers."""
    where = "GPU {{ $labels.gpu }} of {{ $labels.node }}"
    yield _gpu_alert(
        "GpuMissing",
        "count by (node, gpu) (max_over_time(DCGM_FI_DEV_FB_USED[1h])) "
        "unless on (node, gpu) count by (node, gpu) (DCGM_FI_DEV_FB_USED) "
        'and on (node) up{job=~".*dcgm-exporter.*"} == 1',
        f"{where} was there and is not, though its exporter answers.",
    )
    yield _gpu_alert(
        "GpuBroken",
        " or ".join(f"DCGM_FI_DEV_XID_ERRORS == {code}" for code in HARDWARE_XIDS),
        f"{where} reports XID {{{{ $value }}}}, an error of the hardware.",
    )
    # The exporter writes the code into the labels, too, so that another code is another series, which never changes.
    xid = "max without (err_code, err_msg) (DCGM_FI_DEV_XID_ERRORS)"
    yield _gpu_alert(
        "GpuXid",
        f"changes({xid}[{gpu_health.XID_WINDOW_S // 60}m:1m]) > 0 and {xid} > 0",
        f"{where} reported an XID error.",
    )
    yield _gpu_alert(
        "GpuMemoryErrors",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL > 0 or DCGM_FI_DEV_ROW_REMAP_FAILURE > 0",
        f"{where} has memory errors that ECC cannot correct.",
    )
    yield _gpu_alert(
        "GpuMemoryFull",
        f"DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) > {gpu_health.MEMORY_PART}",
        f"{where} has no memory left.",
    )
    yield _gpu_alert(
        "GpuMemoryAhead",
        f"predict_linear(DCGM_FI_DEV_FB_FREE[{gpu_health.AHEAD_WINDOW_S // 60}m], {gpu_health.AHEAD_S}) < 0 "
        f"and deriv(DCGM_FI_DEV_FB_FREE[{gpu_health.AHEAD_RECENT_S // 60}m]) < 0 and DCGM_FI_DEV_FB_FREE > 0",
        f"{where} will have no memory left within {gpu_health.AHEAD_S // 60} minutes.",
    )
    yield _gpu_alert(
        "GpuHot",
        f"DCGM_FI_DEV_GPU_TEMP > {gpu_health.HOT_C}",
        f"{where} is at {{{{ $value }}}} C and slows down.",
    )
    heat = (gpu_health.SOFTWARE_THERMAL, gpu_health.HARDWARE_THERMAL)
    yield _gpu_alert(
        "GpuThrottled",
        " or ".join(
            [
                f"increase(DCGM_FI_DEV_THERMAL_VIOLATION[{gpu_health.THERMAL_WINDOW_S // 60}m]) > 0",
                *(_bit("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", bit) for bit in heat),
            ]
        ),
        f"{where} is slowed down by heat.",
    )
    yield _gpu_alert(
        "GpuPowerBrake",
        _bit("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", gpu_health.POWER_BRAKE),
        f"{where} is slowed down by the machine's power supply.",
    )
    yield _gpu_alert(
        "GpuIdle",
        "avg by (node, gpu, model, instance_type) (avg_over_time(DCGM_FI_DEV_GPU_UTIL[1h])) "
        f"< {gpu_health.IDLE_PERCENT} and on (node) count by (node) (DCGM_FI_DEV_GPU_UTIL offset 1h) > 0",
        f"{where} ({{{{ $labels.instance_type }}}}) has been idle for two hours, and is paid for.",
    )
    # DCGM knows no GPU_UTIL of a MIG instance.
    engine = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    yield _gpu_alert(
        "GpuSliceIdle",
        f'avg by (node, gpu, GPU_I_ID, model, instance_type) (avg_over_time({engine}{{GPU_I_ID!=""}}[1h])) '
        f"< {gpu_health.IDLE_PERCENT / 100} and on (node) count by (node) ({engine} offset 1h) > 0",
        f"MIG instance {{{{ $labels.GPU_I_ID }}}} of {where} has been idle for two hours, and is paid for.",
    )


def _gpu_alert(name: str, expr: str, summary: str) -> Alert:
    rule = gpu_health.RULES[name]
    return Alert(name, expr, rule.lasts, rule.severity, summary, rule.advice)


def _bit(metric: str, bit: int) -> str:
    """Whether it is set: PromQL has no operator for bits."""
    return f"floor({metric} / {bit}) % 2 == 1"


def _node_alerts(plan: Plan) -> Iterator[Alert]:
    if plan.has_gpu_nodes:
        yield Alert(
            "PodsWaitForGpu",
            'sum by (namespace, pod) (kube_pod_status_phase{phase="Pending"}) > 0 and on (namespace, pod) '
            'sum by (namespace, pod) (kube_pod_container_resource_requests{resource="nvidia_com_gpu"}) > 0',
            "15m",
            "warning",
            "{{ $labels.namespace }}/{{ $labels.pod }} has waited 15 minutes for a GPU.",
            "kubectl describe the pod, and see Karpenter's events: the pool's limits, a quota, or capacity.",
        )
        yield Alert(
            "GpuNodeUnhealthy",
            'kube_node_status_condition{condition="AcceleratedHardwareReady",status="false"} == 1',
            "1m",
            "critical",
            "The EKS node monitoring agent holds the GPUs of {{ $labels.node }} for broken.",
            "kubectl describe the node for the reason (an XID, a missing GPU); delete its NodeClaim unless it heals.",
        )
        yield Alert(
            "GpuNodeNotMeasured",
            'sum by (node) (kube_node_status_allocatable{resource="nvidia_com_gpu"}) > 0 '
            "unless on (node) count by (node) (DCGM_FI_DEV_FB_USED)",
            "15m",
            "warning",
            "{{ $labels.node }} has GPUs that nobody measures.",
            "See the pod of dcgm-exporter on it: a taint that it does not tolerate, or an exporter that failed.",
        )
    yield Alert(
        "SpotInterruptions",
        'sum(increase(karpenter_interruption_received_messages_total{message_type=~"(?i)spot.*"}[1h])) '
        f"> {SPOT_PER_HOUR}",
        "0m",
        "warning",
        "Spot took back {{ $value | humanize }} nodes within an hour.",
        "Nothing is lost, and it costs latency: allow more families or zones, or switch spotEnabled off for a while.",
    )
    yield Alert(
        "NodePoolNearLimit",
        "karpenter_nodepools_usage / on (nodepool, resource_type) (karpenter_nodepools_limit > 0) > 0.9",
        "15m",
        "warning",
        "{{ $labels.nodepool }} uses {{ $value | humanizePercentage }} of its limit of {{ $labels.resource_type }}.",
        "Raise maxUsdPerHour of the pool or replicas.max of its models, if the bill may grow.",
    )
    yield Alert(
        "NodesNotCreated",
        "sum by (controller, error) (increase(karpenter_cloudprovider_errors_total[15m])) > 3",
        "15m",
        "warning",
        "AWS refuses what Karpenter asks for ({{ $labels.error }}).",
        "See Karpenter's log: capacity, quota, or a role that lacks a right.",
    )


_REDIS_ALERTS = [
    Alert(
        "RedisDown",
        "redis_up == 0",
        "1m",
        "critical",
        "Redis of {{ $labels.pod }} does not answer.",
        "See its pod and volume. Tasks wait meanwhile; none is lost that was acknowledged.",
    ),
    Alert(
        "RedisMemory",
        "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.85",
        "10m",
        "warning",
        "Redis uses {{ $value | humanizePercentage }} of its memory.",
        "Lower queue.resultTtlSeconds, or give it more memory: when it is full, tasks are refused.",
    ),
    Alert(
        "RedisEvicts",
        "increase(redis_evicted_keys_total[10m]) > 0",
        "0m",
        "critical",
        "Redis throws keys away: tasks and budgets are among them.",
        "Its maxmemory-policy has to be noeviction.",
    ),
]


def _number(value: Decimal) -> str:
    """Without an exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
