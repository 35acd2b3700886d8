"""What a metric or a PromQL query reads of a model: by the names of the metrics in it, and what is done with them.

Not a PromQL parser: it recognises the forms that people scale by, and gives up on the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from stoker.simulate.scenario import SignalKind

_KINDS: Mapping[str, SignalKind] = {
    "vllm_num_requests_waiting": "engine_waiting",
    "vllm_num_requests_running": "running",
    "vllm_gpu_cache_usage_perc": "kv_usage",
    "vllm_kv_cache_usage_perc": "kv_usage",
    "vllm_request_success": "requests_per_s",
    "vllm_generation_tokens": "tokens_per_s",
    "tgi_queue_size": "engine_waiting",
    "tgi_batch_current_size": "running",
    "tgi_request_success": "requests_per_s",
    "tgi_request_count": "requests_per_s",
    "sglang_num_queue_reqs": "engine_waiting",
    "sglang_num_running_reqs": "running",
    "sglang_token_usage": "kv_usage",
    "sglang_num_requests": "requests_per_s",
    "sglang_generation_tokens": "tokens_per_s",
    "nv_inference_pending_request_count": "engine_waiting",
    "nv_inference_request_success": "requests_per_s",
    "nv_gpu_utilization": "gpu_utilization",
    "stoker_requests_in_flight": "in_flight",
    "stoker_queue_lag": "waiting",
    "stoker_queue_waiting": "waiting",
    "stoker_queue_pending": "pending",
    "stoker_requests": "requests_per_s",
    "stoker_tokens": "tokens_per_s",
    "taskswaiting": "waiting",
    "tasksrunning": "pending",
    "requestsinflight": "in_flight",
    "redis_stream_group_lag": "waiting",
    "redis_stream_group_messages_pending": "pending",
    "redis_stream_length": "length",
    "redis_key_size": "waiting",
    "rabbitmq_queue_messages_ready": "waiting",
    "rabbitmq_queue_messages_unacked": "pending",
    "rabbitmq_queue_messages": "length",
    "kafka_consumergroup_lag": "length",
    "approximatenumberofmessagesvisible": "waiting",
    "approximatenumberofmessagesnotvisible": "pending",
    "http_requests": "requests_per_s",
    "http_request_duration_seconds_count": "requests_per_s",
    "http_server_requests_seconds_count": "requests_per_s",
    "istio_requests": "requests_per_s",
    "nginx_ingress_controller_requests": "requests_per_s",
    "envoy_cluster_upstream_rq": "requests_per_s",
    "requests_per_second": "requests_per_s",
    "dcgm_fi_dev_gpu_util": "gpu_utilization",
    "dcgm_fi_prof_gr_engine_active": "gpu_utilization",
    "container_gpu_utilization": "gpu_utilization",
    "pod_gpu_utilization": "gpu_utilization",
    "node_gpu_utilization": "gpu_utilization",
    "gpuutilization": "gpu_utilization",
}
"""By name in lower case, colons as underscores, without `_total` (prometheus-adapter and CloudWatch rename them)."""
_SHARES = ("nv_gpu_utilization", "dcgm_fi_prof_gr_engine_active")
"""From 0 to 1, where the kind goes to 100."""
_COUNTERS = ("requests_per_s", "tokens_per_s")
_OF_QUEUES = ("waiting", "pending", "length")
"""One number for all replicas, whoever tells it."""
_MEANS = ("gpu_utilization", "kv_usage")
_SUMS: Mapping[frozenset[SignalKind], SignalKind] = {
    frozenset({"engine_waiting", "running"}): "in_flight",
    frozenset({"in_flight", "pending"}): "in_flight",
    frozenset({"running", "pending"}): "in_flight",
    frozenset({"waiting", "pending"}): "length",
    frozenset({"waiting", "in_flight"}): "length",
    frozenset({"waiting", "running"}): "length",
    frozenset({"waiting", "in_flight", "pending"}): "length",
}
"""What several are together. A gateway's requests in flight are not those that a queue has given out."""

