"""Runs that have ended are told of, each once, whoever ended them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stoker.agents import exporting
from stoker.agents import store as rows
from stoker.agents.exporting import EXPORT_EVERY_S, LEAD_S, OVERLAP_S, Exporter
from stoker.agents.service import Service
from stoker.agents.spans import trace_id_of
from stoker.agents.store import Store
from stoker.meter.grants import CallerClaim
from stoker.queue import MemoryQueue
from stoker.spec import Platform, loads
from stoker.testing import ManualClock

CALLER = CallerClaim(key_id="key_1", tenant="acme", team=None, role="user", expires_at=2e9, request_id="req_1")


@dataclass
class Scene:
    service: Service
    clock: ManualClock
    told: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    above: list[tuple[str | None, str | None]] = field(default_factory=list)
    is_sampled: bool = True

    def tell(self, trace_id: str, spans: Sequence[Mapping[str, Any]]) -> None:
        self.above.append((spans[0]["parent"], spans[0].get("state")))
        self.told.append((trace_id, [(span["name"], span["status"]) for span in spans]))

    def exporter(self) -> Exporter:
        return Exporter(self.service, self.tell, lambda parent, trace_id: self.is_sampled)

    async def begin(self, text: str, trace: str | None = None) -> str:
        return (await self.service.start(CALLER, "assistant", {"input": text}, trace=trace)).id

    async def complete(self, run: str) -> None:
        now = self.clock.now()
        await self.service.store.write(lambda c: rows.finish(c, run, "completed", now, output="done"))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock, store = ManualClock(), Store(f"sqlite:///{tmp_path / 'agents.sqlite'}")
    try:
        yield Scene(Service(Platform(), store, MemoryQueue(clock=clock), clock), clock)
    finally:
        store.close()


async def test_each_run_that_ended_is_told_of_once(scene: Scene) -> None:
    first, second, going = [await scene.begin(text) for text in ("a", "b", "c")]
    exporter = scene.exporter()
    await exporter.look()
    assert scene.told == []

    await scene.complete(first)
    await exporter.look()
    await scene.service.cancel(CALLER, second)
    await exporter.look()
    await exporter.look()
    assert scene.told == [
        (trace_id_of(first), [("invoke_agent assistant", "ok")]),
        (trace_id_of(second), [("invoke_agent assistant", "error")]),
    ]

    await scene.clock.advance(10 * OVERLAP_S)
    await scene.complete(going)
    await exporter.look()
    await scene.clock.advance(10 * OVERLAP_S)
    await exporter.look()
    assert [trace for trace, _ in scene.told] == [trace_id_of(run) for run in (first, second, going)]


async def test_a_run_that_a_request_caused_is_of_the_trace_of_that_request(scene: Scene) -> None:
    trace, caller = "a" * 32, "b" * 16
    runs = [
        await scene.begin("a", f"00-{trace}-{caller}-01 vendor=1"),
        await scene.begin("b", f"00-{trace}-{caller}-00"),
        await scene.begin("c"),
    ]
    scene.is_sampled = False  # of those that nobody caused
    for run in runs:
        await scene.complete(run)
    await scene.exporter().look()
    assert scene.told == [(trace, [("invoke_agent assistant", "ok")])]
    assert scene.above == [(caller, "vendor=1")]


async def test_what_was_said_is_marked_for_sending_only_where_the_tenant_wants_it(tmp_path: Path) -> None:
    marked: list[bool] = []
    for said in ("true", "false"):
        clock, store = ManualClock(), Store(f"sqlite:///{tmp_path / said}.sqlite")
        platform = loads(f"tenants: {{acme: {{recordContent: {said}}}}}")
        scene = Scene(Service(platform, store, MemoryQueue(clock=clock), clock), clock)
        await scene.complete(await scene.begin("a"))

        def tell(_: str, spans: Sequence[Mapping[str, Any]]) -> None:
            marked.extend(span["with_content"] for span in spans)

        await Exporter(scene.service, tell, lambda *_: True).look()
        store.close()
    assert marked == [True, False]


def test_tokens_are_left_to_the_gateway_s_span_of_the_same_call() -> None:
    """Both are in one trace, and backends add up."""
    call = {"name": "chat m", "attributes": {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 3}}
    assert exporting.sent(call, with_content=False) == {
        "name": "chat m",
        "attributes": {"gen_ai.request.model": "m"},
        "with_content": False,
    }


async def test_a_mistake_costs_one_look(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, turns = scene.exporter(), list[int]()

    async def turn(_: str) -> None:
        turns.append(1)
        if len(turns) == 1:
            raise ValueError("nobody thought of it")

    monkeypatch.setattr(Exporter, "turn", lambda self, holder: turn(holder))
    looking = asyncio.create_task(exporter.look_forever("x"))
    for _ in range(3):
        await scene.clock.advance(EXPORT_EVERY_S)
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()
    assert len(turns) >= 2


async def test_many_that_ended_at_once_are_all_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST_AT_ONCE", 2)
    runs = []
    for text in "abcde":
        runs.append(await scene.begin(text))
        await scene.complete(runs[-1])
        await scene.clock.advance(0.5)
    await scene.exporter().look()
    assert [trace for trace, _ in scene.told] == [trace_id_of(run) for run in runs]


async def test_of_two_processes_one_tells_and_the_other_takes_over_from_there(scene: Scene) -> None:
    one, other = scene.exporter(), scene.exporter()
    early, late = await scene.begin("early"), await scene.begin("late")
    await one.turn("one")
    await scene.complete(early)
    for _ in range(round(3 * OVERLAP_S / EXPORT_EVERY_S)):
        await one.turn("one")
        await other.turn("other")
        await scene.clock.advance(EXPORT_EVERY_S)
    assert [trace for trace, _ in scene.told] == [trace_id_of(early)]

    await scene.complete(late)
    await other.turn("other")
    assert len(scene.told) == 1
    await scene.clock.advance(LEAD_S)
    await other.turn("other")
    assert [trace for trace, _ in scene.told] == [trace_id_of(early), trace_id_of(late)]
