"""What one request comes to, from what was seen of it and what its engine said."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.charge import Caller, Charge
from stoker.meter.usage import UsageRecord
from stoker.spec import Prices

PRICES = Prices(
    input_usd_per_million_tokens=Decimal(1),
    cached_input_usd_per_million_tokens=Decimal("0.5"),
    output_usd_per_million_tokens=Decimal(2),
)


def a_charge(**changes: Any) -> Charge:
    caller = Caller("acme", "key_1", "s", "r", "red")
    given: dict[str, Any] = {"id": "req_1", "kind": "request", "caller": caller, "model": "general", "route": "model"}
    return Charge(**{**given, "prices": PRICES, "started_at": 10.0, **changes})


def counts(charge: Charge) -> tuple[int, int, int, bool]:
    return charge.prompt_tokens, charge.cached_tokens, charge.completion_tokens, charge.is_counted


def usage(prompt: Any, completion: Any, cached: Any = None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"prompt_tokens": prompt, "completion_tokens": completion, **details}


def test_the_record_is_what_the_engine_counted_at_the_models_prices() -> None:
    charge = a_charge(replica="general-0", first_token_at=11.0, attempts=2)
    charge.saw_usage(usage(10, 5, cached=4))
    assert charge.record("done", 12.0) == UsageRecord(
        id="req_1",
        kind="request",
        status="done",
        tenant="acme",
        key_id="key_1",
        team="red",
        session="s",
        run="r",
        model="general",
        replica="general-0",
        route="model",
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=5,
        nano_usd=6 * 1000 + 4 * 500 + 5 * 2000,
        started_at=10.0,
        first_token_at=11.0,
        ended_at=12.0,
        attempts=2,
        reason=None,
    )


def test_a_reason_is_kept_as_far_as_the_ledger_has_room_for_it() -> None:
    assert a_charge().record("failed", 11.0, "x" * 500).reason == "x" * 200


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (usage(3, 4), (3, 2, 4, True)),
        (usage(0, 0), (0, 0, 0, True)),
        # Not the count of an answer: what is missing in it was not nothing.
        ({}, (7, 2, 8, False)),
        (usage(3, None), (3, 2, 8, False)),
        (usage(None, 4), (7, 2, 4, False)),
        (usage(-1, 4), (7, 2, 4, False)),
        (usage(True, 4), (7, 2, 4, False)),
        (usage("3", 4.0), (7, 2, 8, False)),
        (usage(2**31, 4), (7, 2, 4, False)),
        (None, (7, 2, 8, False)),
        ([], (7, 2, 8, False)),
        # Cached tokens are among those of the prompt.
        (usage(3, 4, cached=9), (3, 3, 4, True)),
        (usage(1, 4), (1, 1, 4, True)),
        ({**usage(3, 4), "prompt_tokens_details": None}, (3, 2, 4, True)),
    ],
)
def test_a_count_is_taken_over_as_far_as_it_is_one(said: Any, expected: tuple[int, int, int, bool]) -> None:
    charge = a_charge(prompt_tokens=7, cached_tokens=2, completion_tokens=8)
    charge.saw_usage(said)
    assert counts(charge) == expected


def test_a_later_count_replaces_an_earlier_one() -> None:
    charge = a_charge()
    charge.saw_usage(usage(10, 1, cached=8))
    charge.saw_usage(usage(4, 2))
    assert counts(charge) == (4, 4, 2, True)


anything = st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.text(max_size=3)


@given(st.lists(st.builds(usage, anything, anything, anything) | anything, max_size=4))
def test_whatever_an_engine_says_the_record_fits_the_ledger_and_costs_no_less_than_nothing(said: list[Any]) -> None:
    charge = a_charge(most=(100, 50))
    for each in said:
        charge.saw_usage(each)
    charge.count_the_most(was_streamed=False)
    record = charge.record("done", 11.0)
    assert 0 <= record.cached_tokens <= record.prompt_tokens < 2**31
    assert 0 <= record.completion_tokens < 2**31
    assert record.nano_usd >= 0


# --- what nobody counted ----------------------------------------------------------------------------------------------


def test_a_whole_answer_without_a_count_is_charged_as_the_most_it_could_be() -> None:
    charge = a_charge(most=(100, 50), prompt_tokens=3, cached_tokens=3)
    charge.count_the_most(was_streamed=False)
    assert counts(charge) == (100, 0, 50, False)


@pytest.mark.parametrize(
    ("chunks", "text_bytes", "tokens"),
    [
        (3, 12, 12),  # a token of a byte, at most
        (3, 2, 3),  # chunks without a text: each was a token
        (3, 999, 50),  # no more than was asked for
        (60, 60, 60),  # but when more was seen, more
        (0, 0, 0),
    ],
)
def test_a_stream_without_a_count_is_charged_for_what_was_seen(chunks: int, text_bytes: int, tokens: int) -> None:
    charge = a_charge(most=(100, 50), completion_tokens=chunks, text_bytes=text_bytes)
    charge.count_the_most(was_streamed=True)
    assert counts(charge) == (100, 0, tokens, False)


@pytest.mark.parametrize("was_streamed", [False, True])
def test_what_the_engine_counted_stays(was_streamed: bool) -> None:
    charge = a_charge(most=(100, 50), text_bytes=40)
    charge.saw_usage(usage(10, 5))
    charge.count_the_most(was_streamed=was_streamed)
    assert counts(charge) == (10, 0, 5, True)


def test_an_engine_that_refused_has_counted_nothing() -> None:
    charge = a_charge(most=(100, 50))
    charge.saw_refusal()
    charge.count_the_most(was_streamed=False)
    assert counts(charge) == (0, 0, 0, True)


def test_without_a_bound_nothing_is_assumed() -> None:
    charge = a_charge(completion_tokens=3)
    charge.count_the_most(was_streamed=False)
    assert counts(charge) == (0, 0, 3, False)
    assert not charge.is_over


@pytest.mark.parametrize(
    ("prompt", "completion", "is_over"),
    [(100, 50, False), (0, 50, False), (0, 51, True), (101, 49, False), (101, 50, True), (150, 0, False)],
)
def test_it_is_over_when_it_has_more_than_it_was_let_in_with(prompt: int, completion: int, is_over: bool) -> None:
    """A prompt that is longer than its bound takes from the answer, so that the sum is never over."""
    assert a_charge(most=(100, 50), prompt_tokens=prompt, completion_tokens=completion).is_over is is_over
