"""Records in, sums out, each once; and the keys that they are charged to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import Conflict, InvalidInput, NotFound, Unavailable
from stoker.meter.charge import Caller, Charge
from stoker.meter.keys import KeyStore, new_key
from stoker.meter.ledger import Ledger, UsageRow
from stoker.meter.report import usage_report
from stoker.meter.store import Store
from stoker.meter.tables import keys, secrets
from stoker.meter.usage import UsageRecord
from stoker.spec import Platform
from stoker.testing import ManualClock

RECORD = UsageRecord(
    id="req_1",
    kind="request",
    status="done",
    tenant="acme",
    key_id="key_1",
    model="general",
    prompt_tokens=10,
    cached_tokens=4,
    completion_tokens=5,
    nano_usd=2100,
    started_at=100.0,
    first_token_at=100.5,
    ended_at=101.0,
    team="search",
    session="s",
    run="r",
    replica="general-0",
    route="model",
    attempts=2,
    reason="client went away",
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(f"sqlite:///{tmp_path / 'deep' / 'ledger.sqlite'}")
    yield made
    made.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def test_a_record_comes_back_as_it_was(ledger: Ledger) -> None:
    nothing = dict.fromkeys(("session", "run", "team", "replica", "route", "first_token_at", "reason"))
    bare = replace(RECORD, id="req_2", **nothing)
    ledger.append([RECORD, bare])
    assert ledger.records() == [RECORD, bare]
    assert ledger.records(["req_2"]) == [bare]
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


def test_a_record_that_is_delivered_twice_is_kept_once(ledger: Ledger) -> None:
    ledger.append([RECORD, RECORD])
    ledger.append([replace(RECORD, completion_tokens=999), replace(RECORD, id="req_2")])
    assert [(record.id, record.completion_tokens) for record in ledger.records()] == [("req_1", 5), ("req_2", 5)]
    ledger.append([])


def test_sums_by_tenant_model_and_session(ledger: Ledger) -> None:
    ledger.append(
        [
            RECORD,
            replace(RECORD, id="2"),
            replace(RECORD, id="3", session=None),
            replace(RECORD, id="4", tenant="zeta", ended_at=200.0),
        ]
    )
    assert ledger.rows() == [
        UsageRow("acme", "general", None, 1, 10, 4, 5, 2100),
        UsageRow("acme", "general", "s", 2, 20, 8, 10, 4200),
        UsageRow("zeta", "general", "s", 1, 10, 4, 5, 2100),
    ]
    assert ledger.rows(tenant="zeta") == ledger.rows(since=200.0) == ledger.rows()[2:]
    assert ledger.rows(since=200.1) == []


def test_a_ledger_outlives_its_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    for _ in range(2):
        store = Store(url)
        Ledger(store).append([RECORD])
        store.close()
    store = Store(url)
    assert Ledger(store).records() == [RECORD]
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://host/db", "sqlite+nosuch:///x"])
def test_a_url_that_no_database_has(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a database URL") as caught:
        Store(url)
    assert "sqlite:///ledger.sqlite" in (caught.value.hint or "")


def test_a_database_that_says_no(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("this is no database, but a text that is long enough to look like none")
    with pytest.raises(Unavailable, match="the ledger's database refused: file is not a database"):
        Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


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
    assert usage_report([UsageRow("acme", "general", "s", 1, 10, 4, 5, 2100)]) == {
        "rows": [
            {
                "tenant": "acme",
                "model": "general",
                "session": "s",
                "requests": 1,
                "prompt_tokens": 10,
                "cached_tokens": 4,
                "completion_tokens": 5,
                "usd": 0.0000021,
                "nano_usd": 2100,
            }
        ],
        "total": {
            "requests": 1,
            "prompt_tokens": 10,
            "cached_tokens": 4,
            "completion_tokens": 5,
            "usd": 0.0000021,
            "nano_usd": 2100,
        },
    }


# --- accounts ---------------------------------------------------------------------------------------------------------


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


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_found_by_itself_and_only_its_hash_is_kept(store: Store) -> None:
    known = KeyStore(store, ManualClock(5.0))
    secret = new_key()
    made = known.ensure(secret, tenant="acme", name="the first", role="user")
    assert known.ensure(secret, tenant="acme", name="the first", role="user") == made
    found = known.find(secret)
    assert found is not None
    assert (found.id, found.tenant, found.name, found.role) == (made.id, "acme", "the first", "user")
    assert (made.tenant, made.name, made.role, made.created_at) == ("acme", "the first", "user", 5.0)
    assert known.find(secret + "x") is None
    with store.transaction() as connection:
        stored = [connection.execute(table.select()).all() for table in (keys, secrets)]
    assert [len(rows) for rows in stored] == [1, 1]
    assert secret not in str(stored)


def test_a_revoked_key_stays_revoked(store: Store) -> None:
    known = KeyStore(store)
    made = known.ensure("sk-1", tenant="acme", name="n", role="user")
    known.revoke(made.id)
    assert known.find("sk-1") is None
    with pytest.raises(NotFound, match=f"there is no key '{made.id}' in use"):
        known.revoke(made.id)
    with pytest.raises(Conflict, match="was revoked"):
        known.ensure("sk-1", tenant="acme", name="n", role="user")


def test_keys_are_long_and_differ() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("sk-stoker-") and len(key) == 53 for key in made)
