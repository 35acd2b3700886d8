"""Two runs side by side: what each has told of its steps and kept in the end, and whether the storm left a trace. Pure,
but for `of_store`, which reads.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.drill.verdicts import Check, Verdict
from stoker.registry.runs import RunStore
from stoker.registry.shards import Damaged, read_pieces
from stoker.registry.stores import Store
from stoker.train import exits, record
from stoker.train.launching import Ended

# So many are named in words; all are counted.
_NAMED = 3


@dataclass(frozen=True)
class Strike:
    """What was done to a run, after which step. `rank` of the process that was killed."""

    kind: Literal["notice", "kill"]
    step: int
    rank: int | None = None

    @property
    def words(self) -> str:
        who = "notice" if self.kind == "notice" else f"process {self.rank} killed"
        return f"{who} after step {self.step}"


@dataclass
class Storm:
    strikes: list[Strike] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    """Of each machine."""


@dataclass(frozen=True)
class Launch:
    """One launch, by its records: the step that it went on from, and those that it did. `saved`: step of a checkpoint
    -> the step that was done when it was durable. `skipped`: checkpoints that it could not use."""

    begins: int
    losses: Mapping[int, str]
    samples: Mapping[int, str]
    saved: Mapping[int, int]
    skipped: Sequence[str]
    failed_saves: Sequence[str]

    @property
    def last(self) -> int:
        """The last step that is done after it."""
        return max(self.losses, default=self.begins)


@dataclass(frozen=True)
class Side:
    """`weights`: name -> digest of each tensor of the newest checkpoint; None: there is none that is whole."""

    steps: int
    launches: Sequence[Launch]
    weights: Mapping[str, str] | None

    def losses(self) -> dict[int, set[str]]:
        """All that were ever told of a step: one that was done twice has to come to the same twice."""
        return _all(launch.losses for launch in self.launches)

    def samples(self) -> dict[int, set[str]]:
        return _all(launch.samples for launch in self.launches)


def _all(several: Iterable[Mapping[int, str]]) -> dict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for each in several:
        for step, value in each.items():
            found[step].add(value)
    return dict(found)


@dataclass(frozen=True)
class Told:
    calm: Side
    storm: Side


# --- reading ----------------------------------------------------------------------------------------------------------


def of_store(store: Store, run: str) -> Side:
    records = record.read(store)
    steps = max((int(each["steps"]) for each in records if each["kind"] == "launch"), default=0)
    return Side(steps, launches_of(records), _weights(RunStore(store, run)))


def launches_of(records: Sequence[Mapping[str, Any]]) -> list[Launch]:
    cut: list[list[Mapping[str, Any]]] = []
    for each in records:
        if each["kind"] == "launch":
            cut.append([])
        if cut:
            cut[-1].append(each)
    return [_launch(each) for each in cut]


def _launch(records: Sequence[Mapping[str, Any]]) -> Launch:
    begins = done = 0
    losses, samples, saved = {}, {}, {}
    skipped, failed = [], []
    for each in records:
        match each["kind"]:
            case "resume":
                begins = done = int(each["step"])
                skipped += [f"{one['name']}: {one['why']}" for one in each["skipped"]]
            case "step":
                done = int(each["step"])
                losses[done], samples[done] = repr(each["loss"]), str(each["samples"])
            case "save":
                saved[int(each["step"])] = done
            case "save_failed":
                failed.append(f"{each['name']}: {each['why']}")
    return Launch(begins, losses, samples, saved, skipped, failed)


def _weights(store: RunStore) -> dict[str, str] | None:
    found = store.head()
    if found is None or not found[0].entries:
        return None
    entry = found[0].entries[-1]
    try:
        manifest = store.manifest(entry)
        names = sorted({piece.name for shard in manifest.shards for piece in shard.pieces})
        digests = {}
        for name in names:  # one at a time: all of them may be more than fits
            dtype, shape, data = read_pieces(store.store, store.prefix(entry.name), manifest.shards, {name: None})[name]
            digests[name] = hashlib.sha256(f"{dtype} {shape} ".encode() + data).hexdigest()
    except Damaged:
        return None
    return digests


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(told: Told, calm: Ended, storm: Storm, *, every_steps: int) -> Verdict:
    checks = [
        _struck(told, storm),
        _completed(told, calm, storm),
        _nothing_lost_by_notice(told, storm),
        _lost_by_kills(told, storm, every_steps),
        _checkpoints(told),
        _same("losses", told.calm.losses(), told.storm.losses(), told.calm.steps),
        _same("samples", told.calm.samples(), told.storm.samples(), told.calm.steps),
        _same_weights(told),
    ]
    lost = [before.last - after.begins for before, after in _pairs(told.storm)]
    evidence = {
        "steps": told.calm.steps,
        "strikes": [{"kind": each.kind, "step": each.step, "rank": each.rank} for each in storm.strikes],
        "launches": len(told.storm.launches),
        "resumed_from": [launch.begins for launch in told.storm.launches[1:]],
        "steps_lost": lost,
        "steps_compared": len(told.calm.losses().keys() & told.storm.losses().keys()),
        "losses_different": _different(told.calm.losses(), told.storm.losses()),
        "samples_different": _different(told.calm.samples(), told.storm.samples()),
        "tensors_compared": len(told.calm.weights or {}),
        "weights": _digest(told.storm.weights),
        "weights_in_the_calm": _digest(told.calm.weights),
    }
    return Verdict(checks, evidence)


def _pairs(side: Side) -> list[tuple[Launch, Launch]]:
    return list(zip(side.launches, side.launches[1:], strict=False))


def _struck(told: Told, storm: Storm) -> Check:
    """A drill in which nothing happened proves nothing."""
    said = "; ".join(strike.words for strike in storm.strikes) or "nothing happened to it"
    notice = bool(storm.ended) and storm.ended[0].code == exits.PREEMPTED
    kills = [strike for strike in storm.strikes if strike.kind == "kill"]
    launches = len(kills) + 1 + any(strike.kind == "notice" for strike in storm.strikes)
    if not kills or not notice or len(told.storm.launches) < launches:
        said += ": it was over before, so it proves nothing; give the run more steps"
        return Check("interrupted", ok=False, said=said)
    return Check("interrupted", ok=True, said=f"{said}; {len(told.storm.launches)} launches")


def _completed(told: Told, calm: Ended, storm: Storm) -> Check:
    ends = [("in the calm", calm, told.calm), ("in the storm", storm.ended[-1], told.storm)]
    bad = []
    for name, ended, side in ends:
        done = side.launches[-1].last if side.launches else 0
        if ended.code != exits.COMPLETED or not side.steps or done < side.steps:
            bad.append(f"{name} it came to step {done} of {side.steps} and ended with {ended.code}: {ended.why}")
    if bad:
        return Check("completed", ok=False, said="; ".join(bad))
    return Check("completed", ok=True, said=f"{told.calm.steps} steps, with and without")


def _nothing_lost_by_notice(told: Told, storm: Storm) -> Check:
    """The launch that had the notice is the first."""
    pairs = _pairs(told.storm)
    if not pairs:
        return Check("notice", ok=False, said="nothing went on after it")
    before, after = pairs[0]
    said = f"{before.last} steps were done, and it went on from step {after.begins}"
    return Check("notice", ok=after.begins == before.last > 0, said=said)


def _lost_by_kills(told: Told, storm: Storm, every_steps: int) -> Check:
    """What may be lost: an interval, and the steps that are done while a checkpoint is being written."""
    pairs = _pairs(told.storm)[1:]
    behind = [
        done - step for side in (told.calm, told.storm) for each in side.launches for step, done in each.saved.items()
    ]
    due = every_steps + max(behind, default=0)
    lost = [before.last - after.begins for before, after in pairs]
    durable = [max([*before.saved, before.begins]) for before, _ in pairs]
    said = f"{', '.join(map(str, lost)) or 'nothing'} of at most {due} steps done again"
    forgotten = [after.begins for (_, after), step in zip(pairs, durable, strict=True) if after.begins < step]
    if forgotten:
        said += f"; it went on from step {forgotten[0]}, though a later checkpoint was durable"
    return Check("kills", ok=not forgotten and all(0 <= steps <= due for steps in lost), said=said)


def _checkpoints(told: Told) -> Check:
    bad = [
        said
        for side in (told.calm, told.storm)
        for each in side.launches
        for said in (*each.skipped, *each.failed_saves)
    ]
    saved = sum(len(launch.saved) for launch in told.storm.launches)
    if bad:
        return Check(
            "checkpoints", ok=False, said=f"{len(bad)} could not be used or written: {'; '.join(bad[:_NAMED])}"
        )
    return Check("checkpoints", ok=saved > 0, said=f"{saved} written, all that were read were whole")


def _same(name: str, calm: Mapping[int, set[str]], storm: Mapping[int, set[str]], steps: int) -> Check:
    missing = [step for step in range(1, steps + 1) if step not in calm or step not in storm]
    other = [step for step in sorted(calm.keys() & storm.keys()) if len(calm[step] | storm[step]) != 1]
    if missing or other or not steps:
        said = [f"step {step}: {'/'.join(sorted(calm[step]))} and {'/'.join(sorted(storm[step]))}" for step in other]
        named = "; ".join(said[:_NAMED]) or f"{len(missing)} steps are not told"
        return Check(name, ok=False, said=f"{len(other)} of {steps} steps differ: {named}")
    return Check(name, ok=True, said=f"{steps} steps, each the same to the bit, those that were done twice, too")


def _different(calm: Mapping[int, set[str]], storm: Mapping[int, set[str]]) -> int:
    return sum(1 for step in calm.keys() & storm.keys() if len(calm[step] | storm[step]) != 1)


def _same_weights(told: Told) -> Check:
    calm, storm = told.calm.weights, told.storm.weights
    if not calm or not storm:
        return Check("weights", ok=False, said="the last checkpoint is not there, or not whole")
    other = sorted(name for name in calm.keys() | storm.keys() if calm.get(name) != storm.get(name))
    if other:
        return Check(
            "weights", ok=False, said=f"{len(other)} of {len(calm)} tensors differ: {', '.join(other[:_NAMED])}"
        )
    return Check(
        "weights", ok=True, said=f"{len(calm)} tensors, moments included, the same to the bit: {_digest(calm)}"
    )


def _digest(weights: Mapping[str, str] | None) -> str | None:
    if weights is None:
        return None
    return hashlib.sha256(
        "".join(f"{name} {digest}\n" for name, digest in sorted(weights.items())).encode()
    ).hexdigest()[:16]