_WORD = re.compile(r"[A-Za-z_:][\w:]*")
_MATCHERS = re.compile(r"\{([^{}]*)\}")
_MODEL = re.compile(r"\b(?:model|model_name|served_model_name)\s*=\s*[\"']([^\"']+)[\"']")
_RANGE = re.compile(r"\[(\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)(?::[^\]]*)?\]")
_GROUPING = re.compile(r"\b(?:by|without)\s*\([^()]*\)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_RATES = ("rate", "irate", "increase")
_OVER_TIME = ("avg_over_time", "max_over_time", "min_over_time", "last_over_time")
_ACROSS = ("sum", "avg", "max", "min")
_GROUPED = re.compile(r"\b(by|without)\s*\(([^()]*)\)", re.IGNORECASE)
_CALL = re.compile(r"(\w*)\s*((?:by|without)<[^<>]*>)?\s*\(([^()]*)\)\s*((?:by|without)<[^<>]*>)?", re.IGNORECASE)
_ONE_POD = re.compile(r"\b(?:pod|instance)\s*=\s*[\"']")
_OF_PODS = ("pod", "instance", "pod_name", "exported_pod", "exported_instance", "hostname", "gpu", "uuid", "device")
"""Labels in which the series of replicas differ, in lower case."""
_HARMLESS = (*_ACROSS, *_RATES, *_OVER_TIME, "ceil", "floor", "round", "scalar", "vector", "or", "clamp_min", "sort")


@dataclass(frozen=True)
class Query:
    """`model` as its matchers name it; empty where they name none."""

    kind: SignalKind
    across: Literal["", "sum", "mean"] = ""
    window_s: float = 0.0
    factor: Fraction = Fraction(1)
    model: str = ""
    is_per_pod: bool = False
    """One series for each replica, and not one number."""


def of_metric(name: str) -> Query | None:
    """Of one metric by its name alone, as an HPA or CloudWatch asks for it. A counter is taken as its rate: adapters
    make it that."""
    plain = re.sub(r"_(?:total|per_second)$", "", _plain(name))
    kind = _KINDS.get(plain) or _KINDS.get(_plain(name))
    return None if kind is None else Query(kind, factor=Fraction(1, 100) if plain in _SHARES else Fraction(1))


def of_promql(text: str) -> Query | None:
    """None where it is not one of the forms that are understood."""
    models = tuple(dict.fromkeys(_MODEL.findall(text)))
    windows = tuple(dict.fromkeys(_RANGE.findall(text)))
    if len(models) > 1 or len(windows) > 1:
        return None
    bare = _GROUPING.sub(" ", _RANGE.sub(" ", _MATCHERS.sub(" ", text)))
    bare, factor, per_replica = _scaled(bare.strip())
    if factor is None:
        return None
    functions = [match[0].lower() for match in _WORD.finditer(bare) if bare[match.end() :].lstrip().startswith("(")]
    names = [match[0] for match in _WORD.finditer(bare) if match[0].lower() not in (*functions, "or")]
    if not names or any(each not in _HARMLESS for each in functions) or re.search(r"[-*/%^<>=!]|\bon\b", bare):
        return None
    found = [of_metric(name) for name in names]
    kinds = frozenset(one.kind for one in found if one is not None)
    if None in found or (len(found) > 1 and "+" not in bare):
        return None
    kind = next(iter(kinds)) if len(kinds) == 1 and len(found) == 1 else _SUMS.get(kinds)
    if kind is None:
        return None
    if found[0] is not None:
        factor *= found[0].factor
    window_s = _seconds(windows[0]) if windows else 0.0
    rates = [each for each in functions if each in _RATES]
    if (kind in _COUNTERS) is not bool(rates):
        return None  # the sum of a counter since its start, or the rate of what is none
    if "increase" in rates:
        factor *= Fraction(window_s)
    elif kind not in _COUNTERS and "avg_over_time" not in functions:
        window_s = 0.0  # of a maximum over time, the value at that moment
    across = next((each for each in functions if each in _ACROSS), "")
    is_per_pod = kind not in _OF_QUEUES and _is_per_pod(text)
    model = models[0] if models else ""
    query = Query(kind, _across(kind, across, is_several=len(found) > 1), window_s, factor, model, is_per_pod)
    return replace(query, across="mean" if query.kind not in _MEANS else "") if per_replica else query


def _is_per_pod(text: str) -> bool:
    """Whether a metric in it is in no aggregation that makes one series of those of all pods."""
    if _ONE_POD.search(text):
        return False
    left = _GROUPED.sub(r"\1<\2>", _RANGE.sub(" ", _MATCHERS.sub(" ", text)))
    calls = 1
    while calls:  # the innermost first
        left, calls = _CALL.subn(_what_is_left, left)
    return any(of_metric(word) is not None for word in _WORD.findall(left))


def _what_is_left(call: re.Match[str]) -> str:
    """Of an aggregation to one series a number; of another call its series."""
    function, grouping = call[1].lower(), (call[2] or call[4] or "by<>").lower()
    word, _, labels = grouping.removesuffix(">").partition("<")
    named = [each.strip() for each in labels.split(",")]
    is_one = {"pod", "instance"} <= set(named) if word == "without" else not set(named) & set(_OF_PODS)
    return " 1 " if function in (*_ACROSS, "count") and is_one else f" {call[3]} "


def _scaled(text: str) -> tuple[str, Fraction | None, bool]:
    """Without a factor or divisor at the end, and without a division by the number of replicas. None for a factor that
    is none."""
    text = _unwrapped(text)
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        sign = text[at]
        depth += (sign == ")") - (sign == "(")
        if depth or sign not in "*/":
            continue
        left, right = text[:at].strip(), text[at + 1 :].strip()
        if re.fullmatch(r"\d+(?:\.\d+)?", right) and (sign == "*" or Fraction(right)):
            inner, factor, per_replica = _scaled(left)
            number = Fraction(right) if sign == "*" else 1 / Fraction(right)
            return inner, None if factor is None else factor * number, per_replica
        if sign == "/" and re.match(r"(?:scalar\s*\(\s*)?(?:count|sum\s*\(\s*up\b)", right):
            inner, factor, _ = _scaled(left)
            return inner, factor, True
        return text, None, False
    return text, Fraction(1), False


def _unwrapped(text: str) -> str:
    """Without brackets around it all."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for at, sign in enumerate(text):
            depth += (sign == "(") - (sign == ")")
            if depth == 0 and at < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text


def _across(kind: SignalKind, function: str, *, is_several: bool) -> Literal["", "sum", "mean"]:
    """Nothing where it is as the kind says by itself."""
    if kind in _OF_QUEUES or is_several:
        return ""
    if kind in _MEANS:
        return "sum" if function == "sum" else ""
    return "mean" if function in ("avg", "max", "min") else ""


def _plain(name: str) -> str:
    return name.replace(":", "_").replace(".", "_").lower()


def _seconds(text: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))
