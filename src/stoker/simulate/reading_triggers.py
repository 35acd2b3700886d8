"""KEDA's triggers and the HPA's metrics as signals of a model, with their targets.

Defaults are those of the scalers (kedacore/keda, pkg/scalers). A trigger that cannot be understood has the kind
`unknown` and says why.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from stoker.manifests.objects import look, texts
from stoker.manifests.quantities import amount
from stoker.policy import cron
from stoker.policy.hpa import MetricType
from stoker.simulate.reading_queries import Query, of_metric, of_promql
from stoker.simulate.scenario import Signal, SignalKind
from stoker.simulate.signals import zone_of

SCRAPE_S = 30.0
"""How often Prometheus reads where no monitor in sight says (the operator's default)."""
_CLOUDWATCH_S = 300
_NEVER = 10**18
"""An activation that nothing reaches."""
_REDIS_LISTS = ("redis", "redis-cluster", "redis-sentinel")
_REDIS_STREAMS = ("redis-streams", "redis-cluster-streams", "redis-sentinel-streams")
QUEUES = (*_REDIS_LISTS, *_REDIS_STREAMS, "aws-sqs-queue", "kafka", "apache-kafka", "rabbitmq")
"""Types whose workloads take their work from a queue by themselves."""
_STREAM = "redis-streams"
_OF_STOKER = "stoker:tasks:"


@dataclass(frozen=True)
class Read:
    """One trigger. `target` and `activation` in thousandths. `why` says why its kind is `unknown`, or what a person
    should know of it."""

    name: str
    signal: Signal
    target: int = 1000
    activation: int = 0
    type: MetricType = "AverageValue"
    why: str = ""
    is_resource: bool = False
    """cpu or memory: it never says by itself that there is something to do."""
    queue: str = ""
    """Which queue it reads, where it reads one."""
    fails: bool = False
    """KEDA cannot read it either."""


@dataclass(frozen=True)
class Around:
    """What a trigger cannot say by itself. `cpu_milli`: what the target's pods request."""

    model: str
    models: tuple[str, ...]
    scrape_s: float = SCRAPE_S
    cpu_milli: int = 0
    polling_s: float = 30.0


def trigger(tree: Mapping[str, Any], index: int, around: Around) -> Read:
    """One of `spec.triggers`."""
    kind, data = str(tree.get("type", "")), _metadata(tree.get("metadata"))
    written = tree.get("name")
    name = written if isinstance(written, str) and written else f"s{index}-{kind or 'trigger'}"
    metric_type: MetricType = "Value" if tree.get("metricType") == "Value" else "AverageValue"
    if kind in _REDIS_STREAMS:
        read = _streams(data, around)
    elif kind in ("cpu", "memory"):
        read = _resource(kind, str(tree.get("metricType") or data.get("type", "")), data.get("value", ""), around)
    else:
        reader = _READERS.get(kind)
        read = (
            reader(data, around) if reader else _unknown(f"triggers of the type {kind or '(none)'} are not read here")
        )
    if not read.is_resource:
        read = replace(read, type=metric_type)
    if read.target <= 0:
        read = replace(_unknown("its target is not above 0"), type=read.type)
    if tree.get("useCachedMetrics") is True:
        read = replace(read, signal=replace(read.signal, delay_s=max(read.signal.delay_s, around.polling_s)))
    said = f"{kind} {_said(data)}".strip()
    queue = f"{_STREAM if kind in _REDIS_STREAMS else kind} {_said(data)}" if kind in QUEUES else ""
    return replace(read, name=name, signal=replace(read.signal, said=said), queue=queue)


def metric(tree: Mapping[str, Any], around: Around) -> Read | None:
    """One of an HPA's `spec.metrics`; None where it names nothing."""
    kind = str(tree.get("type", ""))
    part = tree.get(kind[:1].lower() + kind[1:])
    target = look(part, "target")
    if kind in ("Resource", "ContainerResource"):
        resource = str(look(part, "name", default=""))
        share = look(target, "averageUtilization")
        written = str(share if share is not None else look(target, "averageValue", default=""))
        read = _resource(resource, "Utilization" if share is not None else "AverageValue", written, around)
        return replace(read, name=resource, signal=replace(read.signal, said=f"{kind} {resource}"))
    name = look(part, "metric", "name")
    if not isinstance(name, str):
        return None
    found = of_metric(name)
    labels = texts(look(part, "metric", "selector", "matchLabels"))
    if found is None:
        read = _unknown(f"the metric {name} is not one that is known here")
    else:
        model = next((labels[key] for key in ("model", "model_name") if key in labels), "")
        read = _of_query(replace(found, model=model), around, around.scrape_s)
    average, whole_value = look(target, "averageValue"), look(target, "value")
    milli = _milli(average if average is not None else whole_value)
    type_: MetricType = "AverageValue" if average is not None else "Value"
    signal = replace(read.signal, said=f"{kind} {name}")
    if kind == "Pods":
        # The mean over pods against the target, times the ready ones: what Value does with a mean.
        type_, signal = "Value", replace(signal, across=_mean(signal.kind))
    if milli is None or milli <= 0:
        read, milli = _unknown("its target is not above 0"), 1000
        signal = replace(read.signal, said=f"{kind} {name}")
    return replace(read, name=name, signal=signal, target=milli, type=type_)


def _streams(data: Mapping[str, str], around: Around) -> Read:
    """By which fields are there: lag, pending or length (redis_streams_scaler.go)."""
    group, lag = data.get("consumerGroup", ""), _milli(data.get("lagCount")) or 0
    activation = _milli(data.get("activationLagCount")) or 0
    model = _model_of_stream(data.get("stream", ""), around)
    if group and lag:
        return Read("", Signal("waiting", model=model), lag, activation)
    if group:
        return Read("", Signal("pending", model=model), _target(data, "pendingEntriesCount", 5), activation)
    why = "it counts all entries of the stream: those that are done are taken to be deleted"
    return Read("", Signal("length", model=model), _target(data, "streamLength", 5), activation, why=why)


def _lists(data: Mapping[str, str], around: Around) -> Read:
    return Read("", Signal("waiting"), _target(data, "listLength", 5), _milli(data.get("activationListLength")) or 0)


def _sqs(data: Mapping[str, str], around: Around) -> Read:
    """All numbers of SQS are near enough only; that is not modelled."""
    kind: SignalKind = "length" if _is_true(data, "scaleOnInFlight", otherwise=True) else "waiting"
    return Read("", Signal(kind), _target(data, "queueLength", 5), _milli(data.get("activationQueueLength")) or 0)


def _kafka(data: Mapping[str, str], around: Around) -> Read:
    return Read(
        "",
        Signal("length"),
        _target(data, "lagThreshold", 10),
        _milli(data.get("activationLagThreshold")) or 0,
        why="no more replicas than partitions would be started; how many there are is not known here",
    )


def _rabbitmq(data: Mapping[str, str], around: Around) -> Read:
    """Over AMQP only what waits is told; over HTTP what is not acknowledged, too."""
    target = _milli(data.get("value")) or _target(data, "queueLength", 20)
    activation = _milli(data.get("activationValue")) or 0
    if data.get("mode") == "MessageRate":
        return Read("", Signal("requests_per_s", window_s=60.0), target, activation)
    is_http = data.get("protocol") == "http" or data.get("host", "").startswith("http")
    kind: SignalKind = "length" if is_http and not _is_true(data, "excludeUnacknowledged") else "waiting"
    return Read("", Signal(kind), target, activation)


def _cloudwatch(data: Mapping[str, str], around: Around) -> Read:
    """As old as the period of the statistic: the end of the window is cut down to a multiple of it
    (aws_cloudwatch_scaler.go)."""
    period = float(_number(data.get("metricStatPeriod")) or _CLOUDWATCH_S)
    target, activation = _target(data, "targetMetricValue", 0), _milli(data.get("activationTargetMetricValue")) or 0
    name = data.get("metricName", "")
    found = of_metric(name) if name and "expression" not in data else None
    if found is None:
        what = f"the metric {name}" if name else "an expression"
        why = f"{what} of CloudWatch is not one that is known here"
        nothing = _milli(data.get("minMetricValue"))
        if nothing is None or not _is_true(data, "ignoreNullValues", otherwise=True):
            return replace(_unknown(why), target=target or 1000, activation=activation)
        why += f"; it reads minMetricValue ({data['minMetricValue']}) all the time, as if nobody published it"
        return Read("", Signal("unknown", otherwise=nothing), target, activation, why=why)
    names, values = data.get("dimensionName", "").split(";"), data.get("dimensionValue", "").split(";")
    dimensions = dict(zip(names, values, strict=False))
    query = replace(found, model=dimensions.get("model", dimensions.get("Model", "")))
    is_average = data.get("metricStat", "Average") == "Average"
    read = _of_query(query, around, period)
    signal = replace(read.signal, window_s=period if is_average or found.kind == "requests_per_s" else 0.0)
    if found.kind == "requests_per_s" and data.get("metricStat") == "Sum":
        signal = replace(signal, factor=signal.factor * Fraction(period))
    return replace(read, signal=signal, target=target, activation=activation)


def _prometheus(data: Mapping[str, str], around: Around) -> Read:
    target, activation = _target(data, "threshold", 0), _milli(data.get("activationThreshold")) or 0
    found = of_promql(data.get("query", ""))
    if found is None:
        why = f"the query `{_short(data.get('query', ''))}` is not one that can be computed here"
        return replace(_unknown(why), target=target or 1000, activation=activation)
    if found.is_per_pod:
        why = (
            f"the query `{_short(data.get('query', ''))}` gives one series for each pod, and KEDA takes only one: with "
            "several replicas it is an error, and nothing scales by it but a fallback; an aggregation around it, "
            "sum(...), makes it one"
        )
        return replace(_unknown(why), target=target or 1000, activation=activation, fails=True)
    read = _of_query(found, around, around.scrape_s)
    if read.signal.kind == "unknown" and _is_true(data, "ignoreNullValues", otherwise=True):
        read = replace(read, signal=replace(read.signal, otherwise=0))
    return replace(read, target=target, activation=activation)


def _cron(data: Mapping[str, str], around: Around) -> Read:
    replicas = _number(data.get("desiredReplicas"))
    start, end, zone = data.get("start", ""), data.get("end", ""), data.get("timezone", "")
    if replicas is None or not start or not end:
        return _unknown("start, end or desiredReplicas is missing")
    for schedule in (start, end):
        if cron.fault(schedule):
            return _unknown(f"{schedule} is no schedule: {cron.fault(schedule)}")
    try:
        zone_of(zone)
    except ValueError as error:
        return _unknown(str(error))
    return Read("", Signal("time", cron=(start, end, zone, replicas)), 1000)


def _resource(resource: str, type_: str, written: str, around: Around) -> Read:
    """cpu: an engine is taken to use one core while it computes, and none while it waits."""
    if resource != "cpu":
        return replace(_unknown(f"how much {resource or 'of a resource'} pods use is not known here"), is_resource=True)
    share = _number(written) if type_ == "Utilization" else None
    cores = _milli(written) if type_ == "AverageValue" else None
    signal = Signal("cpu_utilization", delay_s=15.0, window_s=15.0)
    if share is not None and share > 0 and around.cpu_milli > 0:
        factor = Fraction(1000, around.cpu_milli)
        signal = replace(signal, factor=factor, by_pods="Utilization")
        return Read("", signal, share * 1000, type="Value", is_resource=True)
    if cores is not None and cores > 0:
        signal = replace(signal, factor=Fraction(1, 100), by_pods="AverageValue")
        return Read("", signal, cores, type="Value", is_resource=True)
    why = "its pods request no cpu, or its target is not above 0"
    return replace(_unknown(why), is_resource=True)


_READERS = {
    **dict.fromkeys(_REDIS_LISTS, _lists),
    "aws-sqs-queue": _sqs,
    "aws-cloudwatch": _cloudwatch,
    "prometheus": _prometheus,
    "kafka": _kafka,
    "apache-kafka": _kafka,
    "rabbitmq": _rabbitmq,
    "cron": _cron,
}


def activation_of(read: Read, *, is_alone: bool) -> int:
    """Above which value it says that there is something to do. cpu and memory never say so, unless there is nothing
    else: then always."""
    if not read.is_resource:
        return read.activation
    return -1 if is_alone else _NEVER


def _of_query(found: Query, around: Around, delay_s: float) -> Read:
    signal = Signal(found.kind, delay_s, found.window_s, found.factor, across=found.across)
    if not found.model or found.model == around.model:
        return Read("", signal)
    if found.model in around.models:
        return Read("", replace(signal, model=found.model))
    return Read("", Signal("unknown", delay_s), why=f"it reads the model {found.model}, which nothing here serves")


def _unknown(why: str) -> Read:
    return Read("", Signal("unknown"), why=why)


def _mean(kind: SignalKind) -> Any:
    return "" if kind in ("gpu_utilization", "cpu_utilization", "kv_usage", "unknown", "time") else "mean"


def _model_of_stream(stream: str, around: Around) -> str:
    """Of Stoker's own streams, which are named after models."""
    name = stream.removeprefix(_OF_STOKER)
    return name if name != stream and name in around.models and name != around.model else ""


def _metadata(tree: Any) -> dict[str, str]:
    """Values are text; what people write as numbers is taken as such."""
    found = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, bool):
            found[str(key)] = str(value).lower()
        elif isinstance(value, str | int | float):
            found[str(key)] = str(value)
    return found


def _milli(value: Any) -> int | None:
    """A number or quantity in thousandths."""
    read = amount(value)
    return None if read is None else int(Fraction(read) * 1000)


def _target(data: Mapping[str, str], key: str, otherwise: int) -> int:
    read = _milli(data.get(key))
    return otherwise * 1000 if read is None else read


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\s*\d+\s*", text) else None


def _is_true(data: Mapping[str, str], key: str, *, otherwise: bool = False) -> bool:
    return {"true": True, "false": False}.get(data.get(key, "").lower(), otherwise)


def _said(data: Mapping[str, str]) -> str:
    for key in ("query", "stream", "listName", "queueURL", "metricName", "topic", "queueName", "start", "value"):
        if key in data:
            return _short(data[key])
    return ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."
