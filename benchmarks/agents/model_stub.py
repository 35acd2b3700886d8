"""A model that answers at once with as many tokens as it is told to, and counts who asked.

    python benchmarks/agents/model_stub.py PORT [--delay SECONDS]

The last message says how many: `use 137 tokens`; else one. `GET /stats` says how often it was asked, and how often
with each last message; `POST /reset` begins to count anew.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Json = dict[str, Any]
Send = Callable[[Json], Awaitable[None]]
Receive = Callable[[], Awaitable[Json]]

_TOKENS = re.compile(r"use (\d+) tokens")
PROMPT_TOKENS = 10


class Model:
    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._seen: Counter[str] = Counter()

    async def __call__(self, scope: Json, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, path = await _body(receive), scope["path"]
        if path.endswith("/chat/completions"):
            await self._complete(json.loads(body), send)
        elif path == "/stats":
            await _answer(send, {"seen": self._seen.total(), "by_message": self._seen})
        elif path == "/reset":
            self._seen.clear()
            await _answer(send, {})
        else:
            await _answer(send, {})  # /health

    async def _complete(self, body: Json, send: Send) -> None:
        said = str(body["messages"][-1]["content"])
        self._seen[said] += 1
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        wanted = _TOKENS.search(said)
        tokens = int(wanted[1]) if wanted else 1
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
        head = {"id": f"chatcmpl-{self._seen.total()}", "created": 1_700_000_000, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "well"}
            choice: Json = {"index": 0, "message": message, "finish_reason": "stop"}
            await _answer(send, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        choice = {"index": 0, "delta": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}
        chunks: list[Json] = [{"choices": [choice]}, {"choices": [], "usage": usage}]
        lines = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
        text = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        await _send(send, text.encode(), b"text/event-stream")


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Send, body: Json) -> None:
    await _send(send, json.dumps(body).encode(), b"application/json")


async def _send(send: Send, body: bytes, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    options = parser.parse_args()
    uvicorn.run(Model(options.delay), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
