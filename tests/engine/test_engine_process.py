"""`python -m stoker.engine` as its supervisor sees it."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stoker.nn.bundle import default_folder
from stoker.registry.weights import digest_of
from stoker.web import server
from stoker.web.client import HttpClient

ENDLESS = {"messages": [{"role": "user", "content": "Tell me a story."}], "logit_bias": {"1": -100}, "stream": True}


@asynccontextmanager
async def engine(*arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stoker.engine",
        "--model",
        "small",
        *arguments,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready_url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = json.loads(await process.stdout.readline())
    assert line["ready"] is True
    return str(line["url"])


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(20):
        return await process.wait()


async def test_sigterm_lets_a_running_answer_end_and_leaves_with_0():
    async with engine() as process:
        async with HttpClient(await ready_url(process)) as client:
            body = {**ENDLESS, "max_tokens": 200}
            async with client.stream("POST", "/v1/chat/completions", body=body) as stream:
                events = [await anext(stream.events)]
                process.send_signal(signal.SIGTERM)
                events += [event async for event in stream.events]
        assert events[-1] == b"[DONE]"
        assert await ended(process) == 0


async def test_an_engine_on_a_leash_ends_when_stdin_does():
    async with engine("--leash") as process:
        await ready_url(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await ended(process) == 0


async def test_with_a_key_it_answers_only_those_who_send_it():
    async with engine(STOKER_ENGINE_KEY="of-this-run") as process:
        url = await ready_url(process)
        async with (
            HttpClient(url) as stranger,
            HttpClient(url, key="of-this-run") as ours,
            HttpClient(url, key="x") as wrong,
        ):
            body = {**ENDLESS, "max_tokens": 2, "stream": False}
            for client in (stranger, wrong):
                refused = await client.request("POST", "/v1/chat/completions", body=body)
                assert (refused.status, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert (await ours.request("POST", "/v1/chat/completions", body=body)).status == 200
            assert (await stranger.request("GET", "/health")).status == 200


async def test_a_port_that_is_taken_is_said_in_one_event():
    with server.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        async with engine("--port", str(port)) as process:
            assert await ended(process) == 2
            assert process.stderr is not None
            event = json.loads(await process.stderr.read())
    assert (event["event"], event["code"]) == ("engine cannot start", "port_taken")
    assert f"127.0.0.1:{port}" in event["reason"]


async def test_weights_that_are_none_are_said_in_one_event(tmp_path):
    async with engine("--weights", str(tmp_path)) as process:
        assert await ended(process) == 2
        assert process.stderr is not None
        assert "has no config.json" in json.loads(await process.stderr.read())["reason"]


@pytest.mark.parametrize("wrong", [["--context", "0"], ["--max-running", "0"], ["--task", "music"]])
async def test_wrong_arguments_end_with_2(wrong: list[str]):
    async with engine(*wrong) as process:
        assert await ended(process) == 2


async def test_the_server_imports_neither_torch_nor_pillow():
    """Cold start: what serves text starts without what it does not need."""
    code = "import sys, stoker.engine.app, stoker.nn.bundle; print([m for m in ('torch', 'PIL') if m in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"[]\n"


async def test_it_says_which_weights_it_serves_and_refuses_others(tmp_path: Path):
    folder = shutil.copytree(default_folder(), tmp_path / "weights")
    digest, _ = digest_of(folder)
    async with engine("--weights", str(folder), "--digest", digest) as process:
        async with HttpClient(await ready_url(process)) as client:
            (model,) = (await client.get_json("/v1/models"))["data"]
        assert model["digest"] == digest
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    config = folder / "config.json"
    config.write_bytes(config.read_bytes() + b"\n")
    async with engine("--weights", str(folder), "--digest", digest) as process:
        assert await ended(process) == 1
        assert process.stderr is not None
        said = json.loads((await process.stderr.read()).splitlines()[-1])
    assert said["code"] == "weights_changed"
    assert said["reason"].startswith(f"the weights in {folder} are not those that were asked for")
