"""Fixtures: a command line beside a gateway that really answers, in one process."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stoker.testing.aws import moto_server

# The gateways, platforms and results of tests are built in one place for each.
for _folder in ("gateway", "flow", "simulate"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))

from cli_parts import CommandLine, a_command_line  # noqa: E402 - it stands on the folders above


@pytest.fixture
async def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CommandLine]:
    async with a_command_line(tmp_path, capsys, monkeypatch) as made:
        yield made


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url
