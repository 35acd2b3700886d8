"""What clients do when the platform is hurt; here it answers as a test says. In full: tests/flow/test_drill.py."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from drill_parts import SkippingClock

from stoker.drill.load import Load
from stoker.drill.observed import Ask
from stoker.drill.outside import Outside
from stoker.testing.receiver import Receiver

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"


def said(value: object, status: int = 200, **headers: str) -> bytes:
    body = json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def events(*chunks: object, request_id: str = "req_1") -> bytes:
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/event-stream",
        "Connection: close",
        f"X-Request-Id: {request_id}",
    ]
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return ("\r\n".join([*lines, "", ""]) + "".join(f"data: {text}\n\n" for text in texts)).encode()


def word(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
COMPLETION = {"choices": [{"message": {"content": "7 apples"}}], "usage": USAGE}
WHOLE = [word("7 "), word("apples"), {"choices": [], "usage": USAGE}, "[DONE]"]
ERROR = {"error": {"message": "no", "code": "engine_unavailable"}}


def task(state: str, id: str = "req_1", **more: object) -> dict[str, Any]:
    return {"id": id, "run": "drill_1-0", "state": state, "worker": None, "failures": [], **more}


@asynccontextmanager
async def a_load(*answers: int | bytes | None) -> AsyncIterator[tuple[Load, Receiver]]:
    clock = SkippingClock()
    async with Receiver(*answers) as platform:
        outside = Outside(platform.url, "admin", clock)
        load = Load(platform.url, "key", outside, model="general", max_tokens=64, clients=4, clock=clock)
        yield load, platform
        await load.close()
        await outside.close()


async def sent(kind: Any, *answers: int | bytes | None) -> tuple[Ask, Load, list[str]]:
    """What became of one piece of load that was answered so, and the paths that were asked."""
    async with a_load(*answers) as (load, platform):
        ask = Ask(0, kind, "drill_1-0", "Repeat: 7 apples.")
        await load.send(ask, load._clock.monotonic() + 60)
        return ask, load, [got.path.partition("?")[0] for got in platform.got]


# --- who holds a line -------------------------------------------------------------------------------------------------


async def test_an_answer() -> None:
    ask, load, _ = await sent("chat", said(COMPLETION, X_Request_Id="req_1", X_Stoker_Budget_Left_Tokens="70"))

    assert (ask.end, ask.answer, ask.told, ask.told_generated) == ("done", "7 apples", 30, 10)
    assert [(tried.request_id, tried.outcome) for tried in ask.tries] == [("req_1", "done")]
    assert load.left == 70
    assert len(load.beats) == 1


async def test_later_is_asked_again_and_no_is_not() -> None:
    later = said(ERROR, 503, Retry_After="1", X_Request_Id="req_1")
    ask, _, _ = await sent("chat", later, said(COMPLETION, X_Request_Id="req_2"))
    assert (ask.end, [tried.outcome for tried in ask.tries]) == ("done", ["refused", "done"])
    assert (ask.tries[0].status, ask.tries[0].code) == (503, "engine_unavailable")

    ask, _, paths = await sent("chat", said(ERROR, 503))
    assert (ask.end, len(paths)) == ("refused", 1)


async def test_an_answer_that_breaks_off_is_not_asked_for_twice() -> None:
    ask, _, paths = await sent("chat", CUT)

    assert (ask.end, ask.answer, [tried.outcome for tried in ask.tries]) == ("cut", None, ["cut"])
    assert paths == ["/v1/chat/completions"]


async def test_nobody_there_is_asked_again_until_the_time_is_over() -> None:
    async with a_load() as (load, platform):
        server = platform._server
        assert server is not None
        server.close()
        await server.wait_closed()
        ask = Ask(0, "chat", "drill_1-0", "Repeat: 7 apples.")
        await load.send(ask, load._clock.monotonic() + 0.05)

    assert (ask.end, ask.ended_at) == ("open", None)
    assert {tried.outcome for tried in ask.tries[:-1]} == {"unreachable"}


async def test_a_stream() -> None:
    ask, load, _ = await sent("stream", events(*WHOLE))

    assert (ask.end, ask.answer, ask.told) == ("done", "7 apples", 30)
    assert len(load.beats) == 3


async def test_a_stream_that_ends_in_an_error_or_in_nothing_is_cut() -> None:
    ask, _, _ = await sent("stream", events(word("7 "), ERROR))
    assert (ask.end, ask.tries[0].code, ask.answer) == ("cut", "engine_unavailable", None)

    ask, _, _ = await sent("stream", events(word("7 ")))
    assert (ask.end, ask.tries[0].code) == ("cut", "broken_stream")


async def test_an_answer_that_is_none() -> None:
    ask, _, _ = await sent("chat", said(["not", "an", "object"]))

    assert (ask.end, ask.tries[0].code) == ("cut", "bad_answer")


# --- who comes back ---------------------------------------------------------------------------------------------------


async def test_a_resumable_stream_that_breaks_off_is_read_again_from_its_beginning() -> None:
    ask, _, paths = await sent("resumable", events(word("7 ")), said(task("running")), events(*WHOLE))

    assert (ask.end, ask.answer, ask.task_id) == ("done", "7 apples", "req_1")
    assert paths == ["/v1/chat/completions", "/v1/tasks/req_1", "/v1/streams/req_1"]
    assert [(tried.request_id, tried.outcome) for tried in ask.tries] == [("req_1", "done")]


async def test_a_resumable_stream_that_broke_off_before_its_name_was_told_is_looked_for() -> None:
    listed = said({"tasks": [task("running", "req_2")]})
    ask, _, paths = await sent("resumable", b"", listed, events(*WHOLE, request_id="req_2"))

    assert (ask.end, ask.task_id) == ("done", "req_2")
    assert paths == ["/v1/chat/completions", "/admin/v1/tasks", "/v1/streams/req_2"]


async def test_a_resumable_stream_whose_task_was_given_up_is_not_read_for_ever() -> None:
    ask, _, _ = await sent("resumable", events(word("7 "), ERROR), said(task("dead")))

    assert ask.end == "dead"


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_a_task() -> None:
    done = said(task("done", result=COMPLETION))
    ask, _, paths = await sent("task", said(task("queued"), 202, X_Request_Id="req_1"), said(task("running")), done)

    assert (ask.end, ask.task_id, ask.answer, ask.told) == ("done", "req_1", "7 apples", 30)
    assert paths == ["/v1/tasks", "/v1/tasks/req_1", "/v1/tasks/req_1"]


async def test_a_submission_that_broke_off_is_looked_for_before_it_is_made_again() -> None:
    done = said(task("done", result=COMPLETION))
    ask, _, paths = await sent("task", b"", said({"tasks": [task("running")]}), done)
    assert (ask.end, ask.task_id) == ("done", "req_1")
    assert paths == ["/v1/tasks", "/admin/v1/tasks", "/v1/tasks/req_1"]

    others = said({"tasks": [{**task("running"), "run": "somebody's"}]})
    ask, _, paths = await sent("task", b"", others, said(task("queued"), 202), done)
    assert ask.end == "done"
    assert paths == ["/v1/tasks", "/admin/v1/tasks", "/v1/tasks", "/v1/tasks/req_1"]


async def test_a_task_that_nobody_knows_any_more_is_lost() -> None:
    ask, _, _ = await sent("task", said(task("queued"), 202), said(ERROR, 404))

    assert ask.end == "lost"


async def test_a_task_that_was_given_up_is_dead() -> None:
    ask, _, _ = await sent("task", said(task("queued"), 202), said(task("dead", result=None)))

    assert (ask.end, ask.answer) == ("dead", None)


async def test_a_platform_that_does_not_answer_for_a_moment_is_asked_for_the_task_again() -> None:
    done = said(task("done", result=COMPLETION))
    ask, _, _ = await sent("task", said(task("queued"), 202), b"", said(ERROR, 503), done)

    assert ask.end == "done"
