"""What a platform recorded, replayed: from its exports, its ledger, its state directory."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, Unavailable
from stoker.meter import arrivals, export
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.simulate.trace import Trace
from stoker.simulate.traces import load

BEGAN = 1_764_151_200.25


def a_record(number: int, after_s: float, **changed: object) -> UsageRecord:
    given = {
        "id": f"req_{number}",
        "kind": "request",
        "status": "done",
        "tenant": "acme",
        "key_id": "key_1",
        "model": "general",
        "prompt_tokens": 100 * number,
        "cached_tokens": 10 * number,
        "completion_tokens": number,
        "nano_usd": 5,
        "started_at": BEGAN + after_s,
        "ended_at": BEGAN + 60 - after_s,
    }
    return UsageRecord(**{**given, **changed})  # type: ignore[arg-type]


RECORDS = [
    a_record(1, 3.0, model="code", tenant="globex"),
    a_record(2, 1.5, status="failed", completion_tokens=0),
    a_record(3, 0.0),
    a_record(4, 0.5, kind="step", model="agents", prompt_tokens=0, completion_tokens=0, cached_tokens=0),
]
"""By their end, as a ledger gives them; the last request to end was the first to begin. A step is no request."""


def check(trace: Trace) -> None:
    assert trace.at_s.tolist() == [0.0, 1.5, 3.0]
    assert trace.prompt_tokens.tolist() == [300, 200, 100]
    assert trace.cached_tokens.tolist() == [30, 20, 10]
    assert trace.completion_tokens.tolist() == [3, 1, 1], "one that failed without a token counts, with one"
    assert [trace.models[each] for each in trace.model] == ["general", "general", "code"]
    assert [trace.tenants[each] for each in trace.tenant] == ["acme", "acme", "globex"]
    assert trace.began_at == datetime.fromtimestamp(BEGAN, UTC)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "state"
    store = Store(f"sqlite:///{directory / 'ledger.sqlite'}")
    Ledger(store).append(RECORDS)
    yield directory
    store.close()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_export(tmp_path: Path, kind: export.Format) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"usage.{kind}"
    with file.open("wb") as out:
        writer = export.writer(kind, out)
        writer.write(RECORDS)
        writer.close()
    check(load(str(file)))


def test_records_as_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    file.write_text("".join(f"{each.to_json()}\n" for each in RECORDS))
    check(load(str(file)))


def test_the_ledger_of_a_platform_that_runs(state: Path) -> None:
    """By its directory, its file, its URL; the store is open all the while, and stays as it was."""
    kept = [state / "ledger.sqlite", state / "ledger.sqlite-wal"]
    before = [file.read_bytes() for file in kept]
    for what in (str(state), str(state / "ledger.sqlite"), f"sqlite:///{state / 'ledger.sqlite'}"):
        check(load(what))
    assert [file.read_bytes() for file in kept] == before


def test_a_ledger_in_a_place_where_nothing_can_be_written(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a copy on a read-only volume: no journal beside it is needed, nor made."""
    monkeypatch.setattr(arrivals, "_may_write_beside", lambda path: False)
    copy = tmp_path / "copy" / "what? 100%.sqlite"
    copy.parent.mkdir()
    with closing(sqlite3.connect(state / "ledger.sqlite")) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy.write_bytes((state / "ledger.sqlite").read_bytes())
    check(load(str(copy)))
    assert list(copy.parent.iterdir()) == [copy]


def test_directories_and_databases_that_hold_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is a directory without ledger\.sqlite"):
        load(str(tmp_path))
    file = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE usages (id)")
    with pytest.raises(InvalidInput, match=r"^other.sqlite is no ledger: it has no table usage$") as refused:
        load(str(file))
    assert refused.value.param == "trace"
    Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}").close()
    with pytest.raises(InvalidInput, match=r"^ledger.sqlite has no requests$"):
        load(str(tmp_path))


def test_a_ledger_kept_elsewhere_is_asked_for_by_url(state: Path) -> None:
    (state / "platform.yaml").write_text("ledger: {url: postgresql://stoker@db/stoker}\n")
    with pytest.raises(InvalidInput, match="keeps its ledger in a database of its own") as refused:
        load(str(state))
    assert refused.value.param == "trace"
    assert "postgresql" not in refused.value.message


def test_a_url_is_never_repeated() -> None:
    with pytest.raises(InvalidInput) as refused:
        load("postgresql://stoker:secret-word@db:notaport/x")
    assert "secret-word" not in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.param == "trace"


def test_a_database_that_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(Unavailable) as refused:
        load("postgresql://stoker:secret-word@127.0.0.1:1/stoker")
    assert "secret-word" not in refused.value.message


def test_a_file_that_only_begins_like_a_database(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(b"SQLite format 3\0 and nothing else")
    with pytest.raises(InvalidInput, match=r"^ledger.db cannot be read: file is not a database") as refused:
        load(str(file))
    assert refused.value.param == "trace"


def test_a_parquet_file_that_is_cut(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "usage.parquet"
    file.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InvalidInput, match=r"^usage.parquet is no whole Parquet file"):
        load(str(file))
