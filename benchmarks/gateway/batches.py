"""What a batch takes, and what a large file does to the memory of a gateway.

    python benchmarks/gateway/batches.py [--lines 3000] [--megabytes 190] [--json FILE]

Real processes on loopback (Redis, gateway, worker) and an engine in this process, which answers at once. So the figures
are those of the gateway, the queue and the worker, all on the same machine.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import psutil
from openai import AsyncOpenAI
from redis import Redis

from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.spec import Budgets
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer

sys.path.append(str(Path(__file__).parents[1] / "shared"))

from processes import Process, said_ready

T = TypeVar("T")
SPEC = "llm: {models: {general: {limits: {concurrency: 64, maxOutputTokens: 100}}}}\n"
BODY = {"model": "general", "max_tokens": 10, "messages": [{"role": "user", "content": "one two three"}]}
MEGABYTE = 1024 * 1024


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=3000)
    parser.add_argument("--megabytes", type=int, default=190)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
        directory = Path(folder)
        (directory / "platform.yaml").write_text(SPEC)
        ledger = f"sqlite:///{directory / 'ledger.sqlite'}"
        store = Store(ledger)
        key = KeyStore(store).create("acme", budgets=Budgets(tokens_total=10**9)).secret
        store.close()
        common = ["--spec", str(directory / "platform.yaml"), "--redis", redis.url]
        python = [sys.executable, "-m"]
        gateway = Process(
            "gateway",
            [*python, "stoker.gateway", *common, "--port", "0", "--ledger", ledger, "--journals", folder],
            directory,
        )
        processes = [gateway]
        try:
            async with EchoEngine("general") as engine:
                of_worker = ["--model", "general", "--replica", "general-0", "--engine-url", engine.url]
                processes.append(Process("worker", [*python, "stoker.worker", *common, *of_worker], directory))
                url = await asyncio.to_thread(said_ready, gateway)
                await asyncio.to_thread(said_ready, processes[1])
                async with AsyncOpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=600) as client:
                    found = await a_batch(client, gateway, redis.url, options.lines)
                    found |= await a_file(client, gateway, options.megabytes)
        finally:
            for process in processes:
                process.end()
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found))


async def a_batch(client: AsyncOpenAI, gateway: Process, redis: str, lines: int) -> dict[str, Any]:
    line = {"method": "POST", "url": "/v1/chat/completions", "body": BODY}
    content = "".join(json.dumps({"custom_id": str(number), **line}) + "\n" for number in range(lines)).encode()
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    with Redis.from_url(redis) as raw:
        before = raw.info("memory")["used_memory"]
        used = psutil.Process(gateway.pid).cpu_times()
        began = time.monotonic()

        async def ended() -> Any:
            made = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            while (batch := await client.batches.retrieve(made.id)).completed_at is None:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.2)
            return batch

        batch, most_memory = await most(ended(), lambda: raw.info("memory")["used_memory"])
        seconds = time.monotonic() - began
        after = psutil.Process(gateway.pid).cpu_times()
        left = raw.info("memory")["used_memory"] - before
    assert (batch.status, batch.request_counts.completed) == ("completed", lines)
    return {
        "lines": lines,
        "lines_per_s": round(lines / seconds),
        "gateway_cpu_ms_per_line": round((after.user + after.system - used.user - used.system) / lines * 1e3, 2),
        "redis_mb_at_most": round((most_memory - before) / MEGABYTE, 1),
        "redis_bytes_left_per_line": round(left / lines),
    }


async def a_file(client: AsyncOpenAI, gateway: Process, megabytes: int) -> dict[str, Any]:
    content = b"x" * (megabytes * MEGABYTE)
    process = psutil.Process(gateway.pid)

    def memory() -> int:
        return int(process.memory_info().rss)

    async def received(file_id: str) -> int:
        async with client.files.with_streaming_response.content(file_id) as answer:
            return sum([len(piece) async for piece in answer.iter_bytes()])

    before, began = memory(), time.monotonic()
    file, uploading = await most(client.files.create(file=("large", content), purpose="user_data"), memory)
    uploaded = time.monotonic()
    size, downloading = await most(received(file.id), memory)
    downloaded = time.monotonic()
    await client.files.delete(file.id)
    assert size == len(content)
    return {
        "file_mb": megabytes,
        "upload_s": round(uploaded - began, 1),
        "upload_grows_gateway_by_mb": round((uploading - before) / MEGABYTE, 1),
        "download_s": round(downloaded - uploaded, 1),
        "download_grows_gateway_by_mb": round((downloading - before) / MEGABYTE, 1),
        "delete_s": round(time.monotonic() - downloaded, 1),
    }


async def most(work: Coroutine[Any, Any, T], look: Callable[[], int]) -> tuple[T, int]:
    """What it comes to, and the most that was seen meanwhile."""
    seen = [look()]

    async def watch() -> None:
        while True:
            seen.append(look())
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        return await work, max(seen)
    finally:
        watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
