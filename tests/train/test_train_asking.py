"""Questions to the embedded decoder and to servers: what is said, and what does not come."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.base.errors import StokerError
from stoker.engine.loop import StepLoop
from stoker.engine.parsing import Served
from stoker.engine.runner import Runner
from stoker.engine.scheduler import Limits
from stoker.nn import bundle as bundles
from stoker.nn.bundle import Bundle
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock
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
