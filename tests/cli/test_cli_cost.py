"""`stoker cost` on the ledger of a platform that does not run."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.cli.app import run
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord

USD = 10**9


@pytest.fixture
def stopped(tmp_path: Path) -> StateDirectory:
    """A dollar an hour for ten hours of 1970, half of it a replica that served a tenant for four."""
    state = StateDirectory(tmp_path / "state")
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("")
    store = Store(f"sqlite:///{state.ledger}")
    machine = MachineLife(
        id="m",
        pool="local",
        capacity="local",
        type="m5.xlarge",
        zone="local",
        nano_usd_per_hour=USD,
        began_at=0.0,
        usable_at=0.0,
        seen_at=36000.0,
        ended_at=36000.0,
    )
    stay = StayLife(
        id="s",
        machine="m",
        workload="engine-general-1",
        model="general",
        replica="general-1",
        share=0.5,
        began_at=0.0,
        ready_at=3600.0,
        seen_at=36000.0,
    )
    record = UsageRecord(
        id="req_1",
        kind="request",
        status="done",
        tenant="acme",
        key_id="key_1",
        model="general",
        replica="general-1",
        prompt_tokens=700_000,
        completion_tokens=300_000,
        nano_usd=1,
        started_at=7200.0,
        ended_at=21600.0,
    )
    Lives(store).write(machines_seen=[machine], stays_seen=[stay])
    Ledger(store).append([record])
    store.close()
    return state


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["cost", *arguments]) == 0
    return capsys.readouterr().out


def test_a_table_whose_rows_sum_to_its_total(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--state", str(stopped.path), "--since", "1970-01-01T00:00Z", "--until", "1970-01-02T00:00Z")
    assert [line.rstrip() for line in said(capsys, *asked).splitlines()] == [
        "tenant      dollars   work   idle  start-up  requests     tokens  $ per million",
        "(idle)        $7.50  $0.00  $7.50     $0.00",
        "acme          $2.00  $2.00  $0.00     $0.00         1  1,000,000           2.00",
        "(start-up)    $0.50  $0.00  $0.00     $0.50",
        "total        $10.00",
    ]
    assert said(capsys, *asked, "--by", "nodepool").splitlines()[1:] == [
        "local      $10.00  $2.00  $7.50     $0.50",
        "total      $10.00",
    ]


def test_a_table_sums_to_the_cent(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of these rows by itself would be a cent less."""
    with closing(Store(f"sqlite:///{stopped.ledger}")) as store:
        lives = Lives(store)
        machine = lives.machines(since=0, until=1)[0]
        some = [replace(machine, id=zone, zone=zone, nano_usd_per_hour=333_333_333) for zone in "abc"]
        lives.write(machines_seen=[replace(machine, nano_usd_per_hour=0), *some])
    asked = ("--state", str(stopped.path), "--since", "1970-01-01T00:00Z", "--until", "1970-01-01T01:00Z")
    found = said(capsys, *asked, "--by", "zone").splitlines()[1:]
    assert [line.split()[1] for line in found] == ["$0.34", "$0.33", "$0.33", "$1.00"]


def test_a_laptop_saves_nothing_by_scaling(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--state", str(stopped.path), "--since", "1970-01-01T00:00Z", "--until", "1970-01-20T00:00Z")
    assert json.loads(said(capsys, *asked, "--savings", "--json"))["scaling"]["saved_usd"] == 0


def test_json_has_what_scripts_rely_on(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--state", str(stopped.path), "--since", "1970-01-01T00:00Z", "--until", "1970-01-01T05:00Z", "--json")
    found = json.loads(said(capsys, *asked, "--by", "model"))
    assert {row["key"]: row["usd"] for row in found["rows"]} == {"general": 2.5, "(idle)": 2.5}
    assert (found["total_usd"], found["bill_usd"]) == (5.0, 5.0)


def test_a_time_in_which_nothing_ran(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--state", str(stopped.path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split() == ["total", "$0.00"]
    assert "nothing was running in that time; --since 7d looks further back" in captured.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--by", "colour"], "by is 'colour'; it must be one to 3 different ones of tenant, team, key, session"),
        (["--since", "soon"], "--since is 'soon'; it must be a time span such as 30m, 24h or 7d"),
        (["--since", "1h", "--until", "2h"], "since must be before until"),
        (["--limit", "0"], "0 is not in the range"),
        (["--forecast", "--by", "day"], "--by is day; --forecast is by day, and by one or two of tenant, team"),
        (["--anomalies", "--by", "tenant,model,part"], "--anomalies is by day, and by one or two of tenant"),
        (["--forecast", "--until", "2099-01-01"], "--until is 2099-01-01; --forecast looks at what is over"),
        (["--aws", "--bill", "x.csv"], "--bill and --aws are two bills"),
        (["--savings", "--until", "2099-01-01"], "--until is 2099-01-01; --savings looks at what is over"),
    ],
)
def test_what_cannot_be_asked_is_said(
    stopped: StateDirectory, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert run(["cost", "--state", str(stopped.path), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_where_no_platform_was_ever_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--state", str(tmp_path / "none")]) == 2
    assert "no platform" in capsys.readouterr().err
