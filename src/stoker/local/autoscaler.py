"""The autoscaler of `stoker up`: looks at the load of each model, asks `policy.scaling`, and starts and stops replicas.

Each `keda.pollingInterval` it looks at all models. A model without a replica is looked at as soon as a task waits for
it. What it reads is what KEDA would: the lag and the pending entries of the model's stream in Redis, and the gateway's
metrics. It knows no process: `Fleet` starts and stops, `Load` reads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.base.logs import Logger
from stoker.policy import hpa, keda, scaling
from stoker.spec import AGENT_STEPS

KEPT = 200  # decisions of a platform that can be shown
PAUSE_S = 1.0  # after Redis said no
BY_HAND_EVERY_S = 0.5  # how soon is seen what a person has asked for
REPLICAS_PER_CORE = 4
"""The most that all models together may have on this machine. The embedded engine computes with one core; more replicas
than that make each slower, and in the end the machine. Workers of agents wait for models most of the time: they take no
room of theirs, or a machine full of models would leave the agents that ask them with nobody to run their steps."""


class Fleet(Protocol):
    """The replicas of this machine. `scale` returns at once; starting and stopping goes on behind it."""

    def replicas(self, model: str) -> hpa.Replicas: ...

    def scale(self, model: str, replicas: int) -> None: ...


class Load(Protocol):
    """What there is to do."""

    async def read(self, models: Sequence[str]) -> Mapping[str, keda.Values]:
        """By model and trigger. What cannot be read is None there; nothing is raised."""

    async def wake(self, models: Sequence[str]) -> None:
        """The queue's clock, which workers keep where there are any: what is due waits again. Raises StokerError."""

    async def waits(self, models: Sequence[str], *, within_s: float) -> Sequence[str]:
        """Those for which something waits, as soon as there is one; none after `within_s`. Raises StokerError."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision as it is shown. `number` counts them; `at` is in seconds since the epoch."""

    number: int
    at: float
    model: str
    decision: scaling.Decision

    def as_json(self) -> dict[str, Any]:
        decision = self.decision
        by_hpa = decision.sync
        return {
            "number": self.number,
            "at": round(self.at, 3),
            "model": self.model,
            "before": decision.before,
            "after": decision.after,
            "reason": scaling.reason(decision),
            "keda": {
                "reason": decision.poll.reason,
                "by": list(decision.poll.by),
                "failed": list(decision.poll.failed),
                "until": decision.poll.until,
            },
            "hpa": None
            if by_hpa is None
            else {
                "reason": by_hpa.reason,
                "asked": by_hpa.asked,
                "by": by_hpa.by,
                "limits": list(by_hpa.limits),
                "metrics": [asdict(one) for one in by_hpa.proposals],
            },
            "cut_to_machine": decision.is_cut,
            "by_hand": decision.by_hand,
        }


@dataclass(slots=True)
class Watched:
    """One model: its rules, what is remembered, and what was seen and decided last."""

    scaled: keda.ScaledObject
    state: scaling.State
    values: keda.Values = field(default_factory=dict)
    entry: Entry | None = None


