"""Streams straight from a replica: what the client gets, what is counted, and what happens when one side goes away."""

import asyncio

import pytest
from gateway_parts import HELLO, Stack, events_of, until
from openai import APIError

from stoker.meter.usage import UsageRecord


def ask(**changes: object) -> dict[str, object]:
    return {"model": "general", "messages": HELLO, "stream": True, **changes}


async def test_a_stream_comes_word_by_word_and_is_counted(stack: Stack) -> None:
    await stack.engine()
    sdk = await stack.sdk()

    words = [
        chunk.choices[0].delta.content
        async for chunk in await sdk.chat.completions.create(model="general", messages=HELLO, stream=True)  # type: ignore[arg-type]
    ]

    assert words == ["one", " two", " three", " four", None]
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("done", 4, 4)
