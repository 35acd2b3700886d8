"""Records in files that others read: exact, whole, and as large as they like."""

import builtins
import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from meter_builders import a_record
from pyarrow import parquet

from stoker.base.errors import InvalidInput
from stoker.meter.export import Format, writer

BARE = dict.fromkeys(("session", "run", "agent", "team", "replica", "route", "first_token_at", "reason"))


def written(kind: Format, *pages: list[Any]) -> io.BytesIO:
    out = io.BytesIO()
    given = writer(kind, out)
    for page in pages:
        given.write(page)
    given.close()
    out.seek(0)
    return out


def test_csv_in_full() -> None:
    out = written(
        "csv",
        [a_record(1, session='a,"b"', agent="writer", reason="client went away")],
        [a_record(2, **BARE, status="failed", nano_usd=2**62, started_at=1753000000.1, ended_at=1753000000.25)],
    )
    assert out.getvalue().decode() == (
        "id,kind,status,tenant,key_id,model,prompt_tokens,completion_tokens,cached_tokens,nano_usd,started_at,ended_at,"
        "first_token_at,team,session,run,agent,replica,route,attempts,reason,usd\r\n"
        "req_1,request,done,acme,key_1,general,10,5,4,2100,1970-01-01T00:01:40.000000+00:00,"
        '1970-01-01T00:01:41.000000+00:00,1970-01-01T00:01:40.500000+00:00,search,"a,""b""",r,writer,general-0,model,2,'
        "client went away,0.000002100\r\n"
        "req_2,request,failed,acme,key_1,general,10,5,4,4611686018427387904,2025-07-20T08:26:40.100000+00:00,"
        "2025-07-20T08:26:40.250000+00:00,,,,,,,,2,,4611686018.427387904\r\n"
    )


def test_csv_of_nothing_is_its_header() -> None:
    rows = list(csv.reader(io.TextIOWrapper(written("csv", []), encoding="utf-8")))
    assert len(rows) == 1
    assert rows[0][0] == "id"


def test_parquet_has_the_same_with_types() -> None:
    out = written(
        "parquet", [a_record(1, reason="ü")], [], [a_record(2, **BARE, nano_usd=2**62, ended_at=1753000000.25)]
    )
    table = parquet.read_table(out)
    first, second = table.to_pylist()
    assert (first["id"], first["attempts"], first["prompt_tokens"], first["reason"]) == ("req_1", 2, 10, "ü")
    assert first["usd"] == Decimal("0.000002100")
    assert {name: second[name] for name in BARE} == BARE
    assert (second["nano_usd"], second["usd"]) == (2**62, Decimal("4611686018.427387904"))
    assert second["ended_at"] == datetime(2025, 7, 20, 8, 26, 40, 250000, tzinfo=UTC)
    types = {field.name: str(field.type) for field in table.schema}
    assert {types[name] for name in ("started_at", "first_token_at", "ended_at")} == {"timestamp[us, tz=UTC]"}
    assert (types["nano_usd"], types["usd"], types["tenant"]) == ("int64", "decimal128(19, 9)", "string")
    assert {field.name for field in table.schema if field.nullable} == set(BARE)
    assert parquet.ParquetFile(out).num_row_groups == 2


def test_parquet_of_nothing_is_a_table_without_rows() -> None:
    assert parquet.read_table(written("parquet")).num_rows == 0


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return really(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match="Parquet is written with pyarrow, which is not installed here") as caught:
        writer("parquet", io.BytesIO())
    assert caught.value.hint == "`pip install 'stoker[parquet]'`, or write CSV"
    assert written("csv", [a_record(1)]).getvalue().count(b"\r\n") == 2
