"""What a request becomes: its charge while it runs, its record, and the report of many."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_builders import a_record

from stoker.meter.charge import Caller, Charge
from stoker.meter.keys import new_key
from stoker.meter.ledger import UsageRow
from stoker.meter.report import usage_report
from stoker.meter.usage import UsageRecord
from stoker.spec import Platform

RECORD = a_record(reason="client went away")


def test_a_record_is_the_same_after_its_way_as_json() -> None:
    assert UsageRecord.from_json(RECORD.to_json()) == RECORD


def test_records_of_an_earlier_and_of_a_later_version_are_read() -> None:
    written = json.loads(RECORD.to_json())
    del written["reason"]
    assert UsageRecord.from_json(json.dumps(written)) == replace(RECORD, reason=None)
    assert UsageRecord.from_json(json.dumps({**written, "reason": "x", "later": [1]})) == replace(RECORD, reason="x")
    for nonsense in ("[]", "7", "{}", '{"id": "req_1"}'):
        with pytest.raises(TypeError):
            UsageRecord.from_json(nonsense)
    with pytest.raises(ValueError, match="Expecting value"):
        UsageRecord.from_json("nonsense")


row = st.builds(
    UsageRow,
    tenant=st.sampled_from(["a", "b"]),
    model=st.just("general"),
    session=st.none(),
    requests=st.integers(1, 10**6),
    prompt_tokens=st.integers(0, 10**12),
    cached_tokens=st.integers(0, 10**12),
    completion_tokens=st.integers(0, 10**12),
    nano_usd=st.integers(0, 10**18),
)


@given(st.lists(row, max_size=10))
@settings(max_examples=50)
def test_a_reports_rows_sum_to_its_total(rows: list[UsageRow]) -> None:
    report = usage_report(iter(rows))
    for name in ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd"):
        assert sum(each[name] for each in report["rows"]) == report["total"][name]
    assert report["total"]["usd"] == report["total"]["nano_usd"] / 10**9


def test_a_report_in_full() -> None:
    assert usage_report([UsageRow("acme", "general", "s", 1, 10, 4, 5, 2100, "writer", 3)]) == {
        "rows": [
            {
                "tenant": "acme",
                "model": "general",
                "session": "s",
                "agent": "writer",
                "requests": 1,
                "steps": 3,
                "prompt_tokens": 10,
                "cached_tokens": 4,
                "completion_tokens": 5,
                "usd": 0.0000021,
                "nano_usd": 2100,
            }
        ],
        "total": {
            "requests": 1,
            "steps": 3,
            "prompt_tokens": 10,
            "cached_tokens": 4,
            "completion_tokens": 5,
            "usd": 0.0000021,
            "nano_usd": 2100,
        },
    }


# --- charges ----------------------------------------------------------------------------------------------------------


def account() -> Charge:
    prices = Platform().llm.models["general"].prices
    return Charge("req_1", "request", Caller("acme", "key_1", "s", None), "general", "auto:code", prices, 1.0)


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        7,
        {"prompt_tokens": "9", "completion_tokens": -1},
        {"prompt_tokens": True, "completion_tokens": 2**31},
        {"prompt_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": -3}},
    ],
)
def test_an_engines_nonsense_changes_nothing(nonsense: Any) -> None:
    given_account = account()
    given_account.saw_usage({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}})
    given_account.saw_usage(nonsense)
    record = given_account.record("done", 2.0)
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (9, 3, 2)


def test_a_record_says_why_it_is_not_done() -> None:
    assert account().record("done", 2.0).reason is None
    cut = account().record("cut", 2.0, "budget used up in the middle")
    assert (cut.status, cut.reason) == ("cut", "budget used up in the middle")
    assert account().record("failed", 2.0, "x" * 201).reason == "x" * 200


def test_more_cached_than_there_were_is_all_of_them() -> None:
    given_account = account()
    given_account.saw_usage({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 30}})
    assert given_account.record("done", 2.0).cached_tokens == 9


def test_keys_are_long_and_differ() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("sk-stoker-") and len(key) == 53 for key in made)
