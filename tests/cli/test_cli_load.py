"""The load generator: when it sends, what it notes, what it reports. A real server on the loopback answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.base.clock import SystemClock
from stoker.cli.app import run
from stoker.cli.load import arrivals, report
from stoker.cli.load.driver import Ask, Driver
from stoker.cli.load.percentiles import percentile, summary
from stoker.cli.load.report import Seen
from stoker.web import sse
from stoker.web.client import HttpClient

ASK = Ask(model="general", max_tokens=4, prompt_words=3, seed=1, timeout_s=10.0)


# Percentiles


def test_percentiles_interpolate_between_the_closest_ranks() -> None:
    values = [10.0, 20.0, 30.0, 40.0, 50.0]

    assert [percentile(values, p) for p in (0, 25, 50, 90, 100)] == [10.0, 20.0, 30.0, 46.0, 50.0]
    assert percentile([7.0], 99) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(float(numpy.percentile(values, percent)))


def test_nothing_has_no_percentiles() -> None:
    assert summary([]) == {"p50": None, "p90": None, "p95": None, "p99": None, "max": None}
    with pytest.raises(ValueError, match="no percentile of nothing"):
        percentile([], 50)


# Arrivals


def test_the_same_seed_gives_the_same_arrivals_and_prompts() -> None:
    assert list(arrivals.poisson(20, 5, seed=1)) == list(arrivals.poisson(20, 5, seed=1))
    assert list(arrivals.poisson(20, 5, seed=1)) != list(arrivals.poisson(20, 5, seed=2))
    assert arrivals.prompt(3, 8, seed=1) == arrivals.prompt(3, 8, seed=1)
    assert arrivals.prompt(3, 8, seed=1) != arrivals.prompt(4, 8, seed=1)
    assert len(arrivals.prompt(3, 8, seed=1).split()) == 8


def test_poisson_arrivals_come_at_the_rate_in_order_and_within_the_time() -> None:
    times = list(arrivals.poisson(100, 100, seed=0))

    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 100
    assert 9_700 < len(times) < 10_300  # three standard deviations of a Poisson number of 10,000


def test_even_arrivals_are_evenly_spaced() -> None:
    assert list(arrivals.even(4, 1)) == [0.0, 0.25, 0.5, 0.75]


# The report


def test_the_report_adds_up() -> None:
    seen = [
        Seen(0.0, 0.01, [0.2, 0.3, 0.5], 0.6, prompt_tokens=5, completion_tokens=3),
        Seen(1.0, 1.0, [1.1], 1.2, prompt_tokens=5, completion_tokens=1),
        Seen(1.5, 1.5, [], 1.9, error="rate_limited"),
        Seen(1.6, None, [], None, error="too_many_in_flight"),
    ]

    built = report.build(seen, began_at=0.0, ended_at=2.0)

    assert built["requests"] == 4
    assert built["answered"] == 2
    assert built["errors"] == {"rate_limited": 1, "too_many_in_flight": 1}
    assert built["requests_per_s"] == 1.0
    assert built["tokens"] == {"prompt": 10, "completion": 4}
    assert built["tokens_per_s"] == 2.0
    assert built["ttft_s"]["max"] == pytest.approx(0.2)
    assert built["inter_token_s"]["p50"] == pytest.approx(0.15)
    assert built["e2e_s"]["max"] == pytest.approx(0.6)
    assert built["sent_late_s"] == pytest.approx(0.01)


def test_a_report_of_failures_alone_can_be_printed() -> None:
    built = report.build([Seen(0.0, 0.0, error="timeout")], began_at=0.0, ended_at=1.0)

    assert report.rows(built)[0] == ["time to first token", "-", "-", "-", "-", "-"]
    assert report.lines(built)[1] == "errors        timeout 1"


# The driver


class Chats:
    """A server of streamed chat completions that counts who is there. `answer` writes one answer."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []
        self.running = 0
        self.most = 0
        self.enough = asyncio.Event()

    async def three_tokens(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        for text in ("", "one", "two", "three"):
            await write(sse.json_event({"choices": [{"delta": {"content": text}}]}))
        await write(sse.json_event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}))
        await write(sse.event(sse.DONE))

    async def error_in_stream(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(sse.json_event({"choices": [{"delta": {"content": "one"}}]}))
        await write(sse.json_event({"error": {"message": "no", "code": "engine_unavailable"}}))
        await write(sse.event(sse.DONE))

    async def breaks_off(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(sse.json_event({"choices": [{"delta": {"content": "one"}}]}))

    async def no_usage(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(sse.event(sse.DONE))

    async def nonsense(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(sse.event(b"[1, 2"))

    async def waits_until_enough(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        await self.enough.wait()
        await self.three_tokens(write)


@asynccontextmanager
async def serving(chats: Chats, kind: str) -> AsyncIterator[HttpClient]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        chats.bodies.append(json.loads(await reader.readexactly(length)))
        chats.running += 1
        chats.most = max(chats.most, chats.running)

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        if kind == "refuses":
            body = json.dumps({"error": {"message": "too fast", "code": "rate_limited", "type": "x"}}).encode()
            await write(
                b"HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
        else:
            await write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            await getattr(chats, kind)(write)
        chats.running -= 1
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpClient(f"http://127.0.0.1:{port}", key="k") as client:
        yield client


async def test_a_closed_loop_keeps_so_many_clients_busy() -> None:
    chats = Chats()
    async with serving(chats, "waits_until_enough") as client:
        driver = Driver(client, ASK, SystemClock())
        running = asyncio.create_task(driver.closed_loop(3, seconds=0.05))
        async with asyncio.timeout(10):
            while chats.running < 3:  # noqa: ASYNC110 - a count of the server's, not an event
                await asyncio.sleep(0.005)
        assert driver.in_flight == 3
        chats.enough.set()
        await running

    assert chats.most == 3
    assert driver.in_flight == 0
    assert {one.error for one in driver.seen} == {None}
    assert {(one.prompt_tokens, one.completion_tokens, len(one.token_times)) for one in driver.seen} == {(5, 3, 3)}
    assert chats.bodies[0]["stream_options"] == {"include_usage": True}
    assert chats.bodies[0]["max_tokens"] == 4


async def test_an_open_loop_sends_without_waiting_for_answers_up_to_its_cap() -> None:
    chats = Chats()
    async with serving(chats, "waits_until_enough") as client:
        driver = Driver(client, ASK, SystemClock())
        running = asyncio.create_task(driver.open_loop(arrivals.even(1000, 0.01), most_in_flight=6))
        async with asyncio.timeout(10):
            while chats.running < 6 or len(driver.seen) < 10:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        chats.enough.set()
        await running

    assert [one.error for one in driver.seen] == [None] * 6 + ["too_many_in_flight"] * 4
    assert [one.sent_at is None for one in driver.seen] == [False] * 6 + [True] * 4


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("refuses", "rate_limited"),
        ("error_in_stream", "engine_unavailable"),
        ("breaks_off", "broken_stream"),
        ("no_usage", "no_usage"),
        ("nonsense", "bad_event"),
    ],
)
async def test_each_failure_has_its_kind(kind: str, error: str) -> None:
    async with serving(Chats(), kind) as client:
        driver = Driver(client, ASK, SystemClock())
        await driver.open_loop(iter([0.0]), most_in_flight=1)

    assert [one.error for one in driver.seen] == [error]
    assert driver.in_flight == 0


async def test_an_answer_that_never_comes_is_a_timeout() -> None:
    chats = Chats()
    async with serving(chats, "waits_until_enough") as client:
        driver = Driver(client, Ask("general", 4, 3, 1, timeout_s=0.05), SystemClock())
        await driver.open_loop(iter([0.0]), most_in_flight=1)
        chats.enough.set()

    assert [one.error for one in driver.seen] == ["timeout"]


async def test_nobody_there_is_unavailable() -> None:
    async with HttpClient("http://127.0.0.1:1", key="k") as client:
        driver = Driver(client, ASK, SystemClock())
        await driver.open_loop(iter([0.0]), most_in_flight=1)

    assert [one.error for one in driver.seen] == ["unreachable"]


# The command


def test_the_command_fails_when_a_request_failed_and_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["load", "--url", "http://127.0.0.1:1", "--key", "k", "--rate", "20", "--seconds", "0.2", "--even"]

    assert run([*arguments, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["rate"], said["concurrency"], said["model"]) == (20, None, "general")
    assert (said["requests"], said["answered"], said["errors"]) == (4, 0, {"unreachable": 4})
    assert run(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["requests      4, answered 0 (0.00/s)", "errors        unreachable 4"]
    assert lines[5].split() == ["milliseconds", "p50", "p90", "p95", "p99", "max"]
