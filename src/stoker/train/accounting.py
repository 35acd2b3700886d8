"""What a run comes to: its records -> losses, lost work, where the seconds went, and whose the dollars were. Pure, no
torch.

Time is counted in whole nanoseconds and money in whole nano-dollars, so that the parts sum to the whole, exactly. A
launch lasts as long as its own monotonic clock says (`up` of each line), so that a wall clock that is set does no harm.

Which steps count: each launch goes on from a step, and all that earlier launches did beyond it is lost, whether it has
been done again or not. So the steps that count always are one ascending row, and the fold keeps it as a stack.
"""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.meter import attribution
from stoker.meter.prices import Prices
from stoker.train.columns import Column, Digests

CAUSES = ("useful", "start", "restore", "recompute", "save", "data", "evaluate", "idle")
"""Where the seconds of a run's nodes went: steps that count; process start to the first step; reading a checkpoint;
steps that were lost, done again or not; training stalled by saves; waiting for data; measuring the validation loss; the
rest (between the last sign of life and the next launch only while a node is paid for)."""

SILENT_S = 120.0
"""A launch that ended without a word and gave no sign of life for so long is lost. Signs come every few seconds, and
from S3 once a minute."""
BETWEEN_S = 900.0
"""A machine on which the next launch begins within this was there, and paid for, in between. After a longer time it may
have been stopped, or used for something else, or be a laptop."""
AS_RECORDED = Prices()
"""Each node costs what its launch says."""

_NS = 1_000_000_000
_LONGEST_S = 1e9
_LATEST = 1e11
"""Seconds since the epoch, in the year 5138; what is later, or before the epoch, is no time at which a run was."""
_MOST_USD_PER_HOUR = 1e6


@dataclass(frozen=True)
class Money:
    """Nano-dollars: `paid` for the nodes, and where it went; sums to `paid`."""

    paid: int
    by_cause: Mapping[str, int]


@dataclass(frozen=True)
class Launch:
    """One life of the run. Times are of the wall clock; `seconds` by cause, of each of its nodes."""

    epoch: int
    began_at: float
    ended_at: float
    state: str
    """running, completed, preempted, budget, failed, fenced, lost (no sign of life)."""
    why: str
    from_step: int
    to_step: int
    nodes: tuple[Mapping[str, Any], ...]
    processes: int
    seconds: Mapping[str, float]
    usd: float | None


@dataclass(frozen=True)
class Save:
    name: str
    step: int
    at: float
    seconds: float
    stall_s: float
    bytes: int
    why: str


@dataclass(frozen=True)
class Summary:
    """What a run comes to. `losses`: by step, of the launch that counts. `lost_work_s`: seconds of steps that had to be
    done again, or are lost so far. `goodput`: useful seconds / all seconds that were paid for. `seconds`: by cause, of
    node-time divided by nodes; sums to the paid time."""

    run: str
    state: str
    """running, completed, preempted, budget, failed, fenced, lost (no sign of life), empty (it never began)."""
    steps: int
    steps_of_all: int
    losses: Mapping[int, float]
    validation: Mapping[int, float]
    samples: Mapping[int, str]
    tokens: int
    launches: int
    interruptions: tuple[str, ...]
    lost_steps: int
    lost_work_s: float
    seconds: Mapping[str, float]
    goodput: float | None
    usd: float | None
    usd_by_cause: Mapping[str, float] = field(default_factory=dict)
    checkpoints: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    money: Money | None = None
    unpriced_s: float = 0.0
    """Node-seconds of which no price is known; `usd` is without them."""
    lives: tuple[Launch, ...] = ()
    saves: tuple[Save, ...] = ()
    step_seconds: Mapping[int, float] = field(default_factory=dict)
    durable_step: int = 0
    """Of the last checkpoint that is known to be durable."""
    last_saved_at: float | None = None


def summary(records: Iterable[Mapping[str, Any]], *, now: float, prices: Prices = AS_RECORDED) -> Summary:
    """Fold. Each launch is a segment for each of its nodes, from started_at to its end or last sign of life; each costs
    its price times its time: `usd_per_hour` of the record, or that of `prices` (seconds since the epoch) where it has
    the node's type, zone and capacity. Two launches that overlap are both paid for. Records that make no sense count as
    nothing."""
    fold = _Fold()
    for record in records:
        fold.add(record)
    return fold.result(now, prices)


# --- the fold ---------------------------------------------------------------------------------------------------------


