"""Values of the chart that may differ at installation: which keys, within which bounds, and the values that
`chart_probing` tries them with.

Only what `render` puts into objects as it is written can be a value of Helm's. What is computed from (which instance
types fit, what the nodes may cost) is fixed in a chart, and so is a key whose value decides which objects or fields
there are. Whether a key of this table is live in the chart of one spec is found out by trying, not said here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stoker.spec import Platform

Path = tuple[str, ...]
Value = Any
"""A value of YAML that is no section and no list."""


@dataclass(frozen=True)
class Bounds:
    """What a live value may be: whole numbers from `least` to `most`, or text of which all of `pattern` (RE2) holds and
    nothing of `never`, beside what the schema says."""

    least: int | None = None
    most: int | None = None
    pattern: str | None = None
    never: str | None = None


@dataclass(frozen=True)
class LiveKey:
    """One key of one spec: its value there, and two others that it is tried with."""

    path: Path
    value: Value
    probes: tuple[Value, Value]
    bounds: Bounds
    group: str

    @property
    def extremes(self) -> tuple[Value, Value]:
        """The least and the largest that it may be; of text the probes."""
        return self.probes if self.bounds.most is None else (self.bounds.least, self.bounds.most)


@dataclass(frozen=True)
class _Row:
    path: str
    """As in docs/spec.md; * stands for each name that the spec has there."""
    probes: tuple[str, str] | None = None
    """For text. None: whole numbers, for which they are chosen."""
    least: int = 1
    most: int | Callable[[Platform], int] = 0
    pattern: str | None = None
    never: str | None = None
    from_null: bool = False
    """Whether it is tried from null to a value, too. Most keys add or remove fields that way."""
    applies: Callable[[Platform], bool] = lambda platform: True
    group: str = "words"
    """Rows that are tried together: what may be computed with apart from what hardly is."""


_LATEST = "(^|:)latest$"
_BEHAVIOR = "keda.advanced.horizontalPodAutoscalerConfig.behavior"
_PINNED = "^[a-z0-9][A-Za-z0-9._/:@-]*(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$"
"""An image with a digest or a tag, which the schema alone does not ask for."""
PLAIN = "^[A-Za-z0-9._/:@+%=-]+$"
"""Text of which `chart_templates` knows how YAML quotes it."""

_ARN = "^arn:aws[a-z-]*:{}:[A-Za-z0-9:/_-]+$"
_CRON = "^[0-9A-Za-z*,/?@-]+( [0-9A-Za-z*,/?-]+){4}$"


def _rows(platform: Platform) -> Iterator[_Row]:
    inference, keda = platform.llm.inference, platform.keda
    yield _Row(
        "global.images.registry",
        ("registry-a.example.com/own", "registry-b.example.com:5000/other/own"),
        from_null=True,
    )
    yield _Row("global.images.tag", ("7.7.1-probe", "7.7.2-probe"), never=_LATEST, from_null=True)
    yield _Row("global.tags.*", ("probe-a", "probe-b"), pattern=PLAIN, group="tags")
    # The rest of the host says in which namespace it is, and so who is let in by the NetworkPolicies.
    host = urlsplit(platform.global_.observability.prometheus_url).hostname or ""
    namespace = host[len(host.partition(".")[0]) :]
    yield _Row(
        "global.observability.prometheusUrl",
        (f"http://prometheus-a{namespace}:9091", f"https://prometheus-b{namespace}/base"),
        pattern=rf"^https?://[A-Za-z0-9-]+{re.escape(namespace)}(:[0-9]{{1,5}})?(/[A-Za-z0-9._/-]*)?$",
        never="aps-workspaces",
    )
    yield _Row("global.observability.alarmEmail", ("probe-a@example.com", "probe-b@example.net"))
    # What older images cannot do is left out of user data, and Bottlerocket's versions are no dates.
    yield _Row(
        "karpenter.image",
        ("al2023@v20971231", "al2023@v20981231"),
        pattern="^al2023@v20(2[6-9]|[3-9][0-9])[0-9]{4}$",
    )
    yield _Row("karpenter.protectedHours.schedule", ("11 1 * * 1-5", "12 2 * * 2-6"), pattern=_CRON)
    yield _Row("karpenter.protectedHours.duration", ("71h", "72h30m"))
    yield _Row("karpenter.protectedHours.nodes", ("41%", "42%"), pattern="^[1-4]?[0-9]%$")
    yield _Row("karpenter.nodePools.*.capacityReservation", ("cr-0a0a0a0a0a", "cr-0b0b0b0b0b"))
    yield _Row("karpenter.nodePools.*.placementGroup", ("probe-group-a", "probe-group-b"), pattern=PLAIN)
    yield _Row("keda.pollingInterval", most=86_400)
    yield _Row("keda.cooldownPeriod", most=604_800)
    yield _Row("keda.initialCooldownPeriod", most=604_800)
    yield _Row("keda.activationLagCount", least=0, most=100_000)
    for key in ("lagCount", "pendingEntriesCount", "runningCount"):
        yield _Row(f"keda.{key}", most=100_000)
    yield _Row("keda.fallback.failureThreshold", most=1000)
    yield _Row("keda.fallback.replicas", most=_fewest_maximum, group="fallback")
    yield _Row(f"{_BEHAVIOR}.scaleUp.stabilizationWindowSeconds", least=0, most=3600)
    yield _Row(f"{_BEHAVIOR}.scaleDown.stabilizationWindowSeconds", least=0, most=3600)
    # At zero, and where the least is the most, there are other fields.
    usual = inference.autoscaling.max_replicas
    most = keda.max_replica_count or usual
    yield _Row("keda.minReplicaCount", most=most - 1, group="least")
    yield _Row("llm.inference.autoscaling.minReplicas", most=min(most, usual) - 1, group="least")
    yield _Row("llm.inference.replicas", most=10_000, group="replicas", applies=_scales_or_makes_no_nodes)
    for name, model in platform.llm.models.items():
        if model.replicas is not None:
            path = f"llm.models.{name}.replicas"
            yield _Row(f"{path}.min", most=model.replicas.max - 1, group="least")
            yield _Row(f"{path}.max", least=model.replicas.max, most=10_000, group="most", applies=_makes_no_nodes)
    # Only upwards, so that the least, which is live itself, stays below it.
    yield _Row("keda.maxReplicaCount", least=most, most=10_000, group="most", applies=_makes_no_nodes)
    path = "llm.inference.autoscaling.maxReplicas"
    yield _Row(path, least=usual, most=10_000, group="most", applies=_makes_no_nodes)
    for key in ("llm.inference.image", "llm.models.*.serving.image", "training.image"):
        name = key.split(".")[-2]
        probes = (f"registry-1.example.com/{name}:v1.0.1", f"registry-2.example.com/{name}:v1.0.2")
        yield _Row(key, probes, never=_LATEST, pattern=_PINNED, group=key)
    yield _Row("edge.host", ("probe-a.example.com", "probe-b.example.org"))
    yield _Row("edge.certificateArn", _arns("acm"), pattern=_ARN.format("acm"))
    yield _Row("edge.wafAclArn", _arns("wafv2"), pattern=_ARN.format("wafv2"), never=":global/")
    yield _Row("edge.accessLogsBucket", ("probe-logs-a", "probe-logs-b"))


def _arns(service: str) -> tuple[str, str]:
    return f"arn:aws:{service}:us-west-2:111122223333:probe/a", f"arn:aws:{service}:us-west-2:111122223333:probe/b"


def _makes_no_nodes(platform: Platform) -> bool:
    """With NodePools, the most replicas decide how many nodes there may be."""
    return not platform.karpenter.enabled


def _scales_or_makes_no_nodes(platform: Platform) -> bool:
    return platform.llm.inference.autoscaling.enabled or _makes_no_nodes(platform)


def _fewest_maximum(platform: Platform) -> int:
    """More than this is cut for some model."""
    most = [platform.cluster_replicas(name).max for name in platform.llm.models]
    return min([*most, platform.agents.workers.replicas.max])


def candidates(platform: Platform, values: Mapping[str, Any]) -> list[LiveKey]:
    """The keys of the table that could be live in a chart of this spec, whose YAML is `values`. One that is null is
    not, unless the row says so; nor is one with no room for another value."""
    found: list[LiveKey] = []
    for row in _rows(platform):
        if not row.applies(platform):
            continue
        for path, value in _places(values, tuple(row.path.split("."))):
            if value is None and not row.from_null:
                continue
            number = len(found)
            if row.probes is not None:
                if row.pattern is not None and value is not None and not re.search(row.pattern, str(value)):
                    continue
                first, second = row.probes
                bounds = Bounds(pattern=row.pattern or PLAIN, never=row.never)
                probes = (_of(first, number), _of(second, number)) if "*" in row.path else (first, second)
                found.append(LiveKey(path, value, probes, bounds, row.group))
                continue
            most = row.most(platform) if callable(row.most) else row.most
            if not isinstance(value, int) or value < row.least:
                continue  # a part of one is rounded somewhere, and at zero there are other fields
            if (numbers := _two_others(value, row.least, most, number)) is not None:
                found.append(LiveKey(path, value, numbers, Bounds(row.least, most), row.group))
    return found


def _of(probe: str, number: int) -> str:
    """Told from the same probe of another name."""
    return probe.replace("probe", f"probe{number}") if "probe" in probe else probe + f"{number:04x}"


def _two_others(value: int, least: int, most: int, number: int) -> tuple[int, int] | None:
    """The largest, and one that is not far from the least; those of different keys are different where there is room.
    None where there are no two beside the value that stands."""
    room = range(least, min(most, least + 99) + 1)
    low = [each for each in (*room[1 + number % 89 :], *room) if each not in (value, most)]
    high = most if most != value else most - 1
    return (low[0], high) if low and low[0] < high else None


def _places(values: Any, pattern: Path, before: Path = ()) -> Iterator[tuple[Path, Value]]:
    if not pattern:
        yield before, values
        return
    if not isinstance(values, Mapping):
        return
    head, rest = pattern[0], pattern[1:]
    for name in values if head == "*" else (head,):
        if name in values:
            yield from _places(values[name], rest, (*before, name))
