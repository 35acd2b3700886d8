"""Sessions: how a client names one, which replica it stays with, what it has cost, and when it is over."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, OTHER_KEY, Stack, a_stack, events_of, running_worker, until

from stoker.base.errors import InvalidInput, Unavailable
from stoker.gateway import sessions as module
from stoker.gateway.sessions import Sessions, conversation_in
from stoker.meter.ledger import Spent
from stoker.policy.budgets import ScopeKind
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine

CHAT = "/v1/chat/completions"
COST = "X-Stoker-Session-Cost-Usd"
S = ("acme", "s")
ONE_USD = "0.000012000"  # of HELLO: four tokens in, four out


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


class Books:
    """A ledger that says what a session has spent, when it is let to."""

    def __init__(self, nano_usd: int = 0) -> None:
        self.nano_usd = nano_usd
        self.is_away = False
        self.looks: list[tuple[str, str]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._loop = asyncio.get_running_loop()

    def spent(self, kind: ScopeKind, tenant: str, name: str, *, since: float | None = None) -> Spent:
        assert (kind, since) == ("session", None)
        self.looks.append((tenant, name))
        asyncio.run_coroutine_threadsafe(self.go_on.wait(), self._loop).result(20)
        if self.is_away:
            raise Unavailable("the ledger is away")
        return Spent(1, 2, self.nano_usd)


@pytest.fixture
async def books() -> Books:
    return Books(nano_usd=100)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(books: Books, clock: ManualClock) -> Sessions:
    return Sessions(books, clock, idle_s=300.0)  # type: ignore[arg-type]


# --- what it has cost -------------------------------------------------------------------------------------------------


async def test_the_cost_so_far_begins_with_what_the_ledger_says(sessions: Sessions, books: Books) -> None:
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107
    sessions.begin(S)
    assert await sessions.end(S, 3) == 110
    assert books.looks == [S]


async def test_requests_at_the_same_time_all_count(sessions: Sessions, books: Books) -> None:
    books.go_on.clear()
    for _ in range(3):
        sessions.begin(S)
    ending = [asyncio.create_task(sessions.end(S, cost)) for cost in (1, 2, 3)]
    await asyncio.sleep(0)
    books.go_on.set()
    assert await asyncio.gather(*ending) == [101, 103, 106]
    assert books.looks == [S]


async def test_a_client_that_leaves_does_not_end_the_look_up_of_another(sessions: Sessions, books: Books) -> None:
    books.go_on.clear()
    sessions.begin(S)
    sessions.begin(S)
    leaving, staying = (asyncio.create_task(sessions.end(S, cost)) for cost in (1, 2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    books.go_on.set()
    assert await staying == 102


async def test_what_the_ledger_does_not_say_is_not_told_until_it_does(sessions: Sessions, books: Books) -> None:
    books.is_away = True
    sessions.begin(S)
    sessions.begin(S)
    assert await sessions.end(S, 7) is None
    assert await sessions.end(S, 7) is None  # and not 7, as if nothing had been before
    books.is_away = False
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107


async def test_other_processes_are_heard_of_after_a_pause(sessions: Sessions, books: Books, clock: ManualClock) -> None:
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107
    books.nano_usd = 1000
    await clock.advance(module.LOOK_AGAIN_S)
    sessions.begin(S)
    assert await sessions.end(S, 7) == 114
    await clock.advance(module.LOOK_AGAIN_S + 0.1)
    sessions.begin(S)
    assert await sessions.end(S, 7) == 1007


async def test_two_tenants_sessions_of_one_name_are_two(sessions: Sessions) -> None:
    for name in (S, ("other", "s")):
        sessions.begin(name)
    assert await sessions.end(S, 5) == 105
    assert await sessions.end(("other", "s"), 1) == 101


# --- how long it is remembered ----------------------------------------------------------------------------------------


async def test_a_session_is_over_when_it_was_idle(sessions: Sessions, clock: ManualClock, books: Books) -> None:
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107
    await clock.advance(299.9)
    sessions.begin(("acme", "another"))
    assert len(sessions) == 2
    await clock.advance(0.1)
    sessions.begin(("acme", "another"))
    assert len(sessions) == 1


async def test_a_request_that_runs_keeps_its_session(sessions: Sessions, clock: ManualClock) -> None:
    sessions.begin(S)
    await clock.advance(1000.0)
    sessions.begin(("acme", "another"))
    assert len(sessions) == 2
    assert await sessions.end(S, 7) == 107


async def test_an_idle_session_is_over_also_behind_one_that_runs(
    sessions: Sessions, clock: ManualClock, books: Books
) -> None:
    sessions.begin(("acme", "long"))
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107
    await clock.advance(300.0)
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107  # begun anew: the ledger was asked again
    assert books.looks.count(S) == 2


async def test_no_more_than_so_many_are_remembered(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    for number in range(100):
        sessions.begin(("acme", str(number)))
        assert len(sessions) <= 11
        await sessions.end(("acme", str(number)), 0)


async def test_one_that_was_forgotten_while_it_ran_ends_without_a_trace(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 0)
    sessions.begin(S)
    sessions.begin(("acme", "another"))  # S is forgotten, while it runs
    assert await sessions.end(S, 7) is None
    sessions.begin(S)
    assert await sessions.end(S, 7) == 107
    assert await sessions.end(S, 7) is None  # it ended already
    assert in_flight(sessions, S) == 0


def in_flight(sessions: Sessions, name: tuple[str, str]) -> int:
    return sessions._known[name].in_flight


# --- its name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, None),
        ({"conversation": None}, None),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {"id": "conv_1"}}, "conv_1"),
        ({"conversation": {}}, None),
    ],
)
def test_a_conversation_names_a_session(body: dict[str, Any], name: str | None) -> None:
    assert conversation_in(body) == name


@pytest.mark.parametrize("value", [7, True, ["conv_1"], {"id": 7}, {"id": {"id": "x"}}])
def test_a_conversation_that_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        conversation_in({"conversation": value})
    assert caught.value.param == "conversation"


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}])
async def test_a_conversation_is_accounted_for_and_not_sent_on(stack: Stack, conversation: Any) -> None:
    engine = await stack.engine()
    answer = await (await stack.http()).request("POST", CHAT, body=asked(conversation=conversation))
    assert (answer.status, answer.headers[COST]) == (200, ONE_USD)
    assert "conversation" not in engine.requests[0].body
    assert (await stack.record()).session == "conv_1"


async def test_the_header_comes_before_the_conversation(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()
    await http.post_json(CHAT, asked(conversation="conv_1"), headers={"X-Session-Id": "s"})
    assert (await stack.record()).session == "s"


@pytest.mark.parametrize("name", ["a b", "", "x" * 257, "\ud800"])
async def test_a_conversation_that_could_be_no_header_is_refused(stack: Stack, name: str) -> None:
    answer = await (await stack.http()).request("POST", CHAT, body=asked(conversation=name))
    assert (answer.status, answer.json()["error"]["param"]) == (400, "conversation")


async def test_a_task_belongs_to_its_conversation(stack: Stack) -> None:
    http = await stack.http()
    shown = await http.post_json("/v1/tasks", asked(conversation="conv_1"))
    assert shown["session"] == "conv_1"
    assert in_flight(stack.gateway.services.inference.sessions, ("acme", "conv_1")) == 0


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_the_cost_of_a_session_grows_and_outlives_the_gateway(tmp_path: Path) -> None:
    for told in ([ONE_USD, "0.000024000"], ["0.000036000"]):
        async with a_stack(tmp_path) as stack:
            await stack.engine()
            http, other = await stack.http(), await stack.http(OTHER_KEY)
            for cost in told:
                answer = await http.request("POST", CHAT, body=asked(), headers={"X-Session-Id": "s"})
                assert answer.headers[COST] == cost
            assert COST not in (await http.request("POST", CHAT, body=asked())).headers
            # A stranger's session of that name has cost what the stranger paid.
            answer = await other.request("POST", CHAT, body=asked(), headers={"X-Session-Id": "s"})
            assert answer.headers[COST] == (ONE_USD if len(told) == 2 else "0.000024000")


async def test_a_session_stays_with_its_replica_within_the_bound(stack: Stack) -> None:
    engines = {"general-0": await stack.engine(), "general-1": await stack.engine()}
    http = await stack.http()

    async def served_by(session: str) -> str:
        answer = await http.request("POST", CHAT, body=asked(), headers={"X-Session-Id": session})
        return str(answer.headers["x-stoker-replica"])

    homes = [await served_by(f"s{number}") for number in range(8)]
    assert [await served_by(f"s{number}") for number in range(8)] == homes
    assert set(homes) == set(engines)
    home = homes[0]

    # Two of its requests may run there while the other replica has none; the third would be more than its part.
    running = []
    for _ in range(2):
        hold = engines[home].hold_at(0)
        running.append((hold, asyncio.create_task(served_by("s0"))))
        await hold.reached()
    assert await served_by("s0") != home
    for hold, asking in running:
        hold.open.set()
        assert await asking == home
    assert await served_by("s0") == home


async def test_prompts_that_begin_alike_go_to_one_replica(stack: Stack) -> None:
    for _ in range(2):
        await stack.engine()
    http = await stack.http()

    async def served_by(beginning: str, *, length: int = 300) -> list[str]:
        system = {"role": "system", "content": beginning * (length // len(beginning))}
        answers = [await http.request("POST", CHAT, body=asked(messages=[system, *HELLO])) for _ in range(4)]
        return [str(answer.headers["x-stoker-replica"]) for answer in answers]

    homes = [await served_by(letter) for letter in "abcdef"]
    assert all(len(set(each)) == 1 for each in homes)
    assert len({each[0] for each in homes}) == 2
    assert len(set(await served_by("a", length=100))) == 2  # too short to be worth it: they take turns


async def test_a_session_whose_replica_is_gone_finds_another_home(stack: Stack) -> None:
    engines = {"general-0": await stack.engine(), "general-1": await stack.engine()}
    http = await stack.http()
    headers = {"X-Session-Id": "s"}
    home = (await http.request("POST", CHAT, body=asked(), headers=headers)).headers["x-stoker-replica"]
    other = next(name for name in engines if name != home)
    await engines[home].stop()
    replicas = {
        (await http.request("POST", CHAT, body=asked(), headers=headers)).headers["x-stoker-replica"] for _ in range(3)
    }
    assert replicas == {other}
    assert len(engines[other].requests) == 3


async def test_no_request_leaves_its_session_running(stack: Stack) -> None:
    """Done, refused by the engine, failed, cancelled, streamed, through the queue, refused by a budget."""
    engine = await stack.engine()
    http = await stack.http()
    sessions = stack.gateway.services.inference.sessions
    headers = {"X-Session-Id": "s"}

    async def ask(**changes: Any) -> int:
        return (await http.request("POST", CHAT, body=asked(**changes), headers=headers)).status

    assert await ask() == 200
    async with http.stream("POST", CHAT, body=asked(stream=True), headers=headers) as answer:
        await events_of(answer)
    for stream in (False, True):
        engine.refuse(422, {"error": {"message": "no"}})
        assert await ask(stream=stream) == 422
        engine.refuse(500, {"error": {"message": "broken"}})
        assert await ask(stream=stream) == 500
        hold = engine.hold_at(0)
        leaving = asyncio.create_task(ask(stream=stream))
        request = await hold.reached()
        leaving.cancel()
        assert await request.end() == "cancelled"
    engine.break_off_after(2)
    async with http.stream("POST", CHAT, body=asked(stream=True), headers=headers) as answer:
        assert "error" in [*await events_of(answer)][-1]
    assert await ask(max_tokens="many") == 400
    await until(lambda: not in_flight(sessions, S))
    assert len(sessions) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_no_request_in_the_queue_leaves_its_session_running(stack: Stack, stream: bool) -> None:
    http = await stack.http()
    sessions = stack.gateway.services.inference.sessions
    headers = {"X-Session-Id": "s"}
    leaving = asyncio.create_task(http.request("POST", CHAT, body=asked(stream=stream), headers=headers))
    await until(lambda: len(stack.queue._kept) == 1)  # type: ignore[attr-defined]
    assert in_flight(sessions, S) == 1
    leaving.cancel()
    await until(lambda: not in_flight(sessions, S))
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        if stream:
            async with http.stream("POST", CHAT, body=asked(stream=True), headers=headers) as answer:
                assert [*await events_of(answer)][-1] == "[DONE]"
        else:
            answer = await http.request("POST", CHAT, body=asked(), headers=headers)
            assert answer.headers[COST] == ONE_USD
        engine.refuse(422, {"error": {"message": "no"}})
        await http.request("POST", CHAT, body=asked(stream=stream), headers=headers)
    await until(lambda: not in_flight(sessions, S))
    await stack.gateway.commitments.settled()