@dataclass
class _Life:
    """A launch as it is read. Nanoseconds."""

    epoch: int
    started_at: float
    first_at: float
    last_at: float
    nodes: tuple[Mapping[str, Any], ...] = ()
    processes: int = 1
    first_up: float | None = None
    last_up: float = 0.0
    first_step_at_ns: int | None = None
    from_step: int = 0
    to_step: int = 0
    has_begun: bool = False
    """It said from where it goes on, or did a step."""
    useful: int = 0
    recompute: int = 0
    data: int = 0
    stalled: int = 0
    waited: int = 0
    restore: int = 0
    evaluate: int = 0
    state: str | None = None
    why: str = ""
    wished: str = ""

    def elapsed_ns(self) -> int:
        """From the process's start to the newest record."""
        before_s = _seconds(self.first_at - self.started_at)
        if self.first_up is not None:
            return _ns(before_s + _seconds(self.last_up - self.first_up))
        return _ns(before_s + _seconds(self.last_at - self.first_at))

    def measured_ns(self) -> int:
        inside = self.useful + self.recompute + self.data + self.restore + self.evaluate
        return inside + max(self.stalled, self.waited)


class _Fold:
    def __init__(self) -> None:
        self.lives: list[_Life] = []
        self.run = ""
        self.of_all = 0
        # The steps that count, ascending: a stack.
        self.steps = array("q")
        self.losses = array("d")
        self.spent = array("d")
        self.useful = array("q")
        self.tokens = array("q")
        self.owner = array("l")
        self.samples = Digests()
        self.token_sum = 0
        self.validation: dict[int, float] = {}
        self.saves: list[Save] = []
        self.durable = 0
        self.last_saved_at: float | None = None
        self.lost_steps = 0
        self.lost_s = 0.0

    def add(self, record: Mapping[str, Any]) -> None:
        kind, at = record.get("kind"), time_of(record.get("at"))
        if at is None:
            return
        if kind == "launch":
            self._launch(record, at)
        elif not self.lives:
            self.lives.append(_Life(0, at, at, at))
        life = self.lives[-1]
        life.last_at = max(life.last_at, at)
        up = _number(record.get("up"))
        if up is not None:
            life.first_up = up if life.first_up is None else life.first_up
            life.last_up = max(life.last_up, up)
        if kind == "step":
            self._step(life, record)
        elif kind == "resume":
            life.restore += _ns(record.get("seconds"))
            self._goes_on(life, _whole(record.get("step")))
            self.durable = life.from_step
        elif kind == "validate":
            life.evaluate += _ns(record.get("seconds"))
            loss = _number(record.get("loss"), finite=False)
            if loss is not None:
                self.validation[_whole(record.get("step"))] = loss
        elif kind == "save":
            life.waited += _ns(record.get("stall_s"))
            self._saved(record, at)
        elif kind == "wish":
            life.wished = str(record.get("reason", ""))
        elif kind == "end":
            life.state = str(record.get("state", "failed"))
            life.why = str(record.get("why", ""))

    def _launch(self, record: Mapping[str, Any], at: float) -> None:
        started_at = time_of(record.get("started_at"))
        nodes = record.get("nodes")
        self.lives.append(
            _Life(
                epoch=_whole(record.get("epoch")),
                started_at=at if started_at is None else min(started_at, at),
                first_at=at,
                last_at=at,
                nodes=tuple(each for each in nodes if isinstance(each, Mapping)) if isinstance(nodes, list) else (),
                processes=max(1, _whole(record.get("processes"))),
            )
        )
        self.run = str(record.get("run") or self.run)
        self.of_all = _whole(record.get("steps")) or self.of_all

    def _goes_on(self, life: _Life, step: int) -> None:
        """From here on nothing counts that was done beyond the step."""
        life.has_begun = True
        life.from_step = life.to_step = step
        self._lose_beyond(step, is_new=True)

    def _step(self, life: _Life, record: Mapping[str, Any]) -> None:
        step = _whole(record.get("step"))
        if step <= 0:
            return
        if not life.has_begun:
            self._goes_on(life, step - 1)
        self._lose_beyond(step - 1)
        whole = _ns(record.get("seconds"))
        data = min(_ns(record.get("data_s")), whole)
        stall = min(_ns(record.get("stall_s")), whole - data)
        life.data += data
        life.stalled += stall
        life.useful += whole - data - stall
        life.to_step = step
        if life.first_step_at_ns is None:
            life.first_step_at_ns = max(0, life.elapsed_ns() - whole)
        tokens = _whole(record.get("tokens"))
        loss = _number(record.get("loss"), finite=False)
        self.steps.append(step)
        self.losses.append(math.nan if loss is None else loss)
        self.spent.append(whole / _NS)
        self.useful.append(whole - data - stall)
        self.tokens.append(tokens)
        self.owner.append(len(self.lives) - 1)
        self.samples.append(record.get("samples", ""))
        self.token_sum += tokens

    def _lose_beyond(self, step: int, *, is_new: bool = False) -> None:
        before = len(self.steps)
        while self.steps and self.steps[-1] > step:
            self.steps.pop()
            self.losses.pop()
            self.samples.pop()
            self.token_sum -= self.tokens.pop()
            self.lost_s += self.spent.pop()
            self.lost_steps += 1
            life, useful = self.lives[self.owner.pop()], self.useful.pop()
            life.useful -= useful
            life.recompute += useful
        if len(self.steps) < before or is_new:
            self.validation = {at: loss for at, loss in self.validation.items() if at <= step}

    def _saved(self, record: Mapping[str, Any], at: float) -> None:
        step = _whole(record.get("step"))
        self.durable, self.last_saved_at = step, at
        self.saves.append(
            Save(
                name=str(record.get("name", "")),
                step=step,
                at=at,
                seconds=_seconds(record.get("seconds")),
                stall_s=_seconds(record.get("stall_s")),
                bytes=_whole(record.get("bytes")),
                why=str(record.get("why", "")),
            )
        )

    def result(self, now: float, prices: Prices) -> Summary:
        state = self._state_of(self.lives[-1], now, is_last=True) if self.lives else "empty"
        if state not in ("running", "completed", "empty"):
            self._lose_beyond(self.durable)
        parts: dict[str, int] = dict.fromkeys(CAUSES, 0)
        money: dict[str, int] = dict.fromkeys(CAUSES, 0)
        is_priced, unpriced_ns = False, 0
        launches: list[Launch] = []
        for at, life in enumerate(self.lives):
            of_life = self._state_of(life, now, is_last=at == len(self.lives) - 1)
            spent = _causes(life, now if of_life == "running" else None)
            lasted_ns = sum(spent.values())
            ended_at = life.started_at + lasted_ns / _NS
            paid, unpriced = _bill(life.nodes, life.started_at, lasted_ns, prices)
            unpriced_ns += unpriced
            for cause, nano in attribution.split(paid or 0, spent).items():
                money[cause] += nano
            between_ns, stayed = _between(life, ended_at, self.lives[at + 1] if at + 1 < len(self.lives) else None)
            waited, unpriced = _bill(stayed, ended_at, between_ns, prices)
            unpriced_ns += unpriced
            money["idle"] += waited or 0
            is_priced = is_priced or paid is not None
            for cause, ns in spent.items():
                parts[cause] += ns
            # Of the nodes that stayed, as a part of the launch's own.
            parts["idle"] += between_ns * len(stayed) // max(1, len(life.nodes))
            launches.append(
                Launch(
                    epoch=life.epoch,
                    began_at=life.started_at,
                    ended_at=ended_at,
                    state=of_life,
                    why=life.why or (life.wished if of_life == "preempted" else ""),
                    from_step=life.from_step,
                    to_step=life.to_step,
                    nodes=life.nodes,
                    processes=life.processes,
                    seconds={cause: ns / _NS for cause, ns in spent.items() if ns},
                    usd=None if paid is None else paid / _NS,
                )
            )
        whole_ns, bill = sum(parts.values()), Money(sum(money.values()), money)
        return Summary(
            run=self.run,
            state=state,
            steps=self.steps[-1] if self.steps else self.durable if state != "empty" else 0,
            steps_of_all=self.of_all,
            losses=Column(self.steps, self.losses),
            validation=dict(sorted(self.validation.items())),
            samples=Column(self.steps, self.samples),
            tokens=self.token_sum,
            launches=len(self.lives),
            interruptions=tuple(filter(None, map(_interruption, launches))),
            lost_steps=self.lost_steps,
            lost_work_s=self.lost_s,
            seconds={cause: ns / _NS for cause, ns in parts.items()},
            goodput=parts["useful"] / whole_ns if whole_ns else None,
            usd=bill.paid / _NS if is_priced else None,
            usd_by_cause={cause: nano / _NS for cause, nano in money.items()} if is_priced else {},
            checkpoints=len(self.saves),
            started_at=min((each.began_at for each in launches), default=None),
            ended_at=launches[-1].ended_at if launches and state != "running" else None,
            money=bill if is_priced else None,
            unpriced_s=unpriced_ns / _NS,
            lives=tuple(launches),
            saves=tuple(self.saves),
            step_seconds=Column(self.steps, self.spent),
            durable_step=self.durable,
            last_saved_at=self.last_saved_at,
        )

    def _state_of(self, life: _Life, now: float, *, is_last: bool) -> str:
        if life.state is not None:
            return life.state
        return "running" if is_last and now - life.last_at < SILENT_S else "lost"


