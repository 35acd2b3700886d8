from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import Stack, a_stack
from sqs_parts import Sqs

from stoker.testing.aws import CREDENTIALS, Gate, moto_server


@pytest.fixture(autouse=True)
def quick_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops waits for its claim: here not for long."""
    monkeypatch.setattr("stoker.worker.loop.CLAIM_WAIT_S", 0.05)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "moto.log") as url:
        yield url


@pytest.fixture
def make_sqs(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sqs]]:
    """Makes a queue that the gateways of this test reach through a gate of their own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as made, Gate(moto_url) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)

        def make(**options: Any) -> Sqs:
            sqs = Sqs(moto_url, gate, **options)
            made.callback(sqs.client.close)
            return sqs

        yield make
