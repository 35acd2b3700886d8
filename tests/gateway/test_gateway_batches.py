"""`/v1/batches` by OpenAI's SDK, over a gateway with a worker and an engine that echoes."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from gateway_parts import HELLO, Stack
from openai import AsyncOpenAI

Json = dict[str, Any]
CHAT = "/v1/chat/completions"


def a_line(number: int, text: str = "", **changed: Any) -> Json:
    body = {"model": "general", "messages": [{"role": "user", "content": text or f"this is line {number}"}]}
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": body, **changed}


def jsonl(lines: Sequence[object]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


async def uploaded(sdk: AsyncOpenAI, lines: Sequence[object]) -> str:
    return (await sdk.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch")).id


async def ended(sdk: AsyncOpenAI, batch_id: str) -> Any:
    async with asyncio.timeout(30):
        while (batch := await sdk.batches.retrieve(batch_id)).status in (
            "validating",
            "in_progress",
            "finalizing",
            "cancelling",
        ):
            await asyncio.sleep(0.02)
    return batch


async def lines_of(sdk: AsyncOpenAI, file_id: str | None) -> list[Json]:
    if file_id is None:
        return []
    return [json.loads(line) for line in (await sdk.files.content(file_id)).text.splitlines()]


async def test_a_batch_is_done(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    file_id = await uploaded(sdk, [a_line(1), a_line(2)])
    made = await sdk.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    assert made.status == "validating"
    batch = await ended(sdk, made.id)
    assert batch.status == "completed", batch
    output = await lines_of(sdk, batch.output_file_id)
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in output] == [
        "this is line 1",
        "this is line 2",
    ]
