"""Records on their way from Redis to the ledger, while the gateway that moves them is killed: a real Redis, a real
database, real processes. The order is read, store, commit, acknowledge; `dying_gateway` ends itself between any two."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dying_gateway import BATCH
from meter_builders import a_record
from redis import Redis

from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger, Spent
from stoker.meter.store import Store
from stoker.queue import RedisQueue
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient

pytestmark = [pytest.mark.flow, pytest.mark.redis]

ADMIN_KEY = "sk-stoker-admin"
DYING = str(Path(__file__).with_name("dying_gateway.py"))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@contextmanager
def a_gateway(directory: Path, redis: RedisServer, ledger_url: str, *program: str) -> Iterator["subprocess.Popen[str]"]:
    spec = directory / "platform.yaml"
    spec.write_text("")
    options = ["--spec", str(spec), "--port", "0", "--redis", redis.url, "--ledger", ledger_url]
    with (directory / "gateway.log").open("a") as log:
        process = subprocess.Popen([sys.executable, *program, *options], stdout=subprocess.PIPE, stderr=log, text=True)
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()


async def send(redis: RedisServer, numbers: range) -> None:
    queue = RedisQueue(redis.url)
    for number in numbers:
        await queue.append_usage(a_record(number, nano_usd=2**40 + number))
    await queue.aclose()


async def test_killed_between_any_two_steps_it_loses_nothing_and_stores_once(
    redis: RedisServer, url: str, store: Store, tmp_path: Path
) -> None:
    """One gateway after the other dies, each at the next moment; another batch comes in before each."""
    KeyStore(store).ensure(ADMIN_KEY, tenant="ops", name="n", role="admin")
    ledger, sent = Ledger(store), 0
    # In Redis, and in the ledger, when it has died.
    left = {
        "read": (1, 0),
        "stored": (2, 0),
        "committed": (3, 1),  # one batch is in both
        "acknowledged": (3, 1),  # the same batch came again, and was stored once
    }
    with Redis.from_url(redis.url, protocol=2) as raw:
        for moment, (batches_in_redis, batches_in_ledger) in left.items():
            await send(redis, range(sent, sent + BATCH))
            sent += BATCH
            with a_gateway(tmp_path, redis, url, DYING, moment) as dying:
                assert await asyncio.to_thread(dying.wait, 60) == -signal.SIGKILL
            assert raw.xlen("stoker:usage") == batches_in_redis * BATCH, moment
            assert len(ledger.records()) == batches_in_ledger * BATCH, moment

        with a_gateway(tmp_path, redis, url, "-m", "stoker.gateway") as gateway:
            assert gateway.stdout is not None
            ready = json.loads(await asyncio.to_thread(gateway.stdout.readline))
            async with HttpClient(ready["url"], key=ADMIN_KEY) as client:
                report = await client.get_json("/admin/v1/usage")
            gateway.terminate()
            assert await asyncio.to_thread(gateway.wait, 60) == 0
        assert raw.xlen("stoker:usage") == 0

    everything = sorted((a_record(number, nano_usd=2**40 + number) for number in range(sent)), key=lambda one: one.id)
    assert sorted(ledger.records(), key=lambda one: one.id) == everything
    money = sum(record.nano_usd for record in everything)
    assert ledger.spent("key", "acme", "key_1") == Spent(sent, 15 * sent, money)
    assert (report["total"]["requests"], report["total"]["nano_usd"]) == (sent, money)
