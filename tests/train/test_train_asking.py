"""Questions to the embedded decoder and to servers: what is said, and what does not come."""

import asyncio
import json

import pytest

from stoker.base.errors import Unauthenticated
from stoker.engine import parsing
from stoker.engine.loop import StepLoop
from stoker.engine.parsing import Served
from stoker.engine.runner import Runner
from stoker.engine.scheduler import Limits
from stoker.nn import bundle as bundles
from stoker.nn.bundle import Bundle
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine
from stoker.train import asking
from stoker.train.asking import Said
from stoker.train.suites import Question


def ask(*texts: str) -> list[Question]:
    return [Question("s", str(n), "", messages=[{"role": "user", "content": text}]) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return bundles.load()


def test_the_embedded_model_answers_in_the_order_of_the_questions(bundle: Bundle) -> None:
    products = [f"What is {n} times 7?" for n in range(1, 11)]
    said = asking.embedded(bundle)(ask(*products), 16)
    assert [str(7 * n) in (each.text or "") for n, each in enumerate(said, start=1)] == [True] * 10


def test_an_answer_ends_where_it_has_to(bundle: Bundle) -> None:
    (said,) = asking.embedded(bundle)(ask("Count from 1 to 20."), 4)
    assert len(bundle.tokenizer.encode(said.text or "")) == 4
    (text,) = asking.embedded(bundle)([Question("s", "1", "", prompt="Once upon a time")], 8)
    assert text.text
    assert text != asking.embedded(bundle)(ask("Once upon a time"), 8)[0]


def test_a_question_that_is_too_long_has_no_answer_and_the_others_do(bundle: Bundle) -> None:
    said = asking.embedded(bundle)(ask("x " * 9000, "What is 2 times 2?"), 8)
    assert said[0].text is None
    assert "the context of tuned is 2048 tokens" in said[0].why
    assert "4" in (said[1].text or "")


async def test_it_says_what_serving_would_say(bundle: Bundle) -> None:
    """Sixteen questions together, by the engine's loop and over HTTP's parsing, against the evaluation."""
    clock = ManualClock()
    questions = ask(*(f"What is {a} plus {b}?" for a in (3, 8) for b in range(2, 10)))
    runner = Runner(bundle, "m", asking.CONTEXT, Limits(8, 100), clock, Metrics())
    loop = StepLoop(runner, clock)
    served = Served(bundle, "m", "general", runner.context)
    loop.start()
    try:
        tickets = [
            loop.submit(
                parsing.chat({"messages": q.messages, "max_tokens": 16, "temperature": 0}, served).generation,
                is_streamed=False,
            )
            for q in questions
        ]
        answers = ["".join([part.text async for part in ticket.progress()]) for ticket in tickets]
    finally:
        loop.stop()
    assert asking.embedded(bundle)(questions, 16) == [Said(answer) for answer in answers]


# Over HTTP


class NoWait(ManualClock):
    """Keeps how long was slept, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def over_http(engine: EchoEngine, *texts: str, key: str | None = None, clock: NoWait | None = None) -> list[Said]:
    """In a thread, since an evaluation has an event loop of its own."""
    made = asking.endpoint(engine.url, key, "general", clock=clock or NoWait())
    return await asyncio.to_thread(made, ask(*texts), 32)


async def test_a_server_is_asked_greedily_and_answers_in_order() -> None:
    async with EchoEngine("general") as engine:
        texts = [f"question {n}" for n in range(20)]
        assert await over_http(engine, *texts) == [Said(text) for text in texts]
        assert len(engine.requests) == 20
        body = engine.requests[0].body
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("general", 0, 32)


async def test_what_is_transient_is_tried_again() -> None:
    clock = NoWait()
    async with EchoEngine("general") as engine:
        engine.refuse(503, {"error": {"message": "busy"}})
        engine.refuse(429, {"error": {"message": "slow down"}})
        engine.break_off_after(0)
        assert await over_http(engine, "hi", clock=clock) == [Said("hi")]
    assert len(clock.slept) == 3
    assert max(clock.slept) <= 4.0


async def test_what_stays_away_has_no_answer_with_the_reason() -> None:
    async with EchoEngine("general") as engine:
        engine.refuse(503, {"error": {"message": "busy"}}, times=asking.TRIES)
        assert await over_http(engine, "hi") == [Said(None, "busy (4 tries)")]
        engine.refuse(400, {"error": {"message": "too long"}})
        assert await over_http(engine, "hi") == [Said(None, "too long")]
        engine.refuse(200, {"choices": []})
        assert await over_http(engine, "hi") == [Said(None, "the answer has no message")]
        engine.refuse(200, {"choices": [{"message": {"content": None}}]})
        assert await over_http(engine, "hi") == [Said(None, "the answer has no text")]
        calls = [{"function": {"name": "f", "arguments": "{}"}}]
        engine.refuse(200, {"choices": [{"message": {"content": None, "tool_calls": calls}}]})
        assert await over_http(engine, "hi") == [Said(json.dumps(calls))]


async def test_a_wrong_key_ends_it_at_once() -> None:
    async with EchoEngine("general") as engine:
        engine.key = "right-key-of-the-server"
        with pytest.raises(Unauthenticated, match="Incorrect API key"):
            await over_http(engine, "hi", "ho", key="wrong")


async def test_a_server_that_says_its_digest_is_believed() -> None:
    digest = "a" * 64
    async with EchoEngine("general") as engine:
        assert await asyncio.to_thread(asking.served_digest, engine.url, None, f"general@{digest}") == digest
        assert await asyncio.to_thread(asking.served_digest, engine.url, None, "general") is None
