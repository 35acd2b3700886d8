"""An OpenAI server that does nothing: each chat completion streams one word and its usage, written beforehand. Raw
asyncio, so that what is measured is the worker and not its engine."""

import asyncio
import json

import httptools
import uvloop

from stoker.base.process import say_ready

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"


def answer(body: bytes, kind: bytes = b"application/json") -> bytes:
    return HEAD % (kind, len(body)) + body


def events() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "general"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "ok"}, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": usage},
    ]
    return b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"


STREAM, HEALTH = answer(events(), b"text/event-stream"), answer(b"{}")
LOAD = answer(
    b'vllm:num_requests_running{model_name="general"} 0\nvllm:num_requests_waiting{model_name="general"} 0\n',
    b"text/plain; version=0.0.4",
)


class Engine(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.path = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_message_complete(self) -> None:
        is_chat = self.path.endswith(b"/chat/completions")
        self.transport.write(STREAM if is_chat else LOAD if self.path == b"/metrics" else HEALTH)


async def main() -> None:
    listening = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0)
    say_ready(url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
