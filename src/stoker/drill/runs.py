"""One drill, from the checks before to the verdict: a key of its own, load, the injections, the calm, the judgement.

Whatever ends it, the key is revoked, and tasks that are not done are cancelled.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, NotFound, StokerError, Unavailable
from stoker.base.ids import new_id
from stoker.drill import kills, prompts
from stoker.drill.load import CHAT, Load
from stoker.drill.observed import Ask, Budget, Kill, Limits, Notice, Observed, SeenTask, Target, was_hit
from stoker.drill.outside import PATIENCE_S, Outside, all_of
from stoker.drill.processes import Look, candidates, choose
from stoker.drill.scene import Scene
from stoker.drill.seams import seam_of
from stoker.drill.spot import Spot
from stoker.drill.verdicts import Verdict, judge
from stoker.drill.watching import Watch
from stoker.meter.usage import UsageRecord

MAX_TOKENS = 256
# Beyond the most that a prompt and its answer can come to, with attempts that are paid in full.
_TOKENS_EACH = 10_000
# A process starts in a second or two, and in ten on a machine that is busy; its backoff may be 15 s.
_RESTART_S = 30.0
# A lost worker's tasks come back when their lease ends; then they have to run.
_BEYOND_LEASE_S = 10.0
# A gateway tells Redis what it came to within a second; what one that was killed had set aside, its successor frees.
_SETTLED_S = 15.0
_PROGRESS_S = 1.0
# Between two looks whether the books agree: a gateway renews its own twice a second.
_LOOK_AGAIN_S = 0.6
# Somebody waits for the end of it.
_CLEAN_UP_S = 10.0
# By then every gateway knows of a change to a key.
_KEY_KNOWN_S = 1.1
# Beyond the load: for the calm, and for a machine that is busy.
_KEY_LASTS_S = 1800.0


@dataclass(frozen=True)
class Platform:
    """The platform that is drilled: where it is, and how to see its processes. `supervisor` is the pid of whoever
    started them; `lease_s` how long a lost worker's tasks wait for another; `begin_anew` the models whose engines
    cannot go on with an answer that was handed back."""

    url: str
    admin_key: str
    look: Look
    supervisor: int
    lease_s: float
    begin_anew: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What is asked of a drill. `wait_s` counts from the end of the sending; `compare` is of how many answers the calm
    is asked, too. `spot` for a machine that is taken away."""

    target: Target
    seed: int
    count: int = 40
    seconds: float = 4.0
    clients: int = 16
    times: int = 1
    model: str | None = None
    wait_s: float | None = None
    compare: int = 8
    spot: Spot | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInput."""
        least = 4 * self.times
        if self.count < least:
            raise InvalidInput(
                f"{self.count} requests are too few to be hit {self.times} times; {least} are enough", param="tasks"
            )


class Drill:
    """Use `run` once. `tell` gets a word for people when something happens."""

    def __init__(self, platform: Platform, plan: Plan, clock: Clock, tell: Callable[[str], None]) -> None:
        self._platform, self._plan, self._clock, self._tell = platform, plan, clock, tell
        self._random = Random(plan.seed)
        self._outside = Outside(platform.url, platform.admin_key, clock)
        self._name = new_id("drill")
        self._asks: Sequence[Ask] = prompts.asks(plan.count, self._name, self._random)
        self._extra: list[Ask] = []
        self._model = ""
        self._key_id: str | None = None
        self._watch: Watch | None = None

    async def run(self) -> Verdict:
        """Raises StokerError when it cannot even begin, or when there is nobody left to kill."""
        self._model = self._choose_model()
        wait_s = self._plan.wait_s if self._plan.wait_s is not None else 2 * self._platform.lease_s + _BEYOND_LEASE_S
        budget = _TOKENS_EACH * (self._plan.count + self._plan.compare + 10)
        since = self._clock.now() - 1.0
        key_id, secret = await self._make_key(budget, self._clock.now() + self._plan.seconds + wait_s + _KEY_LASTS_S)
        load = Load(
            self._platform.url,
            secret,
            self._outside,
            model=self._model,
            max_tokens=MAX_TOKENS,
            clients=self._plan.clients,
            clock=self._clock,
        )
        try:
            seen = await self._under_load(load, wait_s)
            seen = await self._collected(seen, load, key_id, since, budget)
            return judge(seen)
        finally:
            await self._clean_up()
            await load.close()
            await self._outside.close()

    # --- before -----------------------------------------------------------------------------------------------------

    def _choose_model(self) -> str:
        """That of whom it will hit; of a gateway or Redis, any that is served. Raises InvalidInput, Conflict."""
        found, plan = self._platform.look(), self._plan
        candidates(found, plan.target, plan.model)
        workers = candidates(found, "worker" if plan.target in ("gateway", "redis") else plan.target, plan.model)
        model = choose(workers, self._random).model
        if model is None:
            raise InvalidInput("no worker serves a model here", param="model")
        return model

    async def _make_key(self, budget: int, expires_at: float) -> tuple[str, str]:
        key_id, secret = await self._outside.make_key(f"stoker {self._name}", tokens=budget, expires_at=expires_at)
        self._key_id = key_id
        return key_id, secret

    # --- meanwhile --------------------------------------------------------------------------------------------------

    async def _under_load(self, load: Load, wait_s: float) -> Observed:
        plan, clock = self._plan, self._clock
        watch = self._watch = Watch(self._platform.look, self._outside, self._model, clock)
        scene = Scene(
            target=plan.target,
            model=self._model,
            look=self._platform.look,
            supervisor=self._platform.supervisor,
            asks=self._asks,
            outside=self._outside,
            watch=watch,
            random=self._random,
            clock=clock,
            tell=self._tell,
        )
        await watch.count()
        self._tell(f"sending {plan.count} requests to {self._model} over {plan.seconds:g} s")
        watching = asyncio.create_task(watch.run())
        began_at = clock.monotonic()
        try:
            await _while(self._send_and_inject(load, scene, began_at + plan.seconds + wait_s), watching)
            ended_at = clock.monotonic()
            await self._until_back(watch)
            await watch.count()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        notice_s = plan.spot.notice_s if plan.spot else 0.0
        return Observed(
            target=plan.target,
            limits=Limits(restart_s=_RESTART_S, stall_s=self._platform.lease_s + _BEYOND_LEASE_S + notice_s),
            asks=self._asks,
            extra=self._extra,
            kills=watch.kills,
            notice=watch.notice,
            goes_on=self._model not in self._platform.begin_anew,
            began_at=began_at,
            ended_at=ended_at,
            beats=load.beats,
            away_s=dict(watch.away_s),
        )

    async def _send_and_inject(self, load: Load, scene: Scene, deadline: float) -> None:
        plan = self._plan
        schedule = prompts.schedule(self._asks, plan.seconds, plan.times)
        inject: Callable[[Scene], Awaitable[None]] = plan.spot.inject if plan.spot else kills.inject
        began_at = self._clock.monotonic()
        sending = [asyncio.create_task(load.send_paced(schedule.paced, deadline))]
        progress = asyncio.create_task(self._progress())
        try:
            for burst, at in zip(schedule.bursts, schedule.burst_at, strict=True):
                await self._clock.sleep(began_at + at - self._clock.monotonic())
                sending.append(asyncio.create_task(load.send_all(burst, deadline)))
                await inject(scene)
            await asyncio.gather(*sending)
        finally:
            for task in (*sending, progress):
                task.cancel()
            await asyncio.gather(*sending, progress, return_exceptions=True)

    async def _progress(self) -> None:
        while True:
            await self._clock.sleep(_PROGRESS_S)
            ended = sum(1 for ask in self._asks if ask.ended_at is not None)
            open_ = sum(1 for ask in self._asks if ask.began_at is not None and ask.ended_at is None)
            self._tell(f"{ended} of {len(self._asks)} ended, {open_} open")

    async def _until_back(self, watch: Watch) -> None:
        for kill in watch.kills:
            while kill.back_at is None and self._clock.monotonic() < kill.at + _RESTART_S:
                await self._clock.sleep(0.05)

    # --- afterwards -------------------------------------------------------------------------------------------------

    async def _collected(self, seen: Observed, load: Load, key_id: str, since: float, budget: int) -> Observed:
        """With what the platform wrote down; or with why it does not say."""
        self._tell("asking the same again in the calm, and comparing the books")
        try:
            tasks = await self._tasks()
            await self._cancel_tasks()
            calm = await self._in_the_calm(load)
            seams = await self._went_on(load, calm)
            records, books = await self._settled(load, key_id, since, budget)
            generated = await self._generated()
        except StokerError as error:
            return replace(seen, trouble=error.message)
        return replace(
            seen,
            tasks=tasks,
            calm=calm | {number: str(self._asks[number].answer) for number in seams},
            seams=seams,
            records=records,
            budget=books,
            generated=generated,
        )

    async def _tasks(self) -> dict[str, SeenTask]:
        """Those that clients know, one by one with their results, and all others that are under the drill's runs."""
        known = [str(ask.task_id) for ask in self._asks if ask.task_id is not None]
        found = await all_of([self._outside.task(id) for id in known])
        listed = await self._outside.tasks(self._model)
        runs = {ask.run for ask in self._asks if ask.kind in ("task", "resumable")}
        ours = {task.id: task for task in listed if task.run in runs}
        return ours | {task.id: task for task in found if task is not None}

    async def _in_the_calm(self, load: Load) -> dict[int, str]:
        """What some of the prompts are answered now, by the number of the ask: first of those that were hit. Raises
        Unavailable when even now there is no answer."""
        answered = [ask for ask in self._asks if ask.answer is not None]
        self._random.shuffle(answered)
        answered.sort(key=lambda ask: not was_hit(ask, self._kills, self._notice))
        return {ask.number: await self._ask_again(load, ask.prompt) for ask in answered[: self._plan.compare]}

    async def _went_on(self, load: Load, calm: Mapping[int, str]) -> dict[int, int]:
        """Answers of tasks that were hit which are not those of the calm, but right for a replica that goes on with a
        begun one: by number, after how many tokens."""
        seams: dict[int, int] = {}
        if self._model in self._platform.begin_anew:
            return seams
        for number, text in calm.items():
            ask = self._asks[number]
            may_have_one = ask.kind in ("task", "resumable") and was_hit(ask, self._kills, self._notice)
            if may_have_one and ask.answer and ask.answer != text:
                at = await seam_of(ask.answer, partial(self._ask_again, load, ask.prompt), tokens=load.max_tokens)
                if at is not None:
                    seams[number] = at
        return seams

    async def _ask_again(self, load: Load, prompt: str, begun: str = "", max_tokens: int | None = None) -> str:
        number = len(self._asks) + len(self._extra)
        ask = Ask(number, "chat", f"{self._name}-{number}", prompt, begun, max_tokens)
        self._extra.append(ask)
        await load.send(ask, self._clock.monotonic() + PATIENCE_S)
        if ask.answer is None:
            raise Unavailable("a request in the calm afterwards was not answered")
        return ask.answer

    async def _settled(self, load: Load, key_id: str, since: float, budget: int) -> tuple[list[UsageRecord], Budget]:
        """The records and the books: as soon as they agree and nothing is set aside any more, or as they are in the
        end."""
        # What is open holds a part of the budget, so the books of a drill that has lost something never agree.
        is_over = all(ask.ended_at is not None for ask in self._asks)
        give_up_at = self._clock.monotonic() + (_SETTLED_S if is_over else 0.0)
        while True:
            # The answer says what is left, as its gateway knows it, which looks twice a second.
            await self._ask_again(load, "Say hello.")
            records = await self._outside.records(key_id, since)
            billed = sum(record.prompt_tokens + record.completion_tokens for record in records)
            agree = load.left is not None and budget - load.left == billed
            if agree or self._clock.monotonic() >= give_up_at:
                break
            await self._clock.sleep(_LOOK_AGAIN_S)
        await self._have_it_given_back(load, key_id, max(1, billed))
        while True:
            spent, reserved = await self._outside.spent_and_reserved(key_id)
            if not reserved or self._clock.monotonic() >= give_up_at:
                return records, Budget(budget, load.left, spent, reserved)
            await self._clock.sleep(_LOOK_AGAIN_S)

    async def _have_it_given_back(self, load: Load, key_id: str, spent: int) -> None:
        """Gateways set more aside than they need, and keep it for ten seconds after its last use; at once they give
        back what they have of a limit that was lowered and has no room left."""
        await self._outside.limit_key(key_id, tokens=spent)
        await self._clock.sleep(_KEY_KNOWN_S)
        with contextlib.suppress(StokerError):  # 402 is an answer
            await load.http.request("POST", CHAT, body=prompts.body("Say hello.", self._model, max_tokens=1))

    async def _generated(self) -> int | None:
        assert self._watch is not None  # noqa: S101 - made before the load
        await self._watch.count()
        return self._watch.generated

    @property
    def _kills(self) -> Sequence[Kill]:
        return self._watch.kills if self._watch else ()

    @property
    def _notice(self) -> Notice | None:
        return self._watch.notice if self._watch else None

    # --- whatever happens -------------------------------------------------------------------------------------------

    async def _cancel_tasks(self) -> None:
        """Those of which nobody has heard the end, or not even that they were taken."""
        queued = {ask.run: ask for ask in self._asks if ask.kind in ("task", "resumable") and ask.ended_at is None}
        if any(ask.task_id is None and ask.tries for ask in queued.values()):
            for task in await self._outside.tasks(self._model):
                if task.run in queued:
                    queued[task.run].task_id = task.id
        for ask in queued.values():
            if ask.task_id is not None and ask.end == "open":
                with contextlib.suppress(NotFound):
                    await self._outside.cancel(ask.task_id)

    async def _clean_up(self) -> None:
        is_whole = all(ask.ended_at is not None for ask in self._asks)
        try:
            async with asyncio.timeout(_CLEAN_UP_S):
                await self._cancel_tasks()
                if self._key_id is not None:
                    await self._outside.revoke_key(self._key_id)
        except (StokerError, TimeoutError):
            self._tell(f"its key {self._key_id} cannot be revoked now; it expires by itself")
        else:
            self._tell("its key is revoked" + ("" if is_whole else ", and its tasks are cancelled"))


async def _while(work: Coroutine[Any, Any, None], watching: "asyncio.Task[None]") -> None:
    """Do it to its end, or until what watches over it ends, with an error."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        await doing
    finally:
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
