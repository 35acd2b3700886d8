"""Runs, from their start to their end, a step at a time."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents_stage import CALLER, Json, Stage, calls, says, staged, tool

from stoker.agents.retention import Retention
from stoker.agents.service import Service
from stoker.agents.tasks import ATTEMPTS, MODEL
from stoker.base.errors import BudgetExhausted, Conflict, InvalidInput, NotFound, Unavailable
from stoker.meter.grants import CallerClaim

ONE = """
agents:
  definitions:
    assistant: {tools: [add]}
  tools:
    add: {python: "x:add"}
"""
ADD = tool("add", lambda said: said["a"] + said["b"])


def adds(messages: Sequence[Json]) -> Json:
    """Asks for 6 + 7, and says what came of it."""
    if messages[-1]["role"] == "tool":
        return says(f"it is {messages[-1]['content']}")
    return calls(("add", {"a": 6, "b": 7}))


async def test_a_model_calls_a_tool_and_answers(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run = await stage.start("What is 6 plus 7?")
        assert (await stage.shown(run))["status"] == "queued"
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"]) == ("completed", "it is 13")
        assert shown["usage"] == {
            "steps": 3,
            "tool_calls": 1,
            "model_calls": 2,
            "prompt_tokens": 20,
            "completion_tokens": 10,
            "usd": 0.002,
        }
        assert await stage.types(run) == [
            *("run.created", "run.started"),
            *("step.started", "model.completed", "step.completed"),
            *("step.started", "tool.started", "tool.completed", "step.completed"),
            *("step.started", "model.completed", "step.completed"),
            "run.completed",
        ]


async def test_each_step_is_a_task_of_the_run_and_goes_on_elsewhere(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run = await stage.start("What is 6 plus 7?")
        for name in ("w1", "w2", "w3"):  # each step another worker, which has never seen the run
            assert await stage.step(stage.worker(name), name)
        assert (await stage.shown(run))["output"] == "it is 13"
        done = [task.id for task in await stage.queue.list(model=MODEL)]
        assert sorted(done) == [f"{run}.s{number}" for number in (1, 2, 3)]
        assert len(stage.gateway.asked) == 2


async def test_a_key_makes_a_run_once(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        body = {"input": "What is 6 plus 7?"}
        first = await stage.service.start(CALLER, "assistant", body, once="k1")
        assert (await stage.service.start(CALLER, "assistant", body, once="k1")).id == first.id
        with pytest.raises(Conflict, match="with another request"):
            await stage.service.start(CALLER, "assistant", {"input": "What else?"}, once="k1")


# --- workers that die -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The worker is no more."""


def mortal(stage: Stage, worker: Any, lives: int, *, after: bool) -> None:
    """A worker that dies at its `lives`-th call of anything outside: before the call took effect, or after. A dead one
    calls nothing."""
    left = [lives]
    inner = worker._parts

    def guarded(call: Any) -> Any:
        async def guard(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not after):
                raise Killed
            said = await call(*args, **more)
            if left[0] == 0:
                raise Killed
            return said

        return guard

    class Guarded:
        def __init__(self, held: Any, names: Sequence[str]) -> None:
            self._held, self._names = held, names

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._held, name)
            return guarded(found) if name in self._names else found

    from dataclasses import replace

    worker._parts = replace(
        inner,
        store=Guarded(inner.store, ("write", "read")),
        queue=Guarded(inner.queue, ("submit", "ring")),
        gateway=Guarded(inner.gateway, ("chat",)),
    )


async def after_a_death(stage: Stage, lives: int, *, after: bool) -> bool:
    """Runs steps with a worker that dies; True if it did."""
    worker = stage.worker("mortal")
    mortal(stage, worker, lives, after=after)
    while (claim := await stage.claim("mortal")) is not None:
        try:
            await worker.perform(claim)
        except Killed:
            for each in list(worker._open):
                await worker._close(each)
            return True
        await stage.queue.complete(claim, {})
    return False


