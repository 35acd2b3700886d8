"""The load of a platform, read from a real Redis and from metrics over HTTP."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs

from stoker.base import logs
from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.local.load import PlatformLoad
from stoker.policy.scaled import triggers
from stoker.queue import NewTask, RedisQueue
from stoker.spec import AGENT_STEPS, loads
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis

GENERAL = ModelName("general")
PLATFORM = loads("{keda: {pendingEntriesCount: 5}, llm: {models: {general: {}, code: {}}}}")
TRIGGERS = {model: triggers(PLATFORM, model) for model in PLATFORM.llm.models}
NOWHERE = "http://127.0.0.1:1"


@contextmanager
def metrics(text: str, status: int = 200) -> Iterator[str]:
    """The URL of a gateway that says this of itself."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


IN_FLIGHT = """\
# TYPE stoker_requests_in_flight gauge
stoker_requests_in_flight{model="general"} 4.0
stoker_requests_in_flight{model="code"} 0.0
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as found:
        yield found


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[RedisQueue]:
    made = RedisQueue(server.url)
    yield made
    while claims := await made.claim(GENERAL, "end", count=100):
        for claim in claims:
            await made.complete(claim, {})
    await made.aclose()


def a_load(redis_url: str, url: str) -> PlatformLoad:
    return PlatformLoad(redis_url, url, TRIGGERS, logs.get("test").bind())


def a_task(model: ModelName = GENERAL) -> NewTask:
    return NewTask(
        model=model, tenant=TenantName("acme"), key_id=KeyId("key_1"), endpoint="/v1/chat/completions", body={}
    )


async def test_each_trigger_reads_what_keda_would(server: RedisServer, queue: RedisQueue) -> None:
    """Three tasks of which one runs, and four requests that the gateway has on replicas; in thousandths."""
    for _ in range(3):
        await queue.submit(a_task())
    [claim] = await queue.claim(GENERAL, "w1")
    with metrics(IN_FLIGHT) as url:
        load = a_load(server.url, url)
        assert await load.read(["general", "code"]) == {
            "general": {"waiting": 2000, "pending": 1000, "running": 5000},
            "code": {"waiting": 0, "pending": 0, "running": 0},
        }
        assert list(await load.read(["code"])) == ["code"]
        await load.aclose()
    await queue.complete(claim, {})


@pytest.mark.parametrize(("text", "status"), [("no exposition {", 200), (IN_FLIGHT, 503)])
async def test_a_gateway_that_says_nothing_of_use_leaves_what_redis_says(
    server: RedisServer, queue: RedisQueue, text: str, status: int
) -> None:
    await queue.submit(a_task())
    with metrics(text, status) as url:
        load = a_load(server.url, url)
        assert (await load.read(["general"]))["general"] == {"waiting": 1000, "pending": 0, "running": None}
        await load.aclose()


async def test_a_gateway_that_is_away_leaves_what_redis_says(server: RedisServer, queue: RedisQueue) -> None:
    load = a_load(server.url, NOWHERE)
    assert (await load.read(["general"]))["general"] == {"waiting": 0, "pending": 0, "running": None}
    await load.aclose()


async def test_without_redis_nothing_is_known() -> None:
    with metrics(IN_FLIGHT) as url:
        load = a_load("redis://127.0.0.1:1", url)
        assert (await load.read(["general"]))["general"] == {"waiting": None, "pending": None, "running": None}
        await load.aclose()


async def test_a_retry_that_is_due_waits_again_without_a_worker_and_that_is_heard(
    server: RedisServer, queue: RedisQueue
) -> None:
    await queue.submit(a_task())
    [claim] = await queue.claim(GENERAL, "w1")
    await queue.fail(claim, "no", retry_in_s=0.001)
    load = a_load(server.url, NOWHERE)
    while (await queue.depth(GENERAL)).lag == 0:
        await load.wake(["general"])
    assert await load.waits(["code", "general"], within_s=20.0) == ["general"]
    assert await load.waits(["code"], within_s=0.001) == []
    await load.aclose()


async def test_steps_of_agents_are_counted_in_redis_alone(queue: RedisQueue, server: RedisServer) -> None:
    """No gateway is asked: it sends nothing to their workers."""
    steps = ModelName(AGENT_STEPS)
    load = PlatformLoad(server.url, NOWHERE, {AGENT_STEPS: triggers(PLATFORM, AGENT_STEPS)}, logs.get("test").bind())
    try:
        for _ in range(3):
            await queue.submit(a_task(steps))
        [claim] = await queue.claim(steps, "one", count=1)
        with capture_logs() as lines:
            assert await load.read([AGENT_STEPS]) == {AGENT_STEPS: {"waiting": 2000, "pending": 1000}}
        assert lines == []
        assert await load.waits([AGENT_STEPS], within_s=5.0) == [AGENT_STEPS]
        for each in [claim, *await queue.claim(steps, "one", count=2)]:
            await queue.complete(each, {})
    finally:
        await load.aclose()