class Autoscaler:
    """Use `run` once. `on_change` is given what to show after each look. `most` replicas may run, of all models.
    `by_hand` says how many a person wants of a model, whatever its load (`stoker scale MODEL N`)."""

    def __init__(
        self,
        scaled: Mapping[str, keda.ScaledObject],
        fleet: Fleet,
        load: Load,
        *,
        most: int,
        clock: Clock,
        log: Logger,
        on_change: Callable[[dict[str, Any]], None] = lambda shown: None,
        by_hand: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        now = clock.monotonic()
        self._watched = {model: Watched(rules, scaling.begin(now)) for model, rules in scaled.items()}
        self._fleet, self._load, self._most = fleet, load, most
        self._clock, self._log, self._on_change = clock, log, on_change
        self._read_by_hand = by_hand
        self._by_hand: Mapping[str, int] = by_hand()
        self._polling_s = min((rules.polling_s for rules in scaled.values()), default=30.0)
        self._entries: list[Entry] = []
        self._next_number = 1

    async def run(self) -> None:
        """For ever, until it is cancelled. A fault in a look must not end a platform that answers, nor leave it as it
        is for good: it is told, and the next look is tried."""
        hands = asyncio.create_task(self._again_and_again(self._look_at_hands, or_wait_s=PAUSE_S))
        try:
            await self._again_and_again(self._interval, or_wait_s=self._polling_s)
        finally:
            hands.cancel()
            await asyncio.wait({hands})

    async def _again_and_again(self, step: Callable[[], Awaitable[None]], *, or_wait_s: float) -> None:
        while True:
            try:
                await step()
            except Exception as error:
                self._log.error("the autoscaler failed and looks again", error=repr(error))
                await self._clock.sleep(or_wait_s)

    async def _look_at_hands(self) -> None:
        """What a person has asked for since is done at once, and so is what they have taken back."""
        await self._clock.sleep(BY_HAND_EVERY_S)
        before, self._by_hand = self._by_hand, self._read_by_hand()
        changed = [model for model in self._watched if before.get(model) != self._by_hand.get(model)]
        if changed:
            await self.look(changed)

    async def _interval(self) -> None:
        """One look at all, and then at whoever is woken. One that takes longer is followed by the next at once."""
        until = self._clock.monotonic() + self._polling_s
        await self.look(list(self._watched))
        awake: set[str] = set()
        while (left_s := until - self._clock.monotonic()) > 0:
            # Once in an interval: what was looked at and still has no replica has a reason for that.
            woken = await self._woken(left_s, but=awake)
            awake.update(woken)
            if woken:
                await self.look(woken)

    async def look(self, models: Sequence[str]) -> None:
        """Read the load of these, decide, and act."""
        await self._try(lambda: self._load.wake(self._at_zero(models)))
        values = await self._load.read(models)
        for model in models:
            self._decide(model, values[model])
        self._on_change(self.shown())

    def shown(self) -> dict[str, Any]:
        """What `stoker scale` prints."""
        return {
            "polling_s": self._polling_s,
            "most": self._most,
            "models": [self._shown(model, watched) for model, watched in self._watched.items()],
            "decisions": [entry.as_json() for entry in self._entries],
        }

    def _decide(self, model: str, values: keda.Values) -> None:
        watched = self._watched[model]
        observed = scaling.Observed(self._fleet.replicas(model), values, self._room(model), self._by_hand.get(model))
        before = watched.entry
        watched.values = values
        watched.state, decision = scaling.decide(watched.scaled, watched.state, observed, self._clock.monotonic())
        watched.entry = Entry(self._next_number, self._clock.now(), model, decision)
        if before is None or decision.after != decision.before or _kind(before.decision) != _kind(decision):
            self._remember(watched.entry)
        if decision.after != decision.before:
            self._fleet.scale(model, decision.after)

    def _remember(self, entry: Entry) -> None:
        self._next_number += 1
        self._entries = [*self._entries[-KEPT + 1 :], entry]
        decision = entry.decision
        self._log.info(
            "scaled" if decision.after != decision.before else "not scaled",
            model=entry.model,
            before=decision.before,
            after=decision.after,
            reason=scaling.reason(decision),
        )

    def _room(self, model: str) -> int:
        if model == AGENT_STEPS:
            return self._most
        others = (other for other in self._watched if other not in (model, AGENT_STEPS))
        return max(0, self._most - sum(self._fleet.replicas(other).wanted for other in others))

    def _at_zero(self, models: Sequence[str]) -> list[str]:
        return [model for model in models if self._fleet.replicas(model).wanted == 0]

    async def _woken(self, within_s: float, *, but: Collection[str]) -> Sequence[str]:
        """Models at zero for which something waits; none, after `within_s` at most. Those where something has waited
        already, and started nothing, are left to the next look."""
        asked = [model for model in self._watched if model not in self._by_hand]
        at_zero = [model for model in self._at_zero(asked) if model not in but]
        quiet = [model for model in at_zero if not _has_work(self._watched[model].values)]
        if not quiet:
            await self._clock.sleep(within_s)
            return ()
        try:
            return await self._load.waits(quiet, within_s=within_s)
        except StokerError as error:
            self._log.warning("cannot wait for tasks", error=error.in_log)
            await self._clock.sleep(min(PAUSE_S, within_s))
            return ()

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except StokerError as error:
            self._log.warning("the queue's clock stands still for models at zero", error=error.in_log)

    def _shown(self, model: str, watched: Watched) -> dict[str, Any]:
        replicas = self._fleet.replicas(model)
        return {
            "model": model,
            "replicas": replicas.wanted,
            "ready": replicas.ready,
            "min": watched.scaled.minimum,
            "max": watched.scaled.maximum,
            "by_hand": self._by_hand.get(model),
            "room": self._room(model),
            "values": {name: None if value is None else value / 1000 for name, value in watched.values.items()},
            "targets": {trigger.name: trigger.target / 1000 for trigger in watched.scaled.triggers},
            "reason": None if watched.entry is None else scaling.reason(watched.entry.decision),
        }


def _has_work(values: keda.Values) -> bool:
    return any(value is None or value > 0 for value in values.values())


def _kind(decision: scaling.Decision) -> tuple[object, ...]:
    """What makes two decisions the same to a person who watches: the numbers that differ each time are left out."""
    by_hpa = decision.sync
    said = None if by_hpa is None else (by_hpa.reason, by_hpa.limits, by_hpa.by)
    return (
        decision.by_hand,
        decision.is_cut,
        *(() if decision.by_hand else (decision.poll.reason, decision.poll.failed, said)),
    )
