"""Calls of models over real HTTP: what is tried again, under which key, and what is for good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.agents.model import Answered, Gateway
from stoker.base.errors import BudgetExhausted, InvalidInput, Refused, Unavailable
from stoker.testing import ManualClock
from stoker.web import server

Json = dict[str, Any]
ANSWER: Json = {
    "model": "general-7",
    "choices": [{"message": {"role": "assistant", "content": "hi", "refusal": None}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}},
}


class Hasty(ManualClock):
    """Time that passes when somebody sleeps; `slept` is for how long each time."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds


@dataclass
class Front:
    """A gateway that answers what it is told to, one after the other."""

    answers: list[tuple[int, Json, dict[str, str]]]
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        said = request.headers
        self.asked.append((request.url.path, said["authorization"], said["idempotency-key"]))
        status, body, headers = self.answers.pop(0)
        return JSONResponse(body, status, headers=headers)


def problem(status: int, code: str, **headers: str) -> tuple[int, Json, dict[str, str]]:
    error = {"message": code, "type": "t", "code": code, "param": None}
    return status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()}


GOOD = (200, ANSWER, {"X-Stoker-Model": "general", "X-Stoker-Cost-Usd": "0.000000012"})


@asynccontextmanager
async def fronted(*answers: tuple[int, Json, dict[str, str]]) -> AsyncIterator[tuple[Front, Gateway, Hasty]]:
    front, clock, stop = Front(list(answers)), Hasty(), asyncio.Event()
    listening = server.bind("127.0.0.1", 0)
    paths = ("/v1/chat/completions", "/v1/code/chat/completions")
    app = server.application([Route(path, front.answer, methods=["POST"]) for path in paths])
    serving = asyncio.create_task(server.serve(app, listening, stop, grace_s=0.1))
    gateway = Gateway(server.url_of(listening), clock)
    try:
        yield front, gateway, clock
    finally:
        await gateway.aclose()
        stop.set()
        await serving


async def test_an_answer_with_what_it_cost() -> None:
    async with fronted(GOOD) as (front, gateway, _clock):
        said = await gateway.chat({"messages": []}, bearer="grant", key="run_1:a:m1", route="code")
        assert said == Answered({"role": "assistant", "content": "hi"}, "stop", "general", 9, 3, 4, 1.2e-8)
        assert front.asked == [("/v1/code/chat/completions", "Bearer grant", "run_1:a:m1")]


async def test_a_limit_that_renews_is_waited_for_under_the_same_key() -> None:
    async with fronted(problem(429, "rate_limit", retry_after="7"), GOOD) as (front, gateway, clock):
        await gateway.chat({}, bearer="grant", key="k")
        assert ([key for _, _, key in front.asked], clock.slept) == (["k", "k"], [7.0])


async def test_a_limit_that_does_not_renew_in_time_is_told() -> None:
    async with fronted(problem(429, "rate_limit", retry_after="121")) as (_front, gateway, clock):
        with pytest.raises(Refused, match="rate_limit"):
            await gateway.chat({}, bearer="grant", key="k")
        assert clock.slept == []


async def test_an_answer_that_takes_longer_is_fetched_under_the_same_key() -> None:
    async with fronted(problem(504, "timeout"), GOOD) as (front, gateway, _clock):
        await gateway.chat({}, bearer="grant", key="k")
        assert [key for _, _, key in front.asked] == ["k", "k"]


async def test_a_call_that_failed_is_made_again_under_another_key() -> None:
    """The gateway knows the failure by its key, and would tell of it again."""
    away, wrong = problem(503, "no_replica"), problem(502, "upstream_error")
    async with fronted(away, wrong, GOOD) as (front, gateway, clock):
        await gateway.chat({}, bearer="grant", key="k")
        assert ([key for _, _, key in front.asked], clock.slept) == (["k", "k:r1", "k:r2"], [0.5, 1.0])
    async with fronted(away, away, away) as (front, gateway, _clock):
        with pytest.raises(Unavailable, match="no_replica"):
            await gateway.chat({}, bearer="grant", key="k")
        assert len(front.asked) == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(402, "budget_exhausted", BudgetExhausted), (400, "invalid_value", InvalidInput)]
)
async def test_what_is_for_good_is_asked_once(status: int, code: str, kind: type[Exception]) -> None:
    async with fronted(problem(status, code)) as (front, gateway, _clock):
        with pytest.raises(kind, match=code):
            await gateway.chat({}, bearer="grant", key="k")
        assert len(front.asked) == 1


async def test_an_answer_that_is_none_is_a_failure() -> None:
    async with fronted((200, {"choices": []}, {}), GOOD) as (front, gateway, _clock):
        await gateway.chat({}, bearer="grant", key="k")
        assert [key for _, _, key in front.asked] == ["k", "k:r1"]
