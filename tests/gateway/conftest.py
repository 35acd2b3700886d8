from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from gateway_parts import Stack, a_stack

from stoker.testing.aws import moto_server


@pytest.fixture(autouse=True)
def quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops waits for its claim: here not for long."""
    monkeypatch.setattr("stoker.worker.loop.CLAIM_WAIT_S", 0.05)


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """AWS, one for all tests of the gateway: what they make there has names of their own."""
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path) as made:
        yield made
