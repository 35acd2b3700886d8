"""Every metric that a rule, a dashboard, a scaler or an alarm of ours may ask for, with who publishes it.

A query for a metric that nobody publishes gives no data, and an alert on it never fires. So a rule or panel is rendered
only where `published(plan)` has all that its expression names, and a test compares this table with the registry of the
code for what is Stoker's own.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from stoker.aws.cloudwatch_names import COST, PUT, QUEUE, TOKENS
from stoker.policy.scaled import scales_agents
from stoker.render.plan import Plan

Publisher = Literal[
    "gateway",
    "engine",
    "worker",
    "agents",
    "agent-worker",
    "supervisor",
    "trainer",
    "dcgm",
    "dcgm-addon",
    "redis",
    "kube-state-metrics",
    "karpenter",
    "keda",
    "prometheus",
    "rules",
]
LOCAL: frozenset[Publisher] = frozenset(
    {"gateway", "engine", "worker", "agents", "agent-worker", "supervisor", "trainer", "prometheus", "rules"}
)
"""Who publishes on one machine, under `stoker up`."""

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "gateway": "stoker/gateway/measures.py, spending.py, budget_levels.py and cold_starts.py",
        "engine": "stoker/engine/metrics.py, and vLLM 0.11 vllm/v1/metrics/loggers.py, whose names they are",
        "worker": "stoker/worker/metrics.py",
        "agents": "stoker/agents/metrics.py",
        "agent-worker": "stoker/agents/metrics.py",
        "supervisor": "stoker/local/measures.py",
        "trainer": "stoker/train/metrics.py",
        "dcgm": "NVIDIA/dcgm-exporter 4.8.4 etc/default-counters.csv, with the lines that COUNTERS switches on",
        "dcgm-addon": "aws-observability/helm-charts templates/linux/dcgm-exporter-daemonset.yaml (metricsConfig)",
        "redis": "oliver006/redis_exporter README",
        "kube-state-metrics": "kubernetes/kube-state-metrics docs/metrics",
        "karpenter": "karpenter.sh docs/reference/metrics (v1)",
        "keda": "keda.sh docs/integrations/prometheus (2.16 and later)",
        "prometheus": "Prometheus itself, for each target",
        "rules": "the rules of monitoring_rules.py; ALERTS is what Prometheus makes of those that fire",
        "ContainerInsights": "Amazon CloudWatch user guide, Container Insights metrics of EKS; dimensions: "
        "aws/amazon-cloudwatch-agent translator/.../awsemf/kubernetes.go",
        **dict.fromkeys((TOKENS, COST, QUEUE), "stoker/gateway/cloudwatch.py"),
        "AWS/SQS": "Amazon SQS developer guide, CloudWatch metrics",
    }
)

COUNTERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "DCGM_FI_DEV_GPU_UTIL": ("gauge", "Time in which a kernel ran (in %)."),
        "DCGM_FI_DEV_MEM_COPY_UTIL": ("gauge", "Memory utilization (in %)."),
        "DCGM_FI_DEV_FB_USED": ("gauge", "Memory used (in MiB)."),
        "DCGM_FI_DEV_FB_FREE": ("gauge", "Memory free (in MiB)."),
        "DCGM_FI_DEV_GPU_TEMP": ("gauge", "Temperature (in C)."),
        "DCGM_FI_DEV_MEMORY_TEMP": ("gauge", "Temperature of the memory (in C)."),
        "DCGM_FI_DEV_POWER_USAGE": ("gauge", "Power (in W)."),
        "DCGM_FI_DEV_POWER_MGMT_LIMIT": ("gauge", "Power that it may take (in W)."),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("counter", "Energy since boot (in mJ)."),
        "DCGM_FI_DEV_SM_CLOCK": ("gauge", "Clock of the multiprocessors (in MHz)."),
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": ("gauge", "Why clocks are low (bits)."),
        "DCGM_FI_DEV_XID_ERRORS": ("gauge", "The last XID error."),
        "DCGM_FI_DEV_POWER_VIOLATION": ("counter", "Time throttled by power (in us)."),
        "DCGM_FI_DEV_THERMAL_VIOLATION": ("counter", "Time throttled by heat (in us)."),
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": ("counter", "Corrected memory errors since boot."),
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("counter", "Uncorrected memory errors since boot."),
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": ("counter", "Rows remapped after uncorrectable errors."),
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": ("counter", "Rows remapped after correctable errors."),
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": ("gauge", "Whether remapping of rows has failed."),
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": ("counter", "NVLink traffic over all lanes."),
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("gauge", "Part of the time in which any engine was busy."),
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("gauge", "Part of the cycles in which the tensor cores were busy."),
        "DCGM_FI_PROF_DRAM_ACTIVE": ("gauge", "Part of the cycles in which memory moved data."),
    }
)
"""What our own exporter publishes: DCGM field -> Prometheus type, help text (which must hold no comma)."""

_ADDON = ("GPU_UTIL", "MEM_COPY_UTIL", "FB_FREE", "FB_USED", "MEMORY_TEMP", "GPU_TEMP", "POWER_USAGE")


def _all_of(publisher: Publisher, names: str) -> dict[str, tuple[Publisher, ...]]:
    return dict.fromkeys(names.split(), (publisher,))


def _gpu(name: str) -> tuple[Publisher, ...]:
    return ("dcgm", "dcgm-addon") if name.removeprefix("DCGM_FI_DEV_") in _ADDON else ("dcgm",)


METRICS: Mapping[str, tuple[Publisher, ...]] = MappingProxyType(
    {
        **_all_of(
            "gateway",
            "stoker_requests_total stoker_refused_total stoker_tokens_total stoker_request_duration_seconds_bucket "
            "stoker_time_to_first_token_seconds_bucket stoker_replicas stoker_requests_in_flight stoker_queue_lag "
            "stoker_queue_pending stoker_queue_delayed stoker_queue_dead stoker_queue_waiting_tokens "
            "stoker_machine_usd_per_hour stoker_model_usd_per_hour stoker_queue_oldest_seconds "
            "stoker_reserved_tokens stoker_reserved_usd stoker_budgets stoker_starts stoker_start_seconds "
            "stoker_billed_usd_total stoker_cached_tokens_total stoker_time_per_output_token_seconds_bucket",
        ),
        **_all_of(
            "worker",
            "stoker_worker_claims_total stoker_worker_retries_total stoker_worker_reclaimed_total "
            "stoker_worker_in_service stoker_worker_running stoker_worker_capacity",
        ),
        **_all_of("agents", "stoker_agent_steps_waiting stoker_agent_steps_dead"),
        **_all_of("agent-worker", "stoker_agent_steps_total stoker_agent_steps_running stoker_agent_steps_at_once"),
        **_all_of(
            "supervisor",
            "stoker_processes stoker_process_restarts_total stoker_scale_replicas stoker_scale_ready_replicas "
            "stoker_scale_decisions_total",
        ),
        **_all_of(
            "trainer",
            "stoker_train_step stoker_train_steps stoker_train_loss stoker_train_tokens_per_second "
            "stoker_train_goodput_ratio stoker_train_lost_work_seconds stoker_train_checkpoint_age_seconds "
            "stoker_train_usd stoker_train_nodes stoker_train_save_seconds_sum stoker_train_save_seconds_count "
            "stoker_train_save_failures_total stoker_train_save_bytes stoker_train_restore_seconds",
        ),
        **_all_of(
            "engine",
            "vllm:num_requests_running vllm:num_requests_waiting vllm:kv_cache_usage_perc "
            "vllm:inter_token_latency_seconds_bucket vllm:request_queue_time_seconds_bucket",
        ),
        **{name: _gpu(name) for name in COUNTERS},
        **_all_of("redis", "redis_up redis_memory_used_bytes redis_memory_max_bytes redis_evicted_keys_total"),
        **_all_of(
            "kube-state-metrics",
            "kube_pod_status_phase kube_pod_container_resource_requests kube_node_status_allocatable "
            "kube_node_status_condition kube_horizontalpodautoscaler_status_desired_replicas "
            "kube_horizontalpodautoscaler_spec_max_replicas kube_horizontalpodautoscaler_spec_min_replicas "
            "kube_deployment_status_replicas_ready kube_deployment_spec_replicas",
        ),
        **_all_of(
            "karpenter",
            "karpenter_interruption_received_messages_total karpenter_nodepools_usage karpenter_nodepools_limit "
            "karpenter_cloudprovider_errors_total karpenter_cloudprovider_instance_type_offering_price_estimate "
            "karpenter_nodeclaims_created_total karpenter_nodeclaims_disrupted_total",
        ),
        **_all_of("keda", "keda_scaler_detail_errors_total keda_scaler_metrics_value"),
        **_all_of("prometheus", "up"),
        **_all_of("rules", "ALERTS"),
    }
)
"""Prometheus metric -> who publishes it. Those of recording rules are added by `published`."""

CLOUDWATCH: Mapping[tuple[str, str], tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        **{
            ("ContainerInsights", f"node_gpu_{what}"): (
                ("ClusterName",),
                ("ClusterName", "InstanceId", "NodeName"),
                ("ClusterName", "GpuDevice", "InstanceId", "InstanceType", "NodeName"),
            )
            for what in (
                "utilization",
                "memory_utilization",
                "memory_used",
                "memory_total",
                "power_draw",
                "temperature",
            )
        },
        **{
            ("ContainerInsights", f"node_gpu_{what}"): (("ClusterName",), ("ClusterName", "InstanceId", "NodeName"))
            for what in ("limit", "usage_total", "reserved_capacity")
        },
        **{
            ("ContainerInsights", f"pod_gpu_{what}"): (("ClusterName",), ("ClusterName", "Namespace", "PodName"))
            for what in ("utilization", "memory_utilization")
        },
        ("ContainerInsights", "cluster_failed_node_count"): (("ClusterName",),),
        ("ContainerInsights", "cluster_node_count"): (("ClusterName",),),
        **PUT,
        **{
            ("AWS/SQS", what): (("QueueName",),)
            for what in (
                "ApproximateNumberOfMessagesVisible",
                "ApproximateAgeOfOldestMessage",
                "NumberOfMessagesSent",
            )
        },
    }
)
"""(namespace, metric) of CloudWatch -> the sets of dimensions, sorted, that it is published with. Asked for with any
other set it has no data."""


def published(plan: Plan, recorded: Iterable[str] = (), *, by: frozenset[Publisher] | None = None) -> frozenset[str]:
    """The metrics that the Prometheus of this platform has. `recorded`: names of recording rules. `by`: who publishes,
    if not who does in the cluster."""
    who = publishers(plan) if by is None else by
    return frozenset([*(name for name, by in METRICS.items() if who & set(by)), *recorded])


def publishers(plan: Plan) -> frozenset[Publisher]:
    """Who publishes in this platform. kube-state-metrics comes with Prometheus' own chart."""
    found: set[Publisher] = {"gateway", "kube-state-metrics", "prometheus", "rules"}
    if plan.served:
        found.add("engine")
    if plan.served or plan.hosted:
        found.add("worker")
    if plan.has_agents:
        found |= {"agents", "agent-worker"}
    if plan.spec.training.enabled and plan.spec.training.kubeflow:  # what AWS Batch runs is out of Prometheus' reach
        found.add("trainer")
    if plan.gpu_exporter == "own":
        found.add("dcgm")
    if plan.gpu_exporter == "addon":
        found.add("dcgm-addon")
    if plan.redis == "cluster":
        found.add("redis")
    if plan.spec.karpenter.enabled and plan.mode != "auto":  # Auto Mode's own Karpenter shows nobody its metrics
        found.add("karpenter")
    if any(served.is_scaled for served in plan.served) or (plan.has_agents and scales_agents(plan.spec)):
        found.add("keda")
    return frozenset(found)


_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{[^{}]*\}")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_DURATION = re.compile(r"\boffset\s+\S+")
_NAME = re.compile(r"(?<![\w:.])[A-Za-z_:][\w:]*(?!\s*\()(?![\w:])")
_WORDS = frozenset({"and", "or", "unless", "bool", "inf", "nan", "by", "without", "on", "ignoring", "offset"})


def names_in(promql: str) -> frozenset[str]:
    """The metrics that an expression asks for."""
    for pattern in (_TEXT, _MATCHERS, _LABELS, _RANGE, _DURATION):
        promql = pattern.sub(" ", promql)
    return frozenset(name for name in _NAME.findall(promql) if name.lower() not in _WORDS)
