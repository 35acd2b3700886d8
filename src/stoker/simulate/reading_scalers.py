"""ScaledObjects and HorizontalPodAutoscalers as scalers of the workloads in sight."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, get_args

from stoker.manifests.objects import Manifest, look, sections, whole
from stoker.manifests.quantities import amount
from stoker.policy import hpa, keda, keda_formulas
from stoker.simulate import reading_triggers
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_triggers import QUEUES, Around, Read
from stoker.simulate.scenario import Scaler, Signal

Key = tuple[str, str, str]
"""Kind, namespace and name of what is scaled."""
_KEDA = "autoscaling.keda.sh/"
_BY_KEDA = "keda-hpa-"
"""How the HPA is called that KEDA makes of a ScaledObject."""


@dataclass(frozen=True)
class Target:
    """A workload, as far as its scaler needs to know it. `model` is empty where it serves none."""

    name: str
    model: str
    replicas: int
    cpu_milli: int


def key_of(manifest: Manifest, kind: str, name: str) -> Key:
    """In the namespace of the manifest that names it."""
    return kind, manifest.namespace or "default", name


def scalers_of(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, Key]]:
    """All objects that scale, with what they scale. An HPA that KEDA made is that of its ScaledObject."""
    for each in manifests:
        name = each.get("spec", "scaleTargetRef", "name")
        if each.kind not in ("ScaledObject", "HorizontalPodAutoscaler") or not isinstance(name, str):
            continue
        owner = look(each.get("metadata", "ownerReferences"), 0, "kind")
        if each.kind == "HorizontalPodAutoscaler" and (owner == "ScaledObject" or each.name.startswith(_BY_KEDA)):
            continue
        kind = each.get("spec", "scaleTargetRef", "kind", default="Deployment")
        yield each, key_of(each, str(kind), name)


def queued(manifests: Sequence[Manifest]) -> frozenset[Key]:
    """What is scaled by the length of a queue, and so takes its work from it."""
    return frozenset(
        key
        for manifest, key in scalers_of(manifests)
        if any(trigger.get("type") in QUEUES for _, trigger in sections(manifest.get("spec", "triggers")))
    )


def read_scalers(
    manifests: Sequence[Manifest], targets: Mapping[Key, Target], notes: Notes
) -> tuple[tuple[Scaler, ...], dict[str, int]]:
    """The scalers of workloads that serve; and the fewest replicas of those that serve none, by name."""
    scrape_s = _scrape_s(manifests)
    models = tuple(dict.fromkeys(each.model for each in targets.values() if each.model))
    found: dict[str, Scaler] = {}
    least: dict[str, int] = {}
    for manifest, key in scalers_of(manifests):
        target = targets.get(key)
        if target is None:
            notes.passed(str(manifest), f"what it scales, {key[0]} {key[2]}, is not in sight or makes no replicas here")
        elif target.name in found:
            notes.passed(
                str(manifest), f"{target.name} has another scaler, {found[target.name].name}: the two would fight"
            )
        elif not target.model:
            minimum = "minReplicaCount" if manifest.kind == "ScaledObject" else "minReplicas"
            least[target.name] = max(whole(manifest.get("spec", minimum)) or 0, 1)
            notes.passed(str(manifest), "what it scales serves no model: its number stays at what is written")
        else:
            around = Around(target.model, models, scrape_s, target.cpu_milli, _polling_s(manifest))
            try:
                scaler = (
                    _scaled(manifest, target, around, notes)
                    if manifest.kind == "ScaledObject"
                    else _autoscaler(manifest, target, around, notes)
                )
            except ValueError as error:
                notes.passed(str(manifest), str(error))
                continue
            if scaler is not None:
                found[target.name] = scaler
    for manifest in manifests:
        if manifest.kind == "ScaledJob":
            notes.passed(str(manifest), "it makes Jobs, and these serve nobody")
    return tuple(found.values()), least


def behavior_of(tree: Any) -> hpa.Behavior | None:
    """None where none is written: then the older algorithm holds."""
    if not isinstance(tree, dict):
        return None
    return hpa.Behavior(_rules(tree.get("scaleUp"), hpa.UP), _rules(tree.get("scaleDown"), hpa.DOWN))


# --- KEDA -------------------------------------------------------------------------------------------------------------


def _scaled(manifest: Manifest, target: Target, around: Around, notes: Notes) -> Scaler | None:
    spec, name = manifest.get("spec", default={}), str(manifest)
    reads = [
        reading_triggers.trigger(each, index, around) for index, each in sections(manifest.get("spec", "triggers"))
    ]
    if not reads:
        notes.passed(name, "it has no triggers")
        return None
    reads = _of_one_queue(name, _named_once(reads), notes)
    modifiers = _modifiers(manifest, [each.name for each in reads], notes)
    kept = reads if modifiers is not None else _kept(name, reads, notes)
    is_alone = all(each.is_resource for each in kept)
    triggers = tuple(
        keda.Trigger(each.name, each.target, reading_triggers.activation_of(each, is_alone=is_alone), each.type)
        for each in kept
    )
    idle = whole(look(spec, "idleReplicaCount"))
    maximum = whole(look(spec, "maxReplicaCount"))
    scaled = keda.ScaledObject(
        triggers=triggers,
        minimum=whole(look(spec, "minReplicaCount")) or 0,
        maximum=100 if maximum is None else maximum,
        idle=idle,
        polling_s=around.polling_s,
        cooldown_s=_seconds(look(spec, "cooldownPeriod"), 300.0),
        initial_cooldown_s=_seconds(look(spec, "initialCooldownPeriod"), 0.0),
        fallback=_fallback(look(spec, "fallback")),
        behavior=behavior_of(look(spec, "advanced", "horizontalPodAutoscalerConfig", "behavior")),
        modifiers=modifiers,
    )
    if scaled.minimum == 0 and modifiers is None and all(each.signal.kind == "pending" for each in kept):
        notes.say(f"{name}: it counts only what replicas were given, so nothing wakes the first one from zero")
    scaled = _annotated(manifest, scaled, notes)
    signals = {each.name: each.signal for each in reads}
    return Scaler(name, target.name, signals, scaled=scaled, paused_at=_paused_at(manifest, target))


def _named_once(reads: Sequence[Read]) -> list[Read]:
    """KEDA asks for names that differ; a second one of the same name gets a number."""
    seen: set[str] = set()
    found = []
    for index, each in enumerate(reads):
        name = f"{each.name}-{index}" if each.name in seen else each.name
        seen.add(name)
        found.append(replace(each, name=name))
    return found


def _of_one_queue(name: str, reads: Sequence[Read], notes: Notes) -> list[Read]:
    """Requests wait in one queue: the first that is read. Others are empty."""
    home = next((each.queue for each in reads if each.queue), "")
    found = []
    for each in reads:
        if each.queue not in ("", home):
            notes.say(f"{name}, {each.name}: requests are taken to wait in the first queue, {home}; this one is empty")
            each = replace(each, signal=Signal("unknown", otherwise=0, said=each.signal.said), why="")
        found.append(each)
    return found


def _kept(name: str, reads: Sequence[Read], notes: Notes) -> list[Read]:
    """Those that decide. One that cannot be computed would count as a source that fails, and freeze or fall back; it is
    left out, unless it is all there is, or fails in the cluster, too."""
    known = [each for each in reads if each.signal.kind != "unknown" or each.signal.otherwise is not None]
    kept = [each for each in reads if each in known or each.fails]
    for each in reads:
        if each.why:
            left_out = " (left out; the others decide)" if kept and each not in kept else ""
            notes.say(f"{name}, {each.name}: {each.why}{left_out}")
    if not known:
        notes.say(f"{name}: nothing that it reads can be computed, so it acts as if its sources failed")
    return kept or list(reads)


def _modifiers(manifest: Manifest, names: Sequence[str], notes: Notes) -> keda.Modifiers | None:
    tree = manifest.get("spec", "advanced", "scalingModifiers")
    formula = look(tree, "formula")
    if not isinstance(formula, str) or not formula.strip():
        return None
    target = _milli(look(tree, "target"))
    try:
        parsed = keda_formulas.parse(formula)
    except ValueError as error:
        said = f"its formula `{formula}` is not one that can be computed here ({error})"
        notes.say(f"{manifest}: {said}; its triggers count alone")
        return None
    strange = [each for each in keda_formulas.names(parsed) if each not in names]
    if strange or target is None:
        said = f"no trigger is called {', '.join(strange)}" if strange else "it has no target"
        notes.say(f"{manifest}: its formula cannot be used, since {said}; its triggers count alone")
        return None
    kind: hpa.MetricType = "Value" if look(tree, "metricType") == "Value" else "AverageValue"
    return keda.Modifiers(parsed, target, _milli(look(tree, "activationTarget")) or 0, kind)


def _fallback(tree: Any) -> keda.Fallback | None:
    threshold, replicas = whole(look(tree, "failureThreshold")), whole(look(tree, "replicas"))
    if threshold is None or replicas is None:
        return None
    behavior = look(tree, "behavior", default="static")
    return keda.Fallback(threshold, replicas, behavior if behavior in get_args(keda.FallbackBehavior) else "static")


def _annotated(manifest: Manifest, scaled: keda.ScaledObject, notes: Notes) -> keda.ScaledObject:
    """`paused-scale-in` and `paused-scale-out` close one direction of the HPA."""
    behavior = scaled.behavior or hpa.Behavior()
    if manifest.annotations.get(f"{_KEDA}paused-scale-in") == "true":
        notes.say(f"{manifest}: scaling in is paused; it keeps one replica at least")
        behavior = replace(behavior, down=replace(behavior.down, select="Disabled"))
        scaled = replace(scaled, behavior=behavior, minimum=max(scaled.minimum, 1))
    if manifest.annotations.get(f"{_KEDA}paused-scale-out") == "true":
        behavior = replace(behavior, up=replace(behavior.up, select="Disabled"))
        scaled = replace(scaled, behavior=behavior)
    if manifest.annotations.get(f"{_KEDA}force-activation") == "true":
        notes.say(f"{manifest}: force-activation keeps one replica at least")
        scaled = replace(scaled, minimum=max(scaled.minimum, 1))
    return scaled


def _paused_at(manifest: Manifest, target: Target) -> int | None:
    written = manifest.annotations.get(f"{_KEDA}paused-replicas", "")
    if written.isdigit():
        return int(written)
    return target.replicas if manifest.annotations.get(f"{_KEDA}paused") == "true" else None


# --- HPA alone --------------------------------------------------------------------------------------------------------


def _autoscaler(manifest: Manifest, target: Target, around: Around, notes: Notes) -> Scaler | None:
    spec, name = manifest.get("spec", default={}), str(manifest)
    written = [each for _, each in sections(look(spec, "metrics"))]
    share = whole(look(spec, "targetCPUUtilizationPercentage"))
    if not written:  # autoscaling/v1, and what v2 does without metrics
        of_cpu = {"type": "Utilization", "averageUtilization": 80 if share is None else share}
        written = [{"type": "Resource", "resource": {"name": "cpu", "target": of_cpu}}]
    reads = _named_once([read for each in written if (read := reading_triggers.metric(each, around)) is not None])
    if not reads:
        notes.passed(name, "none of its metrics has a name")
        return None
    kept = _kept(name, reads, notes)
    minimum, maximum = whole(look(spec, "minReplicas")), whole(look(spec, "maxReplicas"))
    if maximum is None:
        raise ValueError("it has no maxReplicas")
    return Scaler(
        name,
        target.name,
        {each.name: each.signal for each in reads},
        autoscaler=hpa.Autoscaler(1 if minimum is None else minimum, maximum, behavior_of(look(spec, "behavior"))),
        targets={each.name: (each.target, each.type) for each in kept},
    )


def _rules(tree: Any, default: hpa.Rules) -> hpa.Rules:
    if not isinstance(tree, dict):
        return default
    policies = tuple(
        hpa.Policy(each["type"], each["value"], float(whole(each.get("periodSeconds")) or 15))
        for _, each in sections(tree.get("policies"))
        if each.get("type") in ("Pods", "Percent") and whole(each.get("value")) is not None
    )
    select = tree.get("selectPolicy", default.select)
    tolerance = amount(tree.get("tolerance"))
    return hpa.Rules(
        _seconds(tree.get("stabilizationWindowSeconds"), default.stabilization_s),
        policies or default.policies,
        select if select in get_args(hpa.Select) else default.select,
        default.tolerance if tolerance is None else Fraction(tolerance),
    )


def _polling_s(manifest: Manifest) -> float:
    return _seconds(manifest.get("spec", "pollingInterval"), 30.0) or 30.0


def _scrape_s(manifests: Sequence[Manifest]) -> float:
    """The shortest interval of the monitors in sight, be they of engines or of gateways."""
    found = []
    for each in manifests:
        if each.kind in ("ServiceMonitor", "PodMonitor"):
            for key in ("endpoints", "podMetricsEndpoints"):
                found += [one.get("interval") for _, one in sections(each.get("spec", key))]
    seconds = [float(each[:-1]) for each in found if isinstance(each, str) and each[-1:] == "s" and each[:-1].isdigit()]
    return min(seconds, default=reading_triggers.SCRAPE_S)


def _seconds(value: Any, otherwise: float) -> float:
    number = whole(value)
    return otherwise if number is None or number < 0 else float(number)


def _milli(value: Any) -> int | None:
    read = amount(value)
    return None if read is None else int(Fraction(read) * 1000)