async def taken_over(stage: Stage) -> None:
    """Leases run out, what was lost is found, and another worker does it."""
    for _ in range(4):
        await stage.clock.advance(11)
        await stage.queue.reclaim(MODEL)
        await stage.service.sweep()
        await stage.settle(stage.worker("w2"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("lives", range(1, 18))
async def test_a_worker_may_die_at_any_moment(tmp_path: Path, lives: int, after: bool) -> None:
    """The run comes to the same end, each answer was paid once, and a call whose end is known is not made again."""
    made: list[Json] = []

    def add(said: Json) -> int:
        made.append(said)
        return said["a"] + said["b"]

    async with staged(tmp_path, adds, ONE, [tool("add", add)]) as stage:
        run = await stage.start("What is 6 plus 7?")
        died = await after_a_death(stage, lives, after=after)
        await taken_over(stage)
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"]) == ("completed", "it is 13")
        assert len(stage.gateway.paid) == 2
        assert shown["usage"]["model_calls"] == 2
        assert shown["usage"]["tool_calls"] == 1
        assert 1 <= len(made) <= 2
        types = await stage.types(run)
        assert types.count("step.completed") == 3
        assert types.count("run.completed") == 1
        assert died or lives > 12


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("lives", range(1, 18))
async def test_what_may_not_be_repeated_is_never_called_twice_without_a_word(
    tmp_path: Path, lives: int, after: bool
) -> None:
    sent: list[Json] = []
    pays = tool("add", lambda said: sent.append(said) or 13, effect="spend", approval="never")
    spec = ONE.replace("tools: [add]}", "tools: [add], grants: [add]}")
    async with staged(tmp_path, adds, spec, [pays]) as stage:
        run = await stage.start("What is 6 plus 7?")
        await after_a_death(stage, lives, after=after)
        await taken_over(stage)
        shown = await stage.shown(run)
        assert len(sent) <= 1
        if shown["status"] == "waiting":
            [wait] = shown["waiting_for"]
            assert (wait["kind"], wait["tool"], wait["arguments"]) == ("uncertain", "add", {"a": 6, "b": 7})
            await stage.service.resume(CALLER, run, None, {"decision": "done", "result": "13"})
            await stage.settle(stage.worker("w3"))
            shown = await stage.shown(run)
            assert len(sent) <= 1
        assert (shown["status"], shown["output"]) == ("completed", "it is 13")


async def test_a_person_may_have_an_uncertain_call_made_again(tmp_path: Path) -> None:
    sent: list[Json] = []

    def dies_once(said: Json) -> int:
        sent.append(said)
        if len(sent) == 1:
            raise Killed
        return 13

    spec = ONE.replace("tools: [add]}", "tools: [add], grants: [add]}")
    async with staged(tmp_path, adds, spec, [tool("add", dies_once, effect="write", approval="never")]) as stage:
        run, worker = await stage.start("What is 6 plus 7?"), stage.worker()
        assert await stage.step(worker)
        with pytest.raises(Killed):
            await stage.step(worker)
        await taken_over(stage)
        assert [wait["kind"] for wait in (await stage.shown(run))["waiting_for"]] == ["uncertain"]
        assert len(sent) == 1
        await stage.service.resume(CALLER, run, None, {"decision": "retry"})
        await stage.settle()
        assert ((await stage.shown(run))["output"], len(sent)) == ("it is 13", 2)


async def test_a_word_to_make_a_call_again_is_good_for_one_call(tmp_path: Path) -> None:
    sent: list[Json] = []

    def fails(said: Json) -> int:
        sent.append(said)
        if len(sent) < 4:
            raise Killed if len(sent) < 3 else Unavailable("it did not answer", code="tool_timeout")
        return 13

    spec = ONE.replace("tools: [add]}", "tools: [add], grants: [add]}")
    async with staged(tmp_path, adds, spec, [tool("add", fails, effect="write", approval="never")]) as stage:
        run = await stage.start("What is 6 plus 7?")
        await stage.step(stage.worker())
        with pytest.raises(Killed):
            await stage.step(stage.worker())
        await taken_over(stage)
        await stage.service.resume(CALLER, run, None, {"decision": "retry"})
        with pytest.raises(Killed):  # its worker dies in the second one, too
            await stage.step(stage.worker())
        for many in (2, 3):  # the third says that it cannot be known how it ended
            await taken_over(stage)
            [wait] = (await stage.shown(run))["waiting_for"]
            assert (wait["kind"], len(sent)) == ("uncertain", many)
            await stage.service.resume(CALLER, run, None, {"decision": "retry"})
            await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"], len(sent)) == ("completed", "it is 13", 4)


async def test_a_step_may_lose_many_workers_and_have_few_errors_of_its_own(tmp_path: Path) -> None:
    """A worker that dies takes all its steps with it, most of which are innocent."""
    failing = [Unavailable("not now")] * 3

    async def before(body: Json) -> None:
        if failing:
            raise failing.pop()

    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run = await stage.start("What is 6 plus 7?")
        for _ in range(7):
            assert await stage.claim("mortal") is not None  # and nothing more is heard of it
            await stage.clock.advance(11)
            assert await stage.queue.reclaim(MODEL) == 1
        stage.gateway.before = before
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"], failing) == ("completed", "it is 13", [])


async def test_a_worker_that_was_only_slow_changes_nothing(tmp_path: Path) -> None:
    """Its lease is over, another one has taken the step and the next: what it comes to is of no use to anybody."""
    hold, held = asyncio.Event(), asyncio.Event()

    async with staged(tmp_path, adds, ONE, [ADD]) as stage:

        async def before(body: Json) -> None:
            if not held.is_set():
                held.set()
                await hold.wait()

        stage.gateway.before = before
        run = await stage.start("What is 6 plus 7?")
        claim = await stage.claim("slow")
        assert claim is not None
        slow = asyncio.create_task(stage.worker("slow").perform(claim))
        await held.wait()
        await stage.clock.advance(11)
        await stage.queue.reclaim(MODEL)
        await stage.settle(stage.worker("w2"))
        ended = await stage.shown(run)
        hold.set()
        await slow
        assert not await stage.queue.complete(claim, {})
        assert await stage.shown(run) == ended
        assert ended["output"] == "it is 13"
        assert len(stage.gateway.paid) == 2


# --- waiting for people -----------------------------------------------------------------------------------------------

ASKS = ONE.replace("tools: [add]}", "tools: [add], grants: [add]}")
PAYS = tool("add", lambda said: said["a"] + said["b"], effect="spend", approval="always")


async def test_a_run_waits_for_approval_without_a_task_and_goes_on_with_it(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        shown = await stage.shown(run)
        assert shown["status"] == "waiting"
        [wait] = shown["waiting_for"]
        assert (wait["kind"], wait["tool"], wait["arguments"]) == ("approval", "add", {"a": 6, "b": 7})
        depth = await stage.queue.depth(MODEL)
        assert (depth.lag, depth.pending, depth.delayed) == (0, 0, 0)
        await stage.clock.advance(3 * 86400)
        await stage.service.sweep()
        assert await stage.claim() is None
        await stage.service.resume(CALLER, run, None, {"decision": "approve"})
        await stage.settle(stage.worker("w2"))
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"]) == ("completed", "it is 13")  # wall time stood still meanwhile


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ({"decision": "reject", "message": "too much"}, "it is error: a person said no to this call: too much"),
        ({"decision": "approve", "arguments": {"a": 1, "b": 1}}, "it is 2"),
    ],
)
async def test_a_person_may_refuse_or_change_a_call(tmp_path: Path, answer: Json, output: str) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        await stage.service.resume(CALLER, run, None, answer)
        await stage.settle()
        assert (await stage.shown(run))["output"] == output


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "there is no answer in the body"),
        ({"decision": "maybe"}, "has the decision 'maybe'; it has to be one of approve, reject"),
        ({"answers": {"other": {"decision": "approve"}}}, "'other' is nothing that this run waits for"),
        ({"answers": {}}, "this run waits for nobody's answer"),
        ({"answers": []}, "answers has to be an object"),
    ],
)
async def test_answers_that_are_none_change_nothing(tmp_path: Path, body: Json, message: str) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        before = await stage.shown(run)
        with pytest.raises(InvalidInput, match=message):
            await stage.service.resume(CALLER, run, None, body)
        assert await stage.shown(run) == before