def _causes(life: _Life, until: float | None) -> dict[str, int]:
    """Nanoseconds by cause, which sum to how long the launch lasted: what was measured; what came before the first
    step; the rest. `until`: now, of one that still runs."""
    elapsed = life.elapsed_ns()
    if until is not None:
        elapsed += _ns(until - life.last_at)
    if life.first_up is None:
        elapsed = max(elapsed, life.measured_ns())  # the wall clock was set back, and nothing else tells the time
    before = elapsed if life.first_step_at_ns is None else life.first_step_at_ns
    spent = {
        "useful": life.useful,
        "restore": life.restore,
        "recompute": life.recompute,
        "save": max(life.stalled, life.waited),
        "data": life.data,
        "evaluate": life.evaluate,
    }
    left = elapsed - sum(spent.values())
    if left < 0:
        return {**dict.fromkeys(CAUSES, 0), **attribution.split(elapsed, spent)}
    start = min(left, max(0, before - life.restore))
    return {**dict.fromkeys(CAUSES, 0), **spent, "start": start, "idle": left - start}


def _bill(
    nodes: Sequence[Mapping[str, Any]], began_at: float, lasted_ns: int, prices: Prices
) -> tuple[int | None, int]:
    """Nano-dollars of nodes that were there for so long (None: no price of any is known), and nanoseconds of those
    without a price."""
    paid, unpriced = None, 0
    for node in nodes:
        key = (str(node.get("type") or ""), str(node.get("zone") or ""), str(node.get("capacity") or ""))
        usd = _number(node.get("usd_per_hour"))
        if key not in prices.steps and (usd is None or not 0 <= usd <= _MOST_USD_PER_HOUR):
            unpriced += lasted_ns
            continue
        pieces = prices.pieces(key, began_at, began_at + lasted_ns / _NS, usd or 0.0)
        paid = (paid or 0) + sum(nano(rate, seconds) for seconds, rate in pieces)
    return paid, unpriced


