"""`stoker ...` against a real gateway: what is typed, what comes back on stdout and stderr, and how it ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from gateway_parts import ADMIN_KEY, KEY, SPEC, Stack, a_stack

from stoker.cli.app import run
from stoker.local.state import Credentials, StateDirectory
from stoker.spec import Platform, loads
from stoker.testing import ManualClock

TENANTS = """
tenants:
  acme:
    description: The people of ACME
    budgets: {tokensPerMinute: 200000, usdPerMonth: 500}
    teams: {search: {budgets: {tokensPerDay: 1000}}}
  other: {}
"""


def the_platform() -> Platform:
    spec = SPEC.replace("TOTAL", "20").replace("CONNECT", "2")
    return loads(spec.replace("tenants: {acme: {}, other: {}}", TENANTS))


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Commands find the platform by its state directory, as on a laptop."""

    stack: Stack
    state: StateDirectory
    clock: ManualClock
    _capsys: pytest.CaptureFixture[str]

    async def says(self, *arguments: str) -> Said:
        """In a thread: a command has an event loop of its own, and the gateway runs in the test's."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        said = self._capsys.readouterr()
        return Said(code, said.out, said.err)

    async def does(self, *arguments: str) -> Said:
        said = await self.says(*arguments)
        assert said.code == 0, said.err
        return said

    async def json(self, *arguments: str) -> Any:
        return (await self.does(*arguments, "--json")).json


@asynccontextmanager
async def a_command_line(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CommandLine]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for name in ("STOKER_URL", "STOKER_KEY"):
        monkeypatch.delenv(name, raising=False)
    state = StateDirectory(directory / "state")
    state.create()
    monkeypatch.setenv("STOKER_STATE", str(state.path))
    clock = ManualClock()
    try:
        # The gateway runs in this process: its events would go where the command prints.
        with structlog.testing.capture_logs():
            async with a_stack(directory, platform=the_platform(), clock=clock) as stack:
                state.write_credentials(Credentials(stack.url, KEY, ADMIN_KEY, 1))
                yield CommandLine(stack, state, clock, capsys)
    finally:
        monkeypatch.undo()
        time.tzset()