async def test_two_answers_at_once_make_one_step(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("Pay")
        await stage.settle()
        answers = [stage.service.resume(CALLER, run, None, {"decision": "approve"}) for _ in range(2)]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert sum(isinstance(each, Exception) for each in outcomes) <= 1
        await stage.settle()
        assert (await stage.types(run)).count("run.resumed") == 1
        assert (await stage.shown(run))["output"] == "it is 13"


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_the_same_call_with_the_same_result_again_and_again_ends_a_run(tmp_path: Path) -> None:
    async with staged(tmp_path, lambda messages: calls(("add", {"a": 1, "b": 1})), ONE, [ADD]) as stage:
        run = await stage.start("Loop")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"]) == ("failed", "loop_detected")
        assert shown["error"]["message"] == "add was called 3 times with the same arguments and the same result"
        assert shown["usage"]["tool_calls"] == 3


async def test_steps_are_limited(tmp_path: Path) -> None:
    numbers = iter(range(1000))
    script = lambda messages: calls(("add", {"a": next(numbers), "b": 1}))  # noqa: E731
    async with staged(tmp_path, script, ONE, [ADD]) as stage:
        run = await stage.start("On and on", limits={"steps": 5})
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"], shown["usage"]["steps"]) == ("failed", "steps_exceeded", 5)


async def test_calls_of_tools_are_limited_also_when_they_are_made_at_once(tmp_path: Path) -> None:
    made: list[Json] = []
    add = tool("add", lambda said: made.append(said) or len(made))
    script = lambda messages: calls(*(("add", {"a": each, "b": 0}) for each in range(8)))  # noqa: E731
    async with staged(tmp_path, script, ONE, [add]) as stage:
        run = await stage.start("Many", limits={"tool_calls": 5})
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"], len(made)) == ("failed", "tool_calls_exceeded", 5)


async def test_wall_time_is_limited_and_a_step_that_takes_longer_is_stopped(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        asked = asyncio.Semaphore(0)

        async def before(body: Json) -> None:
            asked.release()
            await stage.clock.sleep(61)

        stage.gateway.before = before
        run = await stage.start("Slow", limits={"wall_seconds": 100})
        stepping = asyncio.create_task(stage.settle())
        await asked.acquire()
        await stage.clock.advance(61)  # the first call is answered
        await asked.acquire()
        await stage.clock.advance(39)  # the second would take until 122 s
        await stepping
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"]) == ("failed", "wall_time_exceeded")
        assert shown["error"]["message"] == "it took more than 100 s"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"usd": -1}, "limits.usd is -1; it has to be a number of at least 0"),
        ({"steps": 51}, "limits.steps is 51; this agent's runs may have 50 at most"),
        ({"speed": 1}, "limits.speed is no limit; those are: usd, tokens, steps"),
        ({"steps": True}, "limits.steps is True"),
        ({"tokens": 1.5}, "limits.tokens is 1.5"),
        ([], "limits has to be an object"),
    ],
)
async def test_limits_that_are_none_are_refused(tmp_path: Path, limits: Any, message: str) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        with pytest.raises(InvalidInput, match=message):
            await stage.start("x", limits=limits)
        assert await stage.service.listed(CALLER) == []


