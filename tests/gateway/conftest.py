from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_parts import Stack, a_stack


@pytest.fixture(autouse=True)
def quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops waits for its claim: here not for long."""
    monkeypatch.setattr("stoker.worker.loop.CLAIM_WAIT_S", 0.05)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path) as made:
        yield made
