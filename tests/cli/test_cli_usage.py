"""`stoker usage export` and `prune` on the ledger of a platform that does not run."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

from stoker.cli.app import run
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord


def a_record(number: int, tenant: str = "a") -> UsageRecord:
    return UsageRecord(
        id=f"req_{number}",
        kind="request",
        status="done",
        tenant=tenant,
        key_id="key_1",
        model="general",
        prompt_tokens=10,
        completion_tokens=5,
        nano_usd=2**60,
        started_at=number * 100.0 - 1,
        ended_at=number * 100.0,
    )


@pytest.fixture
def stopped(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path / "state")
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("")
    store = Store(f"sqlite:///{state.ledger}")
    Ledger(store).append([a_record(number, "b" if number == 4 else "a") for number in range(1, 6)])
    store.close()
    return state


def test_what_agents_used_is_shown_by_agent_and_run(
    stopped: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["usage", "--state", str(stopped.path)]
    assert run(asked) == 0
    assert "steps" not in capsys.readouterr().out
    store = Store(f"sqlite:///{stopped.ledger}")
    child = replace(a_record(6), run="run_x.1", agent="writer", nano_usd=1000)
    Ledger(store).append([child, replace(child, id="run_x.s1", kind="step", run="run_x", nano_usd=0)])
    store.close()
    for which in (["--agent", "writer"], ["--run", "run_x"]):
        assert run([*asked, *which, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert [(row["agent"], row["requests"], row["steps"], row["nano_usd"]) for row in said["rows"]] == [
            ("writer", 1, 1, 1000)
        ]
        assert (said["total"]["requests"], said["total"]["steps"]) == (1, 1)
    assert run([*asked, "--run", "run_x.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []
    assert run(asked) == 0
    heads = capsys.readouterr().out.splitlines()[0].split()
    assert heads[3:6] == ["agent", "requests", "steps"]


def test_every_record_is_exported(stopped: StateDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "usage.csv"
    assert run(["usage", "export", "--state", str(stopped.path), "-o", str(file)]) == 0
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"req_{number}" for number in range(1, 6)]
    assert {row["usd"] for row in rows} == {"1152921504.606846976"}
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"5 records written to {file}\n")


def test_an_export_is_narrowed_and_may_go_to_stdout(
    stopped: StateDirectory, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    times = ["--since", "1970-01-01T00:03:20+00:00", "--until", "1970-01-01T00:08:20+00:00"]
    assert run(["usage", "export", "--state", str(stopped.path), *times, "--tenant", "a", "-o", "-"]) == 0
    rows = capfdbinary.readouterr().out.decode().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["id", "req_2", "req_3"]


def test_parquet(stopped: StateDirectory, tmp_path: Path) -> None:
    file = tmp_path / "usage.parquet"
    assert run(["usage", "export", "--state", str(stopped.path), "--format", "parquet", "-o", str(file)]) == 0
    assert parquet.read_table(file).column("id").to_pylist() == [f"req_{number}" for number in range(1, 6)]


def test_each_page_is_written_before_the_next_one_is_read(
    stopped: StateDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sizes = tmp_path / "usage.csv", []
    really = Ledger.page

    def page(*given: object, **asked: object) -> list[UsageRecord]:
        assert not file.exists()  # it has its name when it is whole
        sizes.append((tmp_path / "usage.csv.part").read_text().count("\n"))
        return really(*given, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "page", page)
    monkeypatch.setattr("stoker.cli.usage._PAGE", 2)
    assert run(["usage", "export", "--state", str(stopped.path), "-o", str(file)]) == 0
    assert sizes == [0, 3, 5]  # lines; the first two pages with the header
    assert [path.name for path in tmp_path.glob("usage*")] == ["usage.csv"]


def test_an_export_that_fails_leaves_what_was_there(
    stopped: StateDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "usage.csv"
    file.write_text("yesterday's")

    def broken(*_: object, **__: object) -> list[UsageRecord]:
        raise RuntimeError

    monkeypatch.setattr(Ledger, "page", broken)
    assert run(["usage", "export", "--state", str(stopped.path), "-o", str(file)]) == 1
    assert [(path.name, path.read_text()) for path in tmp_path.glob("usage*")] == [("usage.csv", "yesterday's")]


def test_old_records_are_pruned_and_totals_stay(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--state", str(stopped.path)]
    assert run(["usage", *where, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert run(["usage", "prune", *where, "--before", "1970-01-02"]) == 0
    assert capsys.readouterr().err == "5 records of days before 1970-01-02 became sums of their days\n"
    assert run(["usage", "prune", *where, "--before", "1970-01-02", "--json"]) == 0
    assert capsys.readouterr().out == '{"before": "1970-01-02", "pruned": 0}\n'
    assert run(["usage", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["export"], "Missing option '-o' / '--output'."),
        (["export", "-o", "x", "--format", "xml"], "'xml' is not one of 'csv', 'parquet'."),
        (["export", "-o", "x", "--until", "soon"], "--until is 'soon'; it must be a time span such as 30m"),
        (["export", "-o", "nosuch/x"], "nosuch/x cannot be written: No such file or directory"),
        (["prune", "--before", "soon"], "--before is 'soon'; it must be a date such as 2026-01-31"),
        (["prune", "--before", "9999-01-01"], "records of the last 31 days are kept"),
        (["--tenant", "a", "export", "-o", "x"], "options belong behind the word export"),
    ],
)
def test_who_asks_wrongly_gets_exit_code_2(
    stopped: StateDirectory,
    arguments: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STOKER_STATE", str(stopped.path))
    assert run(["usage", *arguments]) == 2
    assert error in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))