@pytest.mark.parametrize(
    "error",
    [
        BudgetExhausted("the run's budget of $0.01 has $0.00 left"),
        InvalidInput("the run's budget of $0.01 has $0.00 left", code="request_over_budget"),
    ],
)
async def test_a_budget_that_is_used_up_ends_a_run_with_its_reason(tmp_path: Path, error: Exception) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:

        async def before(body: Json) -> None:
            raise error

        stage.gateway.before = before
        run = await stage.start("x")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"]) == ("failed", "budget_exhausted")
        assert shown["error"]["message"] == "the run's budget of $0.01 has $0.00 left"
        assert "model.failed" in await stage.types(run)


async def test_a_step_whose_model_is_away_is_tried_again_and_then_the_run_fails_and_can_be_resumed(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        is_away = True

        async def before(body: Json) -> None:
            if is_away:
                raise Unavailable("no replica")

        stage.gateway.before = before
        run = await stage.start("x")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["error"]["message"]) == ("failed", "no replica")
        assert len(stage.gateway.asked) == 5  # attempts of the step
        is_away = False
        await stage.service.resume(CALLER, run, None, {})
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["status"], shown["output"], shown["error"]) == ("completed", "it is 13", None)


# --- what a model gets wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("sub", {"a": 1}), "error: there is no tool 'sub'; the tools are: add"),
        (("add", "no object"), "error: the arguments have to be a JSON object"),
        (("add", {"wrong": 1}), "error: a is missing"),
    ],
)
async def test_wrong_calls_are_told_to_the_model(tmp_path: Path, asked: Any, said: str) -> None:
    def check(arguments: Json) -> Json:
        if "a" not in arguments:
            raise InvalidInput("a is missing")
        return arguments

    def script(messages: Sequence[Json]) -> Json:
        return says(messages[-1]["content"]) if messages[-1]["role"] == "tool" else calls(asked)

    async with staged(tmp_path, script, ONE, [tool("add", ADD.call, check=check)]) as stage:
        run = await stage.start("x")
        await stage.settle()
        shown = await stage.shown(run)
        assert (shown["output"], shown["usage"]["tool_calls"]) == (said, 0)


