"""`stoker cost` of Cost Explorer (moto's server, seeded through its own API), and of files, by the ledger of a platform
that has ended."""

import json
from pathlib import Path
from typing import Any

import pytest
from explorer import DAY, FIRST, page, seed

from stoker.cli.app import run
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.testing.aws import CREDENTIALS


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two machines for two days, one of them spot; on each a replica, and on the first of these two tenants."""
    state = StateDirectory(tmp_path / "state")
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("global:\n  cluster:\n    name: prod\n")
    store = Store(f"sqlite:///{state.ledger}")
    times = {"began_at": FIRST, "seen_at": FIRST + 2 * DAY, "ended_at": FIRST + 2 * DAY}
    common: dict[str, Any] = {"pool": "gpu", "zone": "us-east-1a", "nano_usd_per_hour": 10**9, **times}
    Lives(store).write(
        machines_seen=[
            MachineLife(id="i-1", capacity="spot", type="g5.xlarge", usable_at=FIRST, **common),
            MachineLife(id="i-2", capacity="on-demand", type="m5.large", usable_at=FIRST, **common),
        ],
        stays_seen=[
            StayLife(
                id="s", machine="i-1", workload="w", model="general", replica="g-0", share=1.0, ready_at=FIRST, **times
            )
        ],
    )
    Ledger(store).append(
        [
            UsageRecord(
                id=name,
                kind="request",
                status="done",
                tenant=tenant,
                key_id="k",
                model="general",
                prompt_tokens=10,
                cached_tokens=0,
                completion_tokens=5,
                nano_usd=1,
                session=name,
                started_at=FIRST + 100,
                first_token_at=None,
                ended_at=FIRST + 43_300,
                replica="g-0",
            )
            for name, tenant in (("r1", "acme"), ("r2", "globex"))
        ]
    )
    store.close()
    return state.path


FIRST_PAGE = {("SpotUsage:g5.xlarge", "Spot Instances"): "10.01", ("BoxUsage:m5.large", "On Demand Instances"): "2.3"}
LAST_PAGE = {("SpotUsage:g5.xlarge", "Spot Instances"): "9.99", ("NatGateway-Hours", "On Demand Instances"): "1.08"}


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["cost", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("by", ["tenant", "model", "session", "nodepool", "capacity"])
def test_the_answer_of_cost_explorer_is_split_and_sums_to_the_cent(
    by: str,
    state: Path,
    moto_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    seed(moto_url, page(1, FIRST_PAGE, "more"), page(2, LAST_PAGE))

    window = ("--since", "2026-11-01T00:00Z", "--until", "2026-11-03T00:00Z")
    assert run(["cost", "--aws", "--by", by, "--state", str(state), *window, "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)

    assert "only lines with the cluster's tags are asked for" in err
    assert report["bill_usd"] == report["total_usd"] == 23.38
    assert round(sum(row["usd"] for row in report["rows"]), 6) == 23.38
    assert report["source"] == "cost-explorer"
    of = {row["key"]: row["usd"] for row in report["rows"]}
    if by == "capacity":
        assert of == {"spot": 20.0, "on-demand": 2.3, "(NAT gateway)": 1.08}
    if by == "tenant":
        # Both ran together for half of the first day: half of its $10.01, in halves.
        assert of["acme"] == of["globex"] == 2.5025


def test_savings_forecast_and_anomalies_of_a_platform_that_has_ended(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--state", str(state), "--until", "2026-11-03T12:00Z")
    saved = said(capsys, "--savings", *at, "--since", "2026-11-01T00:00Z")
    assert saved["spot"]["hours"] == 48.0
    # $2 an hour for two days and a half, of which half a day was not paid: and no month before the first machine.
    assert saved["scaling"]["saved_usd"] == 24.0
    assert said(capsys, "--savings", *at, "--since", "2026-09-01T00:00Z")["scaling"]["saved_usd"] == 24.0
    forecast = said(capsys, "--forecast", "--by", "nodepool", *at)
    # Two machines at $1 for two days, and none on the third: $96, and each day to come costs the mean of those two.
    assert forecast["total"]["so_far_usd"] == 96.0
    assert forecast["total"]["forecast_usd"] == 96.0 + 48 * 27.5
    assert [row["key"] for row in forecast["rows"]] == ["gpu"]
    assert said(capsys, "--anomalies", *at)["rows"] == []
    for what in ("--savings", "--forecast", "--anomalies"):
        assert run(["cost", what, *at]) == 0
        assert capsys.readouterr().out


def test_without_credentials_cost_explorer_is_not_asked(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(state / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(state / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it remembers those of another test
    assert run(["cost", "--state", str(state), "--aws"]) == 2
    assert "Cost Explorer cannot be asked: there are no credentials of AWS" in capsys.readouterr().err


def test_a_file_without_a_platform_and_what_it_cannot_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STOKER_URL", raising=False)
    monkeypatch.delenv("STOKER_STATE", raising=False)
    file = tmp_path / "bill"
    file.write_text(json.dumps([page(1, FIRST_PAGE), page(2, LAST_PAGE)]))
    report = said(capsys, "--bill", str(file), "--by", "type")
    assert {row["key"]: row["usd"] for row in report["rows"]} == {
        "g5.xlarge": 20.0,
        "m5.large": 2.3,
        "(NAT gateway)": 1.08,
    }
    assert run(["cost", "--bill", str(file)]) == 2
    assert "by tenant: a bill alone does not say it" in capsys.readouterr().err
    saved = said(capsys, "--savings", "--bill", str(file))
    assert saved["spot"]["hours"] == 48.0  # g5.xlarge, $1.006 an hour on demand
    assert saved["spot"]["saved_usd"] == round(48 * 1.006 - 20, 6)
