"""The API of agents over real HTTP, as the gateway asks it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from agents_stage import CALLER, SECRET, Json, Stage, calls, says, staged, tool
from websockets.asyncio.client import connect

from stoker.agents import api
from stoker.agents.metrics import ServiceMetrics
from stoker.agents.service import Service
from stoker.base import logs
from stoker.base.errors import QueueUnavailable, Unauthenticated
from stoker.gateway.openapi_operations import OPERATIONS
from stoker.gateway.openapi_schemas import schemas
from stoker.meter.grants import CALLER_HEADER, CallerClaim
from stoker.telemetry.metrics import Metrics, read
from stoker.web import server
from stoker.web.client import HttpClient

SPEC = """
agents:
  definitions:
    assistant: {tools: [add], grantable: [add], description: "Adds."}
    runner: {}
  tools:
    add: {python: "x:add", effect: write, approval: always}
"""
ADD = tool("add", lambda said: said["a"] + said["b"], effect="write", approval="always")


def adds(messages: Sequence[Json]) -> Json:
    return says(messages[-1]["content"]) if messages[-1]["role"] == "tool" else calls(("add", {"a": 6, "b": 7}))


class Asked:
    """A client that says who calls, as the gateway does."""

    def __init__(self, url: str, caller: CallerClaim = CALLER) -> None:
        self.url, self.client = url, HttpClient(url)
        self.headers = {CALLER_HEADER: caller.signed(SECRET)}

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await self.client.request(method, path, body=body, headers=sent)
        return answer.status, answer.json()


@asynccontextmanager
async def served(folder: Path, spec: str = SPEC) -> AsyncIterator[tuple[Stage, Asked]]:
    async with staged(folder, adds, spec, [ADD]) as stage:
        listening, stop = server.bind("127.0.0.1", 0), asyncio.Event()
        app = api.create(stage.service, SECRET, ServiceMetrics(Metrics(), stage.queue))
        url = server.url_of(listening)
        serving = asyncio.create_task(server.serve(app, listening, stop, grace_s=0.1, max_message_bytes=1 << 20))
        asked = Asked(url)
        try:
            yield stage, asked
        finally:
            await asked.client.close()
            stop.set()
            await serving


async def test_a_run_over_http(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        status, agents = await ask("GET", "/v1/agents")
        assert (status, [agent["name"] for agent in agents["data"]]) == (200, ["assistant", "runner"])
        status, run = await ask("POST", "/v1/agents/assistant/runs", {"input": "Add", "grants": ["add"]})
        assert (status, run["status"], run["grants"], run["object"]) == (202, "queued", ["add"], "agent.run")
        await stage.settle()
        status, run = await ask("GET", f"/v1/agents/assistant/runs/{run['id']}?wait=10")
        assert (run["status"], run["waiting_for"][0]["tool"]) == ("waiting", "add")
        status, run = await ask("POST", f"/v1/agents/runs/{run['id']}/resume", {"decision": "approve"})
        assert (status, run["status"]) == (200, "queued")
        await stage.settle()
        status, run = await ask("GET", f"/v1/agents/runs/{run['id']}")
        assert (run["status"], run["output"]) == ("completed", "13")
        status, found = await ask("GET", "/v1/agents/assistant/runs?status=completed")
        assert [each["id"] for each in found["data"]] == [run["id"]]
        status, found = await ask("GET", "/v1/agents/runner/runs")
        assert found == {"object": "list", "data": [], "has_more": False}
        status, trace = await ask("GET", f"/v1/agents/runs/{run['id']}/trace")
        assert [span["kind"] for span in trace["data"]].count("tool") == 1


async def test_what_is_logged_of_a_run_and_its_steps_bears_the_trace_that_it_came_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str | None] = []
    start = Service.start

    async def said(*_: object) -> None:
        bound = logs.current()
        logged.append(None if bound is None else bound.in_logs["trace_id"])

    async def started(self: Service, *args: Any, **named: Any) -> Any:
        await said()
        return await start(self, *args, **named)

    monkeypatch.setattr(Service, "start", started)
    async with served(tmp_path) as (stage, ask):
        stage.gateway.before = said
        caused = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        status, _ = await ask("POST", "/v1/agents/assistant/runs", {"input": "Say hello"}, **caused)
        assert status == 202
        await asyncio.create_task(stage.settle())
    assert len(logged) >= 2
    assert set(logged) == {"a" * 32}


async def test_steps_that_wait_are_in_its_metrics_as_long_as_redis_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as (stage, ask):

        async def waiting() -> float:
            text = (await ask.client.request("GET", "/metrics")).body.decode()
            return read(text, "stoker_agent_steps_waiting")["stoker_agent_steps_waiting"]

        assert await waiting() == 0
        await ask("POST", "/v1/agents/assistant/runs", {"input": "Add", "grants": ["add"]})
        assert await waiting() == 1

        async def away(_: object) -> None:
            raise QueueUnavailable("Redis is away")

        monkeypatch.setattr(stage.queue, "depth", away)
        assert math.isnan(await waiting())


async def test_pages_of_runs(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        made = []
        for _ in range(5):
            made.append(await stage.start("x"))
            await stage.clock.advance(1)
        found, after = [], ""
        while True:
            _, page = await ask("GET", f"/v1/agents/runs?limit=2{after}")
            found += [run["id"] for run in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={found[-1]}"
        assert found == made[::-1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/agents/nobody", None, 404, "there is no agent 'nobody'; the agents are: assistant, runner"),
        ("POST", "/v1/agents/nobody/runs", {"input": "x"}, 404, "there is no agent 'nobody'"),
        ("POST", "/v1/agents/assistant/runs", {}, 400, "there is no input in the body"),
        ("POST", "/v1/agents/assistant/runs", {"input": 7}, 400, "input has to be a text, or a list of messages"),
        ("POST", "/v1/agents/assistant/runs", {"input": [{"role": "boss"}]}, 400, "input[0] is no message"),
        ("POST", "/v1/agents/assistant/runs", {"input": "x", "speed": 1}, 400, "'speed' is nothing that a run has"),
        ("POST", "/v1/agents/assistant/runs", {"input": "x", "grants": ["rm"]}, 400, "'rm' cannot be granted"),
        ("POST", "/v1/agents/assistant/runs", {"input": "x", "thread": "a b"}, 400, "thread has to be an id"),
        ("POST", "/v1/agents/assistant/runs", {"input": "x", "metadata": {"a": 1}}, 400, "metadata.a has to be a text"),
        ("GET", "/v1/agents/runs/run_none", None, 404, "there is no run 'run_none'"),
        ("GET", "/v1/agents/runs?status=odd", None, 400, "status is 'odd'; it has to be one of queued, running"),
        ("GET", "/v1/agents/runs?limit=0", None, 400, "limit is '0'; it has to be a whole number from 1 to 100"),
        ("GET", "/v1/agents/assistant/threads/none", None, 404, "assistant has no thread 'none'"),
        ("DELETE", "/v1/agents/assistant/schedules/none", None, 404, "there is no schedule 'none' of assistant"),
        (
            "POST",
            "/v1/agents/assistant/schedules",
            {"cron": "x", "input": "x"},
            400,
            "cron has 1 fields; five are wanted",
        ),
        ("POST", "/v1/agents/assistant/schedules", {"cron": "* * * * *"}, 400, "there is no input in the body"),
        (
            "POST",
            "/v1/agents/assistant/schedules",
            {"cron": "* * * * *", "input": "x", "timezone": "Mars/Olympus"},
            400,
            "timezone is 'Mars/Olympus'; it has to be one such as Europe/Berlin",
        ),
    ],
)
async def test_wrong_requests(tmp_path: Path, method: str, path: str, body: object, status: int, message: str) -> None:
    async with served(tmp_path) as (_stage, ask):
        found, said = await ask(method, path, body)
        assert (found, said["error"]["message"][: len(message)]) == (status, message)


async def test_nobody_is_believed_without_the_gateways_word(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        ask.headers = {}
        assert (await ask("GET", "/v1/agents"))[0] == 401
        ask.headers = {CALLER_HEADER: CALLER.signed("x" * 40)}
        status, said = await ask("GET", "/v1/agents")
        assert (status, said["error"]["code"]) == (401, "invalid_grant")
        ask.headers = {CALLER_HEADER: replace(CALLER, expires_at=stage.clock.now()).signed(SECRET)}
        status, said = await ask("GET", "/v1/agents")
        assert (status, said["error"]["code"]) == (401, "expired_grant")
        with pytest.raises(Unauthenticated):
            CallerClaim.read("caller.e30.x", SECRET, now=0)


async def test_a_run_may_not_begin_runs_beside_itself(tmp_path: Path) -> None:
    """They would have budgets of their own."""
    async with served(tmp_path) as (_stage, ask):
        ask.headers = {CALLER_HEADER: replace(CALLER, run="run_1", agent="assistant").signed(SECRET)}
        status, said = await ask("POST", "/v1/agents/runner/runs", {"input": "x"})
        assert status == 403
        assert said["error"]["message"].startswith("run run_1 may not begin runs by the API")


async def events(ask: Asked, path: str, after: str | None = None, most: int | None = None) -> list[Json]:
    headers = {**ask.headers, **({} if after is None else {"Last-Event-ID": after})}
    found: list[Json] = []
    async with ask.client.stream("GET", path, headers=headers) as stream:
        assert stream.error is None
        async for event in stream.events:
            if event == b"[DONE]":
                break
            found.append(json.loads(event))
            if len(found) == most:
                break
    return found


async def test_events_are_resumed_where_they_broke_off(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        run = await stage.start("Add", grants=["add"])
        await stage.settle()
        path = f"/v1/agents/assistant/runs/{run}/events"
        first = await events(ask, path, most=3)
        following = asyncio.create_task(events(ask, path, after="3"))
        await stage.service.resume(CALLER, run, None, {"decision": "approve"})
        await stage.settle()
        rest = await asyncio.wait_for(following, 20)
        assert [event["id"] for event in first + rest] == list(range(1, len(first + rest) + 1))
        assert rest[-1]["type"] == "run.completed"
        _, page = await ask("GET", f"{path}?format=json&after=3")
        assert page["data"] == rest


async def test_a_websocket_tells_events_and_hears_answers(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        run = await stage.start("Add", grants=["add"])
        await stage.settle()
        url = f"{ask.url.replace('http', 'ws', 1)}/v1/agents/assistant/runs/{run}/ws?after=2"
        seen: list[Json] = []
        async with connect(url, additional_headers=ask.headers) as socket:
            await socket.send("nothing")
            await socket.send(json.dumps({"resume": {"decision": "approve"}}))
            settling = None
            async for text in socket:
                said = json.loads(text)
                seen.append(said)
                if said.get("type") == "run.resumed":
                    settling = asyncio.create_task(stage.settle())
            assert settling is not None
            await settling
        assert [said["error"]["message"] for said in seen if "error" in said] == ["the message is not JSON"]
        ids = [said["id"] for said in seen if "id" in said]
        assert ids == list(range(3, ids[-1] + 1))
        assert seen[-1]["type"] == "run.completed"
        strange = {CALLER_HEADER: replace(CALLER, tenant="other").signed(SECRET)}
        async with connect(url, additional_headers=strange) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "run_not_found"


@pytest.mark.parametrize("path", ["/v1/agents/", "/v1/agents/assistant/", "/v1/agents/assistant/runs/"])
async def test_nobody_is_led_to_the_address_of_this_service(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as (_, asked):
        status, said = await asked("GET", path)
        assert (status, said["error"]["code"]) == (404, "not_found")


async def test_an_admin_sees_the_runs_of_all_tenants(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        run = await stage.start("x")
        ask.headers = {CALLER_HEADER: replace(CALLER, tenant="other", role="admin").signed(SECRET)}
        assert (await ask("GET", f"/v1/agents/runs/{run}"))[1]["tenant"] == "acme"


# --- schedules --------------------------------------------------------------------------------------------------------


async def test_a_schedule_makes_a_run_at_its_time_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (stage, ask):
        body = {"cron": "0 8 * * *", "timezone": "Europe/Berlin", "input": "Good morning", "metadata": {"by": "clock"}}
        status, schedule = await ask("POST", "/v1/agents/runner/schedules", body)
        # the clock stands at 2023-11-14 22:13:20 UTC; 8 o'clock in Berlin is 7 UTC in winter
        assert (status, schedule["next_at"]) == (201, 1_700_031_600.0)
        await stage.service.fire_due()
        assert await stage.service.listed(CALLER) == []
        await stage.clock.advance(schedule["next_at"] - stage.clock.now())
        for _ in range(3):  # whoever looks, and how often
            await stage.service.fire_due()
        [run] = await stage.service.listed(CALLER)
        assert (run["agent"], run["input"], run["metadata"]) == ("runner", "Good morning", {"by": "clock"})
        _, found = await ask("GET", "/v1/agents/runner/schedules")
        assert (found["data"][0]["next_at"], found["data"][0]["last_run"]) == (1_700_118_000.0, run["id"])
        await stage.clock.advance(3 * 86400)  # nobody was there for days: one run, not three
        await stage.service.fire_due()
        assert len(await stage.service.listed(CALLER)) == 2
        assert (await ask("DELETE", f"/v1/agents/runner/schedules/{schedule['id']}"))[0] == 200
        await stage.clock.advance(86400)
        await stage.service.fire_due()
        assert len(await stage.service.listed(CALLER)) == 2


async def test_a_schedule_keeps_to_the_clock_on_the_wall() -> None:
    from datetime import UTC, datetime

    from stoker.agents.schedules import next_after

    said = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}

    def following(*moment: int) -> str | None:
        at = next_after(said, datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc]
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()

    assert following(2024, 3, 29, 12) == "2024-03-30T01:30:00+00:00"
    # on the 31st there is no half past two: the clock goes from two to three
    assert following(2024, 3, 30, 12) == "2024-04-01T00:30:00+00:00"
    assert next_after({"cron": "0 0 30 2 *", "timezone": "UTC"}, 0.0) is None


async def test_answers_are_what_the_openapi_document_says(tmp_path: Path) -> None:
    document = {"components": {"schemas": schemas()}}

    def check(name: str, said: object) -> None:
        jsonschema.validate(said, {**document, "$ref": f"#/components/schemas/{name}"})

    async with served(tmp_path) as (stage, ask):
        check("Agents", (await ask("GET", "/v1/agents"))[1])
        _, run = await ask("POST", "/v1/agents/assistant/runs", {"input": "Add", "grants": ["add"], "thread": "t1"})
        check("AgentRun", run)
        limits = (await ask("GET", "/v1/agents/assistant"))[1]["limits"]
        assert set(limits) == set(schemas()["AgentRun"]["properties"]["limits"]["properties"])
        await stage.settle()
        check("AgentRun", (await ask("GET", f"/v1/agents/runs/{run['id']}"))[1])
        check("AgentRuns", (await ask("GET", "/v1/agents/runs"))[1])
        check("AgentEvents", (await ask("GET", f"/v1/agents/runs/{run['id']}/events?format=json"))[1])
        check("Trace", (await ask("GET", f"/v1/agents/runs/{run['id']}/trace"))[1])
        check("Thread", (await ask("GET", "/v1/agents/assistant/threads/t1"))[1])
        _, made = await ask("POST", "/v1/agents/runner/schedules", {"cron": "0 8 * * *", "input": "x"})
        check("Schedule", made)
        check("Schedules", (await ask("GET", "/v1/agents/runner/schedules"))[1])
        check("Deleted", (await ask("DELETE", f"/v1/agents/runner/schedules/{made['id']}"))[1])


def test_what_can_be_asked_in_a_url_is_what_the_openapi_document_says() -> None:
    """The gateway documents what this service reads; neither knows the other."""
    documented = {each.id: {one.name: one for one in each.query} for each in OPERATIONS}
    assert documented["listRuns"]["status"] == api.STATUS
    assert documented["listRuns"]["limit"] == api.LIMIT
    assert documented["showRun"]["wait"] == api.WAIT
    assert documented["followRun"]["after"] == documented["runSocket"]["after"] == api.AFTER
    assert documented["followRun"]["limit"] == api.EVENTS
