"""Somebody who is called back: a real HTTP server on loopback that answers as a test says."""

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """`answers`: for each call in its turn a status, bytes that are sent as they stand, or None for no answer at all,
    as long as the client waits. After the last of them every call is answered 204."""

    def __init__(self, *answers: int | bytes | None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers = list(answers)
        self.got: list[Got] = []
        self.left = 0  # how many clients gave up waiting
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.got.append(Got(first.split(" ")[1], headers, body))
            answer = self.answers.pop(0) if self.answers else 204
            if answer is None:
                await reader.read()  # until the client goes
                self.left += 1
            elif isinstance(answer, bytes):
                writer.write(answer)
            else:
                writer.write(
                    f"HTTP/1.1 {answer} Said\r\nlocation: {self.url}/elsewhere\r\ncontent-length: 0\r\n\r\n".encode()
                )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went
        finally:
            writer.close()
