"""Cost of a real platform: requests of two tenants, an engine that dies, and a bill that each key sums to."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from flow_parts import Running, Start, wait_until
from openai import OpenAI

from stoker.cli.app import run
from stoker.meter.lives import Lives
from stoker.meter.store import Store

pytestmark = [pytest.mark.flow, pytest.mark.redis]

SPEC = """
costs: {machine: {usdPerHour: 3600}}
llm: {models: {general: {replicas: {min: 1, max: 1}}, code: {replicas: {min: 1, max: 1}}}}
tenants: {acme: {}, zeta: {}}
"""
KEYS = (
    *("tenant", "team", "key", "session", "run", "agent", "model"),
    *("nodepool", "capacity", "type", "zone", "item", "part", "day"),
)


def ask(running: Running, key: str, session: str, times: int) -> None:
    with OpenAI(base_url=running.url + "/v1", api_key=key, max_retries=2, timeout=60) as sdk:
        for _ in range(times):
            sdk.chat.completions.create(
                model="general",
                messages=[{"role": "user", "content": "Tell me a story."}],
                max_tokens=30,
                extra_headers={"X-Session-Id": session},
            )


def cost(running: Running, by: str) -> Any:
    with OpenAI(base_url=running.url + "/admin/v1", api_key=running.admin_key, max_retries=0) as admin:
        return admin.get(f"/cost?by={by}", cast_to=dict)


def engines(state: Path) -> list[tuple[str, bool]]:
    """Of each that ever ran here, its replica and whether it has ended."""
    store = Store(f"sqlite:///{state / 'ledger.sqlite'}")
    try:
        return [(stay.replica, stay.ended_at is not None) for stay in Lives(store).stays(since=0.0, until=1e11)]
    finally:
        store.close()


def phases(state: Path) -> set[str]:
    store = Store(f"sqlite:///{state / 'ledger.sqlite'}")
    try:
        return {each.phase for each in Lives(store).phases(since=0.0, until=1e11) if each.ended_at is not None}
    finally:
        store.close()


def test_what_ran_sums_to_the_bill_by_each_key_also_when_an_engine_died(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start(spec=SPEC)
    with OpenAI(base_url=running.url + "/admin/v1", api_key=running.admin_key, max_retries=0) as admin:
        zeta = admin.post("/keys", cast_to=dict, body={"tenant": "zeta"})["key"]
    ask(running, running.key, "a", 6)
    ask(running, zeta, "b", 2)
    os.kill(running.pid_of("engine-general-1"), signal.SIGKILL)
    state = Path(str(running.state))
    wait_until(lambda: engines(state).count(("general-1", True)) == 1, 30, lambda: repr(engines(state)))
    wait_until(lambda: engines(state).count(("general-1", False)) == 1, 30, lambda: repr(engines(state)))
    ask(running, zeta, "b", 1)

    for by in KEYS:
        found = cost(running, by)
        assert sum(row["nano_usd"] for row in found["rows"]) == found["bill_nano_usd"] > 0
        assert abs(sum(row["usd"] for row in found["rows"]) - found["bill_usd"]) < 0.01
    by_tenant = {row["key"]: row for row in cost(running, "tenant")["rows"]}
    assert by_tenant["acme"]["requests"] == 6
    assert by_tenant["zeta"]["requests"] == 3
    assert by_tenant["acme"]["usd"] > 0
    assert by_tenant["zeta"]["usd"] > 0
    assert by_tenant["(start-up)"]["usd"] > 0
    assert {row["session"]: row["tenant"] for row in cost(running, "session")["rows"]}["b"] == "zeta"

    running.stop()
    # Embedded engines say themselves when they had their port and their weights.
    assert {"boot", "weights", "warm-up"} <= phases(state)
    assert set(engines(state)) == {("general-1", True), ("code-1", True)}
    assert run(["cost", "--state", str(state), "--by", "model"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][-1] == "total"
