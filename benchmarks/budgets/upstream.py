"""The model server of the race: counts what reaches it, and answers each after the same time with the same usage.

    python benchmarks/budgets/upstream.py --port PORT --delay SECONDS --tokens N

`GET /stats` says how many arrived and how many ran at once at most; `POST /reset` begins to count anew.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Upstream:
    def __init__(self, delay_s: float, tokens: int) -> None:
        self._delay_s = delay_s
        self._tokens = tokens
        self._seen = 0
        self._running = 0
        self._peak = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        path = scope["path"]
        if path.endswith("/chat/completions"):
            await _answer(send, 200, await self._complete(json.loads(body)))
        elif path == "/stats":
            await _answer(send, 200, {"seen": self._seen, "peak": self._peak, "running": self._running})
        elif path == "/reset":
            self._seen, self._peak = 0, self._running
            await _answer(send, 200, {})
        elif path == "/health":
            await _answer(send, 200, {})
        else:
            await _answer(send, 404, {})

    async def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._seen += 1
        self._running += 1
        self._peak = max(self._peak, self._running)
        is_warm_up = body["messages"][-1]["content"] == "warm up"
        await asyncio.sleep(0 if is_warm_up else self._delay_s)
        self._running -= 1
        return {
            "id": f"chatcmpl-{self._seen}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": self._tokens, "total_tokens": 5 + self._tokens},
        }


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    options = parser.parse_args()
    uvicorn.run(Upstream(options.delay, options.tokens), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
