"""Lives of replicas and nodes as figures: how many at once, for how long, and what a scale-up spent its time on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.simulate.result import NodeLife, ReplicaLife, Result

PHASES = ("decide", "node", "boot", "image", "weights", "start")
PHASE_MEANS: Mapping[str, str] = {
    "decide": "no node had room, and none was asked for yet; or it waited for room on one that was there",
    "node": "until EC2 gave the node",
    "boot": "until the node had booted, told of its GPUs, and the pod was bound",
    "image": "until its images were on the node",
    "weights": "until the model's weights were loaded",
    "start": "until it was seen ready: engine start-up, compilation, probes",
}
PHASE_NAMES: Mapping[str, str] = {
    "decide": "waiting",
    "node": "EC2",
    "boot": "booting",
    "image": "pulling",
    "weights": "loading",
    "start": "starting",
}

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ScaleUp:
    """A replica that was made during the run. A phase that did not end is None, as are those after it; with
    `total_s`, from being made to being ready, likewise."""

    life: ReplicaLife
    node: NodeLife | None
    phases: Mapping[str, float | None]
    total_s: float | None


def most_at_once(spans: Sequence[Span]) -> int:
    """A span ends before another begins at the same moment."""
    now = most = 0
    for _, step in sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans]):
        now += step
        most = max(most, now)
    return most


def billed(node: NodeLife, end: float) -> Span | None:
    """When it was alive within the run; None where it never was."""
    return _within(node.launched_at, node.gone_at, end)


def serving(replica: ReplicaLife, end: float) -> Span | None:
    """When it took requests within the run: from being ready to being told to leave."""
    leaves = [each for each in (replica.leaving_at, replica.gone_at) if each is not None]
    return _within(replica.ready_at, min(leaves, default=None), end)


def of_models(result: Result) -> dict[str, list[ReplicaLife]]:
    """Replicas by model, models in their order, a group of pods as one; pods that serve none are left out."""
    found: dict[str, list[ReplicaLife]] = {model: [] for model in result.models}
    for each in result.replicas:
        if each.model in found and each.stands_for_all:
            found[each.model].append(each)
    return found


def scale_ups(result: Result) -> list[ScaleUp]:
    """In the order in which they were asked for."""
    nodes = {each.name: each for each in result.nodes}
    replicas = [each for of_model in of_models(result).values() for each in of_model]
    made = [each for each in replicas if each.created_at >= 0]
    return [_scale_up(each, nodes.get(each.node or "")) for each in sorted(made, key=lambda r: (r.created_at, r.name))]


def _scale_up(life: ReplicaLife, node: NodeLife | None) -> ScaleUp:
    return ScaleUp(life, node, *phases_of(life, node))


def phases_of(life: ReplicaLife, node: NodeLife | None) -> tuple[dict[str, float | None], float | None]:
    """Seconds by phase, and in all."""
    moments = [life.created_at, *_until_bound(life, node), life.pulled_at, life.loaded_at, life.ready_at]
    phases: dict[str, float | None] = {}
    for name, before, after in zip(PHASES, moments, moments[1:], strict=False):
        phases[name] = None if before is None or after is None else max(0.0, after - before)
    return phases, None if life.ready_at is None else life.ready_at - life.created_at


def _until_bound(life: ReplicaLife, node: NodeLife | None) -> list[float | None]:
    """When a node was asked for, was there, and took the pod. For a pod on a node that was ready before it, all of the
    time before it was bound was spent on the decision; on one that was on its way already, none was."""
    bound = life.bound_at
    if bound is None:
        return [None, None, None]
    if node is None or (node.ready_at is not None and node.ready_at <= life.created_at):
        return [bound, bound, bound]

    def between(at: float | None) -> float:
        return bound if at is None else min(max(at, life.created_at), bound)

    return [between(node.asked_at), between(node.launched_at), bound]


def _within(start: float | None, stop: float | None, end: float) -> Span | None:
    if start is None:
        return None
    begins, ends = max(start, 0.0), min(end if stop is None else stop, end)
    return (begins, ends) if ends > begins else None
