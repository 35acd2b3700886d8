"""Batches as a client of OpenAI's SDK makes them, and what comes of them."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

Json = dict[str, Any]
CHAT = "/v1/chat/completions"
OPEN = ("validating", "in_progress", "finalizing", "cancelling")
# Long for a machine that is busy with other things; what works never waits for it.
DEADLINE_S = 30.0


def a_line(number: int, words: str = "one two three", *, url: str = CHAT, **body: Any) -> Json:
    """Line `line-<number>`: a chat whose answer repeats its words."""
    asked = {"model": "general", "messages": [{"role": "user", "content": words}], **body}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": asked}


def jsonl(lines: Sequence[object]) -> bytes:
    """`lines` are objects, or what stands there instead of one."""
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


async def uploaded(sdk: AsyncOpenAI, lines: Sequence[object]) -> str:
    return (await sdk.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch")).id


async def begun(sdk: AsyncOpenAI, lines: Sequence[object], *, endpoint: Any = CHAT, **wishes: Any) -> Batch:
    file_id = await uploaded(sdk, lines)
    asked: Any = {"completion_window": "24h", **wishes}
    return await sdk.batches.create(input_file_id=file_id, endpoint=endpoint, **asked)


async def ended(sdk: AsyncOpenAI, batch_id: str) -> Batch:
    """The batch as soon as it has ended."""
    return await when(sdk, batch_id, lambda batch: batch.status not in OPEN)


async def when(sdk: AsyncOpenAI, batch_id: str, holds: Any) -> Batch:
    async with asyncio.timeout(DEADLINE_S):
        while not holds(batch := await sdk.batches.retrieve(batch_id)):  # noqa: ASYNC110 - over HTTP, nobody tells
            await asyncio.sleep(0.01)
    return batch


async def lines_of(sdk: AsyncOpenAI, file_id: str | None) -> list[Json]:
    """The lines of a file; none where there is no file."""
    if file_id is None:
        return []
    text = (await sdk.files.content(file_id)).text
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def counts(batch: Batch) -> tuple[int, int, int]:
    """Lines in all, completed, failed."""
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def answers(lines: Sequence[Json]) -> dict[str, str]:
    """By the client's own ids."""
    return {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}


def errors(lines: Sequence[Json]) -> dict[str, tuple[int, str]]:
    """Status and code by the client's own ids; the status is 0 for what never was a request."""
    found = {}
    for line in lines:
        response = line["response"] or {"status_code": 0, "body": {"error": line["error"]}}
        found[line["custom_id"]] = (response["status_code"], response["body"]["error"]["code"])
    return found
