"""What dead gateway processes have left: every reservation is settled, and nothing is held for ever.

A process that died on this machine has left its journal, so what it had in flight is known exactly: the rest of its
slices is free at once, and each request in flight is settled with its record (if it had ended), with what the engine
says it produced, or, when the engine cannot say, with all that was reserved for it. One that died elsewhere is left to
its successor there for `PATIENCE_S`; then its machine counts as gone, and all that it held counts as spent.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable, StokerError
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.gateway import journal
from stoker.gateway.journal import Abandoned, InFlight
from stoker.gateway.limits import counters_of
from stoker.gateway.measures import Measures
from stoker.meter.charge import Caller, Charge
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Amounts, Part, Spent
from stoker.queue import Queue, Replica
from stoker.queue.budgets import BudgetStore, Gone, InFlightPart, Settlement, scopes_of
from stoker.spec import Platform

_log = logs.get(__name__)

LOOK_EVERY_S = 1.0
# How long one reconciler may take for one owner before another may try.
TAKEN_S = 30.0
# How long the machine of an owner that was taken for dead has to come back with its journal.
PATIENCE_S = 120.0
# An engine that does not answer by then cannot say what it produced.
ENGINE_PATIENCE_S = 60.0
# A request that its gateway had sent when it died reaches its engine by then, or never.
NEVER_CAME_S = 5.0


class Reconciler:
    """`connect` makes the client for a replica. `name` is this process' own among those who reconcile."""

    def __init__(
        self,
        name: str,
        store: BudgetStore,
        queue: Queue,
        platform: Platform,
        journals: Path,
        connect: Callable[[Replica], EngineClient],
        measures: Measures,
        clock: Clock,
    ) -> None:
        self._name = name
        self._store = store
        self._queue = queue
        self._platform = platform
        self._journals = journals
        self._connect = connect
        self._measures = measures
        self._clock = clock
        # When each dead owner was first seen (monotonic).
        self._seen: dict[str, float] = {}
        self._told_of: set[str] = set()

    async def reconcile_forever(self) -> None:
        while True:
            try:
                await self.reconcile()
            except StokerError as error:
                _log.warning("budgets: what dead processes left waits", error=error.in_log)
            await self._clock.sleep(LOOK_EVERY_S)

    async def reconcile(self) -> None:
        """One look at all of them, whatever becomes of one. Raises QueueUnavailable, with nothing lost: the next look
        goes on."""
        away: QueueUnavailable | None = None
        for left in journal.abandoned(self._journals):
            is_done = False
            try:
                is_done = await self._wind_up(left)
            except QueueUnavailable as error:
                away = error
            except Exception as error:
                self._tell_of(left, error)
            finally:
                if is_done:
                    left.done()
                    self._seen.pop(left.owner, None)
                else:
                    left.put_back()
        await self._forfeit_the_lost()
        if away is not None:
            raise away

    def _tell_of(self, left: Abandoned, error: Exception) -> None:
        """Once, though each look meets it again. What its owner had set aside stays so, and counts as spent after
        `PATIENCE_S`."""
        if left.owner not in self._told_of:
            self._told_of.add(left.owner)
            _log.error("budgets: a dead gateway's journal cannot be wound up", owner=left.owner, exc_info=error)

    # --- with a journal -----------------------------------------------------------------------------------------------

    async def _wind_up(self, left: Abandoned) -> bool:
        """Whether nothing of it is left.

        In this order (docs/proofs.md): what had ended first, since its owner may have given the rest of its reservation
        to another request; only then is everything free that no request in flight holds.
        """
        first_seen = self._seen.setdefault(left.owner, self._clock.monotonic())
        # Whoever has the lock of the journal is the only one here: if another died at it, this one goes on at once.
        by = f"{left.owner}.journal"
        taken = await self._store.take_over(left.owner, by, ttl_s=TAKEN_S, is_proved_dead=True)
        # Not taken over: Redis does not know it (any more), or another is at it. Settling is right all the same.
        ended = [(each, UsageRecord.from_json(each.record)) for each in left.in_flight if each.record is not None]
        await self._settle(left.owner, ended)
        running = [each for each in left.in_flight if each.record is None]
        if taken is not None:
            open_ = [InFlightPart(each.number, _parts(each)) for each in running]
            await self._store.forfeit(left.owner, by, open_)
        records = [(each, await self._record(each, first_seen)) for each in running]
        known = [(each, record) for each, record in records if record is not None]
        await self._settle(left.owner, known)
        # The journal stays until its owner's slices are wound up: without it they would count as spent.
        return len(known) == len(running) and left.owner not in await self._store.dead_owners()

    async def _settle(self, owner: str, known: Sequence[tuple[InFlight, UsageRecord]]) -> None:
        items = [
            Settlement(each.number, record.to_json(), _spent(each, record), scopes_of(record)) for each, record in known
        ]
        answer = await self._store.settle(owner, items)
        if isinstance(answer, Gone):
            # Redis has lost its books; counters are set up again from the ledger, which so learns of these, as do those
            # that were set up before.
            for _, record in known:
                await self._queue.append_usage(record)
            answer = [True] * len(known)
        for (each, record), is_new in zip(known, answer, strict=True):
            if is_new:
                self._measures.ended(record)
                _log.info("settled for a dead gateway", request=each.id, status=record.status, owner=owner)

    async def _record(self, each: InFlight, first_seen: float) -> UsageRecord | None:
        """What became of a request whose gateway died before its end. None: its engine has yet to say."""
        charge = self._charge(each)
        said = await self._said_by_engine(each)
        waited_s = self._clock.monotonic() - first_seen
        if said == "later" and waited_s < ENGINE_PATIENCE_S:
            return None
        if said == "never came":
            # It may still be on its way, so an engine is believed only after a while.
            if waited_s < NEVER_CAME_S:
                return None
            said = {"prompt_tokens": 0, "completion_tokens": 0}
        if isinstance(said, dict):
            charge.saw_usage(said)
            return charge.record("cancelled", self._clock.now(), "its gateway died; counted by the engine")
        charge.count_the_most(was_streamed=False)
        reason = "its gateway died, and the engine cannot say what it produced"
        return replace(charge.record("lost", self._clock.now(), reason), nano_usd=each.bound.nano_usd)

    async def _said_by_engine(self, each: InFlight) -> dict[str, int] | str:
        """Its usage; `later` when it runs still, or the engine does not answer; `never came` when the engine would know
        it; `unknown` when it cannot say."""
        if each.model not in self._platform.llm.models:
            return "unknown"
        replica = Replica(
            id=each.replica_id, model=ModelName(each.model), url=each.replica_url, capacity=1, started_at=0.0
        )
        try:
            async with self._connect(replica) as engine:
                produced = await engine.produced(each.id)
        except StokerError:
            return "later"
        if produced.is_known:
            if not produced.has_ended:
                return "later"
            return {"prompt_tokens": produced.prompt_tokens, "completion_tokens": produced.completion_tokens}
        return "never came" if each.started_at > produced.since else "unknown"

    def _charge(self, each: InFlight) -> Charge:
        shared = each.shared
        model = self._platform.llm.models.get(each.model)
        prices = (model or next(iter(self._platform.llm.models.values()))).prices
        return Charge(
            id=each.id,
            kind="request",
            caller=Caller(
                shared["tenant"],
                shared["key_id"],
                shared["session"],
                shared["run"],
                shared["team"],
                shared.get("agent"),  # which journals of the version before do not have
            ),
            model=each.model,
            route=each.route,
            prices=prices,
            started_at=each.started_at,
            replica=each.replica_id,
            most=(each.bound.prompt_tokens, each.bound.completion_tokens),
        )

    # --- without one --------------------------------------------------------------------------------------------------

    async def _forfeit_the_lost(self) -> None:
        dead = await self._store.dead_owners()
        now = self._clock.monotonic()
        for owner in dead:
            if now - self._seen.setdefault(owner, now) < PATIENCE_S:
                continue
            held = await self._store.take_over(owner, self._name, ttl_s=TAKEN_S)
            if held is not None and await self._store.forfeit(owner, self._name, None):
                _log.error(
                    "budgets: a gateway's machine is gone; what it had set aside counts as spent",
                    owner=owner,
                    amounts={part.counter: part.amount for part in held},
                )
        journals = {path.stem for path in self._journals.glob("*.journal")}
        self._seen = {owner: seen for owner, seen in self._seen.items() if owner in dead or owner in journals}


def _parts(each: InFlight) -> Sequence[Part]:
    reserved = each.bound.amounts
    return [Part(name, reserved[place]) for name, place in counters_of(each.shared) if reserved[place]]


def _spent(each: InFlight, record: UsageRecord) -> Sequence[Spent]:
    reserved = each.bound.amounts
    actual = Amounts(1, record.prompt_tokens + record.completion_tokens, record.nano_usd, 0)
    return [Spent(name, reserved[place], actual[place]) for name, place in counters_of(each.shared) if reserved[place]]
