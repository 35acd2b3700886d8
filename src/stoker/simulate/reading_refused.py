"""Settings that the API server, KEDA or an engine would refuse: each is a note with what is taken in its place.

The readers take defaults for what they cannot use; here it is said. Whatever else is wrong is for `stoker lint`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stoker.base.durations import seconds_of
from stoker.manifests.disruptions import AUTO_EXPIRES_AFTER_S, EXPIRES_AFTER_S, is_budget, policy_of
from stoker.manifests.node_pools import is_auto_mode
from stoker.manifests.objects import Manifest, is_open, look, sections, whole
from stoker.manifests.quantities import amount
from stoker.simulate.reading_commands import Engine, whole_number
from stoker.simulate.reading_notes import Notes
from stoker.simulate.scenario import Serving

_POLICIES = ("WhenEmpty", "WhenEmptyOrUnderutilized", "WhenUnderutilized", "Balanced")
_SCALED = (
    # (field of a ScaledObject, the least it may be, what is taken instead)
    ("pollingInterval", 1, "30"),
    ("cooldownPeriod", 0, "300"),
    ("minReplicaCount", 0, "0"),
    ("maxReplicaCount", 0, "100"),
)
_UNREAD = "the trigger cannot be computed"
_TARGETS = {
    "lagCount": "it is left out",
    "pendingEntriesCount": "5 is taken",
    "streamLength": "5 is taken",
    "listLength": "5 is taken",
    "queueLength": "5 is taken",
    "lagThreshold": "10 is taken",
    "threshold": _UNREAD,
    "targetMetricValue": _UNREAD,
    "desiredReplicas": _UNREAD,
}
"""Numbers of triggers, with what becomes of one that is none."""
_RABBITMQ = {"queueLength": "20 is taken", "value": "queueLength counts, or 20"}
_OF_RESOURCES = ("cpu", "memory")
_LENGTHS = ("max-model-len", "max-total-tokens", "context-length", "context", "ctx-size")
_AT_ONCE = ("max-num-seqs", "max-running-requests", "max-concurrent-requests", "max-running", "parallel")
_BATCHES = ("max-num-batched-tokens", "max-batch-prefill-tokens", "chunked-prefill-size")
_SHARES = ("gpu-memory-utilization", "mem-fraction-static", "cuda-memory-fraction")
_LEFT_TO_THE_ENGINE = ("auto", "-1")
"""Values by which an engine chooses itself."""


def refused(manifests: Iterable[Manifest], replicated: Sequence[str], notes: Notes) -> None:
    """`replicated`: kinds whose `replicas` are read."""
    for each in manifests:
        found: Iterator[tuple[str, Any, str]] = iter(())
        if each.kind in replicated:
            found = _numbers(each, (("replicas", 0, "0" if (_written(each, "replicas") or 0) < 0 else "1"),))
        elif each.kind == "ScaledObject":
            found = _of_scaled(each)
        elif each.kind == "NodePool":
            found = _of_pool(each)
        for field, value, taken in found:
            if not is_open(each, value):
                notes.say(f"{each}: {field} {_said(value)} would be refused; {taken}")


def options_refused(engine: Engine, taken: Serving, name: str, notes: Notes) -> None:
    """Options with which the engine would not start. `taken`: how it serves here."""
    length = taken.max_model_len
    for names, suits, instead in (
        (_LENGTHS, _is_number, "the model's own length" if length is None else f"{length}"),
        (_AT_ONCE, _is_number, f"{taken.concurrency}"),
        (_BATCHES, _is_number, f"{taken.max_batched_tokens}"),
        (_SHARES, _is_share, f"{taken.memory_share:g}"),
    ):
        option, value = _option(engine, names)
        if option and not suits(value):
            notes.say(f"{name}: with --{option} {_said(value)} its engine would not start; {instead} is taken")


def _option(engine: Engine, names: Sequence[str]) -> tuple[str, str]:
    """The one of these that is read; `$(NAME)` that nothing fills in says nothing."""
    option = next((each for each in names if engine.options.get(each)), "")
    value = engine.options.get(option, "")
    return ("", "") if "$" in value else (option, value)


def _is_number(text: str) -> bool:
    return text in _LEFT_TO_THE_ENGINE or bool(whole_number(text))


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def _written(manifest: Manifest, field: str) -> int | None:
    return whole(manifest.get("spec", field))


def _numbers(manifest: Manifest, fields: Iterable[tuple[str, int, str]]) -> Iterator[tuple[str, Any, str]]:
    for field, least, taken in fields:
        value = manifest.get("spec", field)
        number = whole(value)
        if value is not None and (number is None or number < least):
            yield f"spec.{field}", value, f"{taken} is taken"


def _of_scaled(manifest: Manifest) -> Iterator[tuple[str, Any, str]]:
    yield from _numbers(manifest, _SCALED)
    for index, each in sections(manifest.get("spec", "triggers")):
        kind, data = each.get("type"), each.get("metadata")
        if kind in _OF_RESOURCES or not isinstance(data, dict):
            continue  # a share or an amount, and without it the trigger is unknown
        targets = {**_TARGETS, **(_RABBITMQ if kind == "rabbitmq" else {})}
        for key, value in data.items():
            taken = "0 is taken" if str(key).startswith("activation") else targets.get(key)
            if taken is not None and value is not None and amount(str(value)) is None:
                yield f"spec.triggers[{index}].metadata.{key}", value, taken


def _of_pool(manifest: Manifest) -> Iterator[tuple[str, Any, str]]:
    policy = manifest.get("spec", "disruption", "consolidationPolicy")
    if policy is not None and policy not in _POLICIES:
        yield "spec.disruption.consolidationPolicy", policy, f"{policy_of(manifest)} is taken"
    expires = AUTO_EXPIRES_AFTER_S if is_auto_mode(manifest) else EXPIRES_AFTER_S
    place = ("disruption",) if manifest.version == "v1beta1" else ("template", "spec")
    for path, taken in (
        ((*place, "expireAfter"), f"{expires / 3600:g}h is taken"),
        (("disruption", "consolidateAfter"), "0s is taken"),
    ):
        value = manifest.get("spec", *path)
        if value is not None and not _is_duration(value):
            yield ".".join(("spec", *path)), value, taken
    for index, each in sections(manifest.get("spec", "disruption", "budgets")):
        if not is_budget(each):
            nodes = look(each, "nodes")
            field = "nodes" if not is_budget({"nodes": nodes} if nodes is not None else {}) else ""
            place_of = f"spec.disruption.budgets[{index}]"
            yield f"{place_of}.{field}" if field else place_of, nodes if field else each, "it is left out"


def _is_duration(value: Any) -> bool:
    if value == "Never":
        return True
    try:
        return isinstance(value, str) and seconds_of(value) >= 0
    except ValueError:
        return False


def _said(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