def nano(usd_per_hour: float, seconds: float) -> int:
    return math.floor(usd_per_hour * seconds / 3600.0 * 1e9 + 0.5)


def _between(life: _Life, ended_at: float, following: _Life | None) -> tuple[int, list[Mapping[str, Any]]]:
    """Nanoseconds until the next launch, and the nodes that were there all the while: those that are in both."""
    if following is None:
        return 0, []
    gap_s = following.started_at - ended_at
    there = {each.get("id") for each in following.nodes if each.get("id")}
    stayed = [each for each in life.nodes if each.get("id") in there]
    if not stayed or not 0 < gap_s <= BETWEEN_S:
        return 0, []
    return _ns(gap_s), stayed


def _interruption(launch: Launch) -> str:
    if launch.state == "preempted":
        return f"preempted at step {launch.to_step}" + (f": {launch.why}" if launch.why else "")
    if launch.state == "lost":
        return f"ended without a word after step {launch.to_step}"
    if launch.state == "failed":
        return f"failed after step {launch.to_step}" + (f": {launch.why}" if launch.why else "")
    if launch.state == "fenced":
        return f"fenced off after step {launch.to_step}: another launch took over"
    return ""


def _number(value: object, *, finite: bool = True) -> float | None:
    """A loss is written as text where JSON has no number for it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) or not finite else None


def time_of(value: object) -> float | None:
    """Seconds since the epoch; None where that makes no sense."""
    found = _number(value)
    return found if found is not None and 0 <= found < _LATEST else None


def _seconds(value: object) -> float:
    found = _number(value)
    return min(max(found or 0.0, 0.0), _LONGEST_S)


def _ns(value: object) -> int:
    return round(_seconds(value) * _NS)


def _whole(value: object) -> int:
    return min(max(value, 0), 2**62) if isinstance(value, int) else 0
