"""`stoker keys` beside a real `stoker up`, as processes: its state directory, its logs, and its next start."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_parts import ONE_MODEL, STOKER, Running, begin, wait_ready

from stoker.base.errors import Unauthenticated
from stoker.web.client import HttpClient

pytestmark = pytest.mark.flow


def stoker(state: Path, *arguments: str) -> Any:
    command = [str(STOKER), *arguments, "--state", str(state), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Ups:
    """Platforms, one after the other, on one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._running: Running | None = None

    def start(self) -> Running:
        process = begin(self.state, spec=ONE_MODEL)
        try:
            self._running = wait_ready(process, self.state)
        except BaseException:
            process.kill()
            raise
        return self._running

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            assert running.stop() == 0
            running.wait_until_nothing_is_left()
            assert running.process.stdout is not None
            running.process.stdout.close()


@pytest.fixture
def ups(tmp_path: Path) -> Iterator[Ups]:
    made = Ups(tmp_path / "state")
    yield made
    made.stop()


async def lets_in(url: str, key: str) -> bool:
    async with HttpClient(url, key=key) as client:
        try:
            await client.get_json("/v1/models")
        except Unauthenticated:
            return False
    return True


async def test_keys_are_made_and_ended_beside_a_platform_and_it_starts_again(ups: Ups) -> None:
    first = ups.start()
    made = stoker(ups.state, "keys", "create", "--tenant", "race", "--budget-tokens", "100")
    assert (made["tenant"], made["budgets"], made["made_tenant"]) == ("race", {"tokensTotal": 100}, True)
    assert await lets_in(first.url, made["key"])

    # The worst that a person can do to the platform's own keys.
    ids = {key["prefix"]: key["id"] for key in stoker(ups.state, "keys", "list", "--tenant", "default")["keys"]}
    stoker(ups.state, "keys", "revoke", ids[first.key[:14]])
    rotated = stoker(ups.state, "keys", "rotate", ids[first.admin_key[:14]])
    assert json.loads(first.state.joinpath("credentials.json").read_text())["admin_key"] == rotated["key"]
    ups.stop()

    second = ups.start()
    assert second.admin_key == rotated["key"]
    assert second.key != first.key
    assert await lets_in(second.url, second.key)
    assert not await lets_in(second.url, first.key)
    assert not await lets_in(second.url, first.admin_key)
    assert await lets_in(second.url, made["key"])
    ups.stop()

    secrets = [made["key"], first.key, first.admin_key, second.key, rotated["key"]]
    logs = "".join(file.read_text() for file in (ups.state / "logs").iterdir())
    stored = (ups.state / "ledger.sqlite").read_bytes()
    assert "admin change" in logs
    assert made["id"].encode() in stored
    for secret in secrets:
        assert secret not in logs
        assert secret.encode() not in stored
