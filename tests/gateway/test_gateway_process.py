"""`python -m stoker.gateway` and `python -m stoker.worker` as the supervisor starts them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, SPEC

from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient

pytestmark = [pytest.mark.flow, pytest.mark.redis]


@contextmanager
def a_process(log: Path, *argv: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of ours whose events go to `log`; killed at the end if it is still there."""
    with log.open("w") as errors:
        command = [sys.executable, "-m", *argv, "--leash"]
        made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        with made:
            try:
                yield made
            finally:
                if made.poll() is None:
                    made.kill()


async def ready(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    said = json.loads(await asyncio.to_thread(process.stdout.readline))
    assert said.pop("ready") is True
    return dict(said)


async def test_a_gateway_that_starts_while_redis_is_away_lives_and_leaves_when_told(tmp_path: Path) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text(SPEC.replace("TOTAL", "20").replace("CONNECT", "2"))
    log = tmp_path / "gateway.log"
    options = ("--spec", str(spec), "--port", "0", "--ledger", f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    redis = f"unix://{tmp_path}/nobody.sock"
    with a_process(log, "stoker.gateway", *options, "--redis", redis, "--journals", str(tmp_path / "j")) as gateway:
        url = (await ready(gateway))["url"]
        async with asyncio.timeout(30):
            while "usage waits for the ledger" not in log.read_text():  # noqa: ASYNC110 - said by another process
                await asyncio.sleep(0.05)
        async with HttpClient(url) as client:
            assert (await client.request("GET", "/health")).status == 200
        gateway.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.wait, 20) == 0


async def test_they_start_serve_and_leave_when_told(tmp_path: Path) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text(SPEC.replace("TOTAL", "20").replace("CONNECT", "2"))
    ledger_url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    store = Store(ledger_url)
    KeyStore(store).ensure(KEY, tenant="acme", name="n", role="user")

    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        common = ("--spec", str(spec), "--redis", redis.url)
        gateway = stack.enter_context(
            a_process(tmp_path / "gateway.log", "stoker.gateway", *common, "--port", "0", "--ledger", ledger_url)
        )
        url = (await ready(gateway))["url"]
        async with EchoEngine() as engine, HttpClient(url, key=KEY) as client:
            options = ("--model", "general", "--replica", "general-0", "--engine-url", engine.url)
            options += ("--metadata-file", str(tmp_path / "none"))  # loopback only
            worker = stack.enter_context(a_process(tmp_path / "worker.log", "stoker.worker", *common, *options))
            assert await ready(worker) == {"replica": "general-0"}

            body = {"model": "general", "messages": HELLO}
            task = await client.post_json("/v1/tasks", body)
            done = await client.request("GET", f"/v1/tasks/{task['id']}", params={"wait": "20"})
            assert done.json()["state"] == "done"
            answer = await client.request("POST", "/v1/chat/completions", body=body)
            assert answer.status == 200

            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 20) == 0
            assert gateway.stdin is not None
            gateway.stdin.close()  # as if the supervisor were gone
            assert await asyncio.to_thread(gateway.wait, 20) == 0

    assert {record.id for record in Ledger(store).records()} == {task["id"], answer.headers["x-request-id"]}
    store.close()
    for name in ("gateway", "worker"):
        events = [json.loads(line) for line in (tmp_path / f"{name}.log").read_text().splitlines()]
        assert not [event for event in events if event["level"] == "error"]


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["stoker.gateway", "--port", "0", "--ledger", "nonsense"], 2, "ledger.url is not a database URL"),
        (["stoker.gateway", "--port", "0", "--host", "192.0.2.1", "--ledger", "x"], 2, "cannot listen on host"),
        (["stoker.worker", "--model", "gpt-9", "--replica", "r", "--engine-url", "http://x"], 2, "--model is 'gpt-9'"),
    ],
)
def test_what_they_cannot_do_is_one_event_and_an_exit_code(
    tmp_path: Path, argv: list[str], code: int, message: str
) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text("")
    command = [sys.executable, "-m", *argv, "--spec", str(spec), "--redis", "redis://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=False)
    [event] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, event["level"]) == (code, "error")
    assert event["error"].startswith(message)
    assert done.stdout == ""