# --- threads ----------------------------------------------------------------------------------------------------------


def remembers(messages: Sequence[Json]) -> Json:
    return says(" ".join(str(message["content"]) for message in messages if message["role"] == "user"))


async def test_runs_of_a_thread_know_what_was_said_before(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        for asked in ("one", "two", "three"):
            run = await stage.start(asked, thread="t1")
            await stage.settle()
            await stage.clock.advance(1)
        assert (await stage.shown(run))["output"] == "one two three"
        other = await stage.start("alone", thread="t2")
        await stage.settle()
        assert (await stage.shown(other))["output"] == "alone"
        thread = await stage.service.thread(CALLER, "assistant", "t1")
        assert [message["content"] for message in thread["messages"]][::2] == ["one", "two", "three"]
        await stage.service.forget_thread(CALLER, "assistant", "t1")
        anew = await stage.start("four", thread="t1")
        await stage.settle()
        assert (await stage.shown(anew))["output"] == "four"


async def test_a_run_that_failed_leaves_its_thread_as_it_was(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        await stage.start("one", thread="t1")
        await stage.settle()

        async def before(body: Json) -> None:
            raise InvalidInput("no")

        stage.gateway.before = before
        failed = await stage.start("broken", thread="t1")
        await stage.settle()
        assert (await stage.shown(failed))["status"] == "failed"
        stage.gateway.before = None
        run = await stage.start("two", thread="t1")
        await stage.settle()
        assert (await stage.shown(run))["output"] == "one two"


async def test_a_run_that_failed_does_not_go_on_beside_another_of_its_thread(tmp_path: Path) -> None:
    async def before(body: Json) -> None:
        raise InvalidInput("no")

    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        stage.gateway.before = before
        failed = await stage.start("one", thread="t1")
        await stage.settle()
        stage.gateway.before = None
        second = await stage.start("two", thread="t1")
        with pytest.raises(Conflict, match=f"run {second} of thread t1 has not ended"):
            await stage.service.resume(CALLER, failed, None, {})
        assert (await stage.shown(failed))["status"] == "failed"


async def test_the_time_that_a_run_stood_failed_is_none_of_its_wall_time(tmp_path: Path) -> None:
    async def before(body: Json) -> None:
        raise InvalidInput("no")

    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        stage.gateway.before = before
        run = await stage.start("one", limits={"wall_seconds": 100})
        await stage.settle()
        stage.gateway.before = None
        await stage.clock.advance(1000)
        await stage.service.resume(CALLER, run, None, {})
        await stage.settle()
        assert (await stage.shown(run))["status"] == "completed"


async def test_a_thread_has_one_run_at_a_time(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        first = await stage.start("one", thread="t1")
        with pytest.raises(Conflict, match=f"run {first} of thread t1 has not ended"):
            await stage.start("two", thread="t1")


# --- whose run it is --------------------------------------------------------------------------------------------------

OTHER = CallerClaim(key_id="key_2", tenant="other", team=None, role="user", expires_at=1e12, request_id="r")


async def test_a_strangers_run_is_as_unknown_as_one_that_never_was(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ASKS, [PAYS]) as stage:
        run = await stage.start("x", thread="t1")
        await stage.settle()
        service: Service = stage.service
        for attempt in (
            service.shown(OTHER, run),
            service.cancel(OTHER, run),
            service.resume(OTHER, run, None, {"decision": "approve"}),
            service.ended(OTHER, run, None, 0),
        ):
            with pytest.raises(NotFound, match="there is no run"):
                await attempt
        assert await service.listed(OTHER) == []
        with pytest.raises(NotFound, match="has no thread"):
            await service.thread(OTHER, "assistant", "t1")
        assert (await stage.shown(run))["status"] == "waiting"


async def test_a_cancelled_run_goes_on_nowhere(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run, worker = await stage.start("x"), stage.worker()
        await stage.step(worker)
        await stage.service.cancel(CALLER, run)
        await stage.settle(worker)
        assert (await stage.shown(run))["status"] == "cancelled"
        assert len(stage.gateway.asked) == 1
        await stage.service.cancel(CALLER, run)  # again: nothing
        assert (await stage.types(run)).count("run.cancelled") == 1


# --- what was left ----------------------------------------------------------------------------------------------------


async def test_a_run_whose_step_was_lost_with_redis_goes_on(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run, worker = await stage.start("x"), stage.worker()
        await stage.step(worker)
        stage.queue._kept.clear()
        stage.queue._models.clear()
        assert await stage.claim() is None
        await stage.clock.advance(6)
        assert await stage.service.sweep() == 1
        await stage.settle()
        assert (await stage.shown(run))["output"] == "it is 13"


async def test_a_step_that_kills_its_workers_ends_the_run(tmp_path: Path) -> None:
    async with staged(tmp_path, adds, ONE, [ADD]) as stage:
        run = await stage.start("x")
        for _ in range(ATTEMPTS):
            assert await stage.claim() is not None
            await stage.clock.advance(11)
            await stage.queue.reclaim(MODEL)
        assert await stage.service.sweep() == 1
        shown = await stage.shown(run)
        assert (shown["status"], shown["reason"]) == ("failed", "step_died")
        assert await stage.queue.dead(MODEL) == []
        await stage.service.resume(CALLER, run, None, {})
        await stage.settle()
        assert (await stage.shown(run))["output"] == "it is 13"


async def test_runs_that_ended_long_ago_are_forgotten_with_all_that_is_theirs(tmp_path: Path) -> None:
    async with staged(tmp_path, remembers, ONE, [ADD]) as stage:
        old, kept = await stage.start("one", thread="old"), await stage.start("two", thread="kept")
        await stage.settle()
        (tmp_path / "runs" / old).mkdir(parents=True)
        await stage.clock.advance(60 * 86400)
        later = await stage.start("three", thread="kept")
        await stage.settle()
        await stage.clock.advance(31 * 86400)
        retention = Retention(stage.store, stage.heads, stage.queue, stage.clock, tmp_path / "runs", 90, "w1")
        assert await retention.forget() == 2
        assert [run["id"] for run in await stage.service.listed(CALLER)] == [later]
        assert not (tmp_path / "runs" / old).exists()
        threads = {each.config["configurable"]["thread_id"] async for each in stage.heads.alist(None)}
        assert threads == {"acme/assistant/kept"}
        assert await stage.types(kept) == []
        assert await retention.forget() == 0
