from collections.abc import AsyncIterator

import pytest
from worker_parts import Bench

from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine


@pytest.fixture(autouse=True)
def quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops waits for its claim: here not for long."""
    monkeypatch.setattr("stoker.worker.loop.CLAIM_WAIT_S", 0.05)


@pytest.fixture
async def engine() -> AsyncIterator[EchoEngine]:
    async with EchoEngine() as made:
        yield made


@pytest.fixture
async def bench(engine: EchoEngine) -> AsyncIterator[Bench]:
    made = Bench(engine)
    yield made
    await made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
