"""The autoscaler's day in virtual time: when it looks, what it does and shows. The decisions are `policy.scaling`'s."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from structlog.testing import capture_logs

from stoker.base import logs
from stoker.base.errors import QueueUnavailable
from stoker.local.autoscaler import KEPT, Autoscaler
from stoker.policy import hpa, keda
from stoker.policy.scaled import scaled_object
from stoker.spec import AGENT_STEPS, loads
from stoker.testing import ManualClock

SPEC = """
keda: {cooldownPeriod: 30}
llm: {models: {general: {replicas: {min: 0, max: 3}, limits: {concurrency: 4}}, code: {replicas: {min: 1, max: 2}}}}
"""


class Machine:
    """A fleet whose replicas are there at once, and a load that a test sets. `waiting` and `running` are by model."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.count = {"general": 0, "code": 1}
        self.waiting: dict[str, int | None] = dict.fromkeys((*self.count, AGENT_STEPS), 0)
        self.running: dict[str, int | None] = dict.fromkeys((*self.count, AGENT_STEPS), 0)
        self.reads: list[tuple[float, list[str]]] = []
        self.awake: list[list[str]] = []
        self.bell = asyncio.Event()
        self.hidden: set[str] = set()
        self.faults: list[Exception] = []
        self.is_redis_away = False

    def replicas(self, model: str) -> hpa.Replicas:
        count = self.count.get(model, 0)
        return hpa.Replicas(count, count, count)

    def scale(self, model: str, replicas: int) -> None:
        self.count[model] = replicas

    async def read(self, models: Sequence[str]) -> Mapping[str, keda.Values]:
        if self.faults:
            raise self.faults.pop()
        self.reads.append((self.clock.monotonic(), list(models)))
        return {model: self._values(model) for model in models}

    def _values(self, model: str) -> keda.Values:
        running = "pending" if model == AGENT_STEPS else "running"
        read = {"waiting": self.waiting[model], running: self.running[model]}
        return {name: None if value is None else value * 1000 for name, value in read.items()}

    async def wake(self, models: Sequence[str]) -> None:
        self.awake.append(list(models))

    async def waits(self, models: Sequence[str], *, within_s: float) -> Sequence[str]:
        if self.is_redis_away:
            raise QueueUnavailable("Redis is away")
        if set(models) & self.hidden:
            return [model for model in models if model in self.hidden]
        rings, over = asyncio.create_task(self.bell.wait()), asyncio.create_task(self.clock.sleep(within_s))
        await asyncio.wait({rings, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        rings.cancel()
        return [model for model in models if self.waiting[model]]

    async def submit(self, model: str, tasks: int) -> None:
        self.waiting[model] = tasks
        self.bell.set()
        await self.clock.advance(0.0)
        for _ in range(20):
            await asyncio.sleep(0)
        self.bell.clear()


@asynccontextmanager
async def scaling(
    most: int = 8, spec: str = SPEC, by_hand: dict[str, int] | None = None, also: Sequence[str] = ()
) -> AsyncIterator[tuple[Machine, Callable[[], dict[str, Any]]]]:
    clock = ManualClock(start=0.0)
    machine, shown = Machine(clock), [{}]
    platform = loads(spec)
    autoscaler = Autoscaler(
        {model: scaled_object(platform, model) for model in (*platform.llm.models, *also)},
        machine,
        machine,
        most=most,
        clock=clock,
        log=logs.get("test").bind(),
        on_change=lambda now: shown.__setitem__(0, now),
        by_hand=lambda: dict(by_hand or {}),
    )
    running = asyncio.create_task(autoscaler.run())
    await pass_by(clock, 0.0)
    try:
        yield machine, lambda: shown[0]
    finally:
        running.cancel()
        await asyncio.wait({running})


async def pass_by(clock: ManualClock, seconds: float) -> None:
    await clock.advance(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


def decided(shown: dict[str, Any], model: str = "general") -> list[tuple[float, int, int, str]]:
    return [(d["at"], d["before"], d["after"], d["reason"]) for d in shown["decisions"] if d["model"] == model]


async def test_it_looks_at_once_and_then_each_polling_interval() -> None:
    async with scaling() as (machine, _):
        await pass_by(machine.clock, 9.9)
        await pass_by(machine.clock, 0.1)
        await pass_by(machine.clock, 10.0)

        assert machine.reads == [(at, ["general", "code"]) for at in (0.0, 10.0, 20.0)]


async def test_the_first_task_of_a_model_at_zero_does_not_wait_for_the_interval() -> None:
    async with scaling() as (machine, shown):
        await pass_by(machine.clock, 3.0)
        await machine.submit("general", 30)

        assert machine.reads[1:] == [(3.0, ["general"])]  # the others keep their time
        assert machine.count == {"general": 1, "code": 1}
        await pass_by(machine.clock, 7.0)
        assert machine.reads[2:] == [(10.0, ["general", "code"])]
        assert decided(shown()) == [
            (0.0, 0, 0, "idle"),
            (3.0, 0, 1, "woken by waiting"),
            (10.0, 1, 3, "waiting 30 at 4 each: 8, at most 3"),
        ]


async def test_one_that_is_woken_for_nothing_sleeps_until_the_next_look() -> None:
    """An entry that lies in the stream and counts as no task: somebody has deleted others by hand."""
    async with scaling() as (machine, _):
        machine.hidden.add("general")
        await machine.submit("general", 0)
        await pass_by(machine.clock, 9.9)
        assert machine.reads[1:] == [(0.0, ["general"])]
        await pass_by(machine.clock, 0.1)
        assert machine.reads[2:] == [(10.0, ["general", "code"]), (10.0, ["general"])]


async def test_a_model_that_serves_is_looked_at_in_its_time_only() -> None:
    async with scaling() as (machine, _):
        await pass_by(machine.clock, 3.0)
        await machine.submit("code", 30)

        assert len(machine.reads) == 1
        await pass_by(machine.clock, 7.0)
        assert machine.count["code"] == 2


async def test_back_to_zero_after_the_cooldown() -> None:
    async with scaling() as (machine, shown):
        await machine.submit("general", 1)
        machine.waiting["general"] = 0
        for _ in range(4):
            await pass_by(machine.clock, 10.0)

        assert machine.count["general"] == 0
        assert decided(shown())[1:] == [
            (0.0, 0, 1, "woken by waiting"),
            (10.0, 1, 1, "waiting 0 at 4 each: 0, at least 1"),
            (40.0, 1, 0, "nothing to do for longer than the cooldown"),
        ]


async def test_the_clock_of_the_queue_goes_on_where_no_worker_keeps_it() -> None:
    async with scaling() as (machine, _):
        assert machine.awake == [["general"]]
        await machine.submit("general", 1)
        await pass_by(machine.clock, 10.0)
        assert machine.awake[1:] == [["general"], []]


async def test_all_models_together_stay_within_what_the_machine_has_room_for() -> None:
    async with scaling(most=3) as (machine, shown):
        await machine.submit("general", 30)
        machine.waiting["code"] = 30
        await pass_by(machine.clock, 10.0)

        assert machine.count == {"general": 2, "code": 1}
        assert decided(shown())[-1][3] == "waiting 30 at 4 each: 8, at most 3; this machine has room for 2"
        assert decided(shown(), "code")[-1][3] == "waiting 30 at 8 each: 4, at most 2; this machine has room for 1"


async def test_workers_of_agents_take_no_room_of_models_and_find_room_beside_them() -> None:
    async with scaling(most=2, also=[AGENT_STEPS]) as (machine, shown):
        await machine.submit(AGENT_STEPS, 1)
        assert decided(shown(), AGENT_STEPS)[-1][1:] == (0, 1, "woken by waiting")
        machine.waiting["code"], machine.running[AGENT_STEPS] = 30, 64
        await pass_by(machine.clock, 10.0)
        assert decided(shown(), AGENT_STEPS)[-1][1:] == (1, 2, "pending 64 at 48 each: 2")
        assert decided(shown(), "code")[-1][1:] == (1, 2, "waiting 30 at 8 each: 4, at most 2")
        rooms = {one["model"]: one["room"] for one in shown()["models"]}
        assert rooms == {"general": 0, "code": 2, AGENT_STEPS: 2}


async def test_while_redis_is_away_nothing_is_started_or_stopped_and_it_goes_on_afterwards() -> None:
    async with scaling() as (machine, shown):
        machine.waiting["general"] = machine.running["general"] = None
        machine.is_redis_away = True
        await pass_by(machine.clock, 10.0)
        assert decided(shown())[-1] == (10.0, 0, 0, "waiting, running cannot be read")
        machine.waiting["general"], machine.running["general"], machine.is_redis_away = 5, 0, False
        await pass_by(machine.clock, 10.0)
        assert decided(shown())[-1] == (20.0, 0, 1, "woken by waiting")


async def test_a_fault_is_told_and_the_next_look_is_tried() -> None:
    with capture_logs() as told:
        async with scaling() as (machine, shown):
            machine.faults.append(RuntimeError("nobody thought of this"))
            await pass_by(machine.clock, 10.0)
            machine.waiting["code"] = 30
            await pass_by(machine.clock, 10.0)
            assert decided(shown(), "code")[-1][:3] == (20.0, 1, 2)

    assert [one["error"] for one in told if one["log_level"] == "error"] == ["RuntimeError('nobody thought of this')"]


async def test_what_is_shown_of_a_model() -> None:
    async with scaling() as (machine, shown):
        await machine.submit("general", 3)
        [general, code] = shown()["models"]

        assert general == {
            "model": "general",
            "replicas": 1,
            "ready": 1,
            "min": 0,
            "max": 3,
            "values": {"waiting": 3.0, "running": 0.0},
            "targets": {"waiting": 4.0, "running": 3.0},
            "by_hand": None,
            "room": 7,
            "reason": "woken by waiting",
        }
        assert (code["replicas"], code["reason"]) == (
            1,
            "waiting 0 at 8 each: 0, kept at 1 by what was asked for before",
        )


async def test_a_decision_has_its_reasons_as_data() -> None:
    async with scaling() as (machine, shown):
        await machine.submit("general", 30)
        await pass_by(machine.clock, 10.0)
        last = [one for one in shown()["decisions"] if one["model"] == "general"][-1]

        assert last == {
            "number": 4,
            "at": 10.0,
            "model": "general",
            "before": 1,
            "after": 3,
            "reason": "waiting 30 at 4 each: 8, at most 3",
            "keda": {"reason": "active", "by": ["waiting"], "failed": [], "until": None},
            "hpa": {
                "reason": "metric",
                "asked": 8,
                "by": "waiting",
                "limits": ["maximum"],
                "metrics": [
                    {"metric": "waiting", "value": 30000, "target": 4000, "replicas": 8, "is_within_tolerance": False},
                    {"metric": "running", "value": 0, "target": 3000, "replicas": 0, "is_within_tolerance": False},
                ],
            },
            "cut_to_machine": False,
            "by_hand": False,
        }


async def test_what_stays_as_it_is_is_told_once_and_the_newest_are_kept() -> None:
    async with scaling(spec=SPEC.replace("cooldownPeriod: 30", "cooldownPeriod: 1")) as (machine, shown):
        for _ in range(5):
            await pass_by(machine.clock, 10.0)
        assert len(decided(shown())) == 1
        for _ in range(KEPT):
            await machine.submit("general", 1)
            machine.waiting["general"] = 0
            await pass_by(machine.clock, 20.0)

        numbers = [one["number"] for one in shown()["decisions"]]
        assert len(numbers) == KEPT
        assert numbers == list(range(numbers[-1] - KEPT + 1, numbers[-1] + 1))


# --- by hand ----------------------------------------------------------------------------------------------------------


async def test_what_a_person_wants_is_there_within_a_second_whatever_the_load() -> None:
    wanted: dict[str, int] = {}
    async with scaling(by_hand=wanted) as (machine, shown):
        wanted["general"] = 2
        await pass_by(machine.clock, 1.0)
        assert machine.count == {"general": 2, "code": 1}
        await machine.submit("general", 500)
        await pass_by(machine.clock, 60.0)
        assert machine.count["general"] == 2  # neither more of it by load, nor less
        machine.waiting["general"] = 0
        await pass_by(machine.clock, 600.0)
        assert machine.count["general"] == 2
        assert [one[1:] for one in decided(shown())] == [(0, 0, "idle"), (0, 2, "by hand")]
        assert [one["by_hand"] for one in shown()["models"]] == [2, None]
        assert [one["by_hand"] for one in shown()["decisions"] if one["model"] == "general"] == [False, True]


async def test_taken_back_the_load_decides_again() -> None:
    wanted = {"general": 3}
    async with scaling(by_hand=wanted) as (machine, shown):
        assert machine.count["general"] == 3  # what was asked for before it was started holds
        del wanted["general"]
        await pass_by(machine.clock, 400.0)
        assert machine.count["general"] == 0
        assert decided(shown())[0][1:] == (0, 3, "by hand")
        assert decided(shown())[-1][3] in ("nothing to do for longer than the cooldown", "idle")


async def test_none_by_hand_is_not_woken() -> None:
    wanted = {"general": 0}
    async with scaling(by_hand=wanted) as (machine, _):
        await machine.submit("general", 30)
        await pass_by(machine.clock, 60.0)
        assert machine.count["general"] == 0
        del wanted["general"]
        await pass_by(machine.clock, 1.0)
        assert machine.count["general"] == 1


async def test_by_hand_as_by_load_no_more_run_than_the_machine_has_room_for() -> None:
    async with scaling(most=3, by_hand={"general": 7}) as (machine, shown):
        assert machine.count == {"general": 2, "code": 1}
        assert decided(shown())[0][1:] == (0, 2, "by hand; this machine has room for 2")
