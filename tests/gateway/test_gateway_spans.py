"""What a gateway tells of a request whose answer nobody got. How spans hang together: tests/flow/test_one_trace.py."""

import asyncio
from pathlib import Path

import pytest
from gateway_parts import HELLO, KEY, a_stack, until

from stoker.telemetry.spans import Told, Tracing


class Sink:
    def __init__(self) -> None:
        self.told: list[Told] = []

    def tell(self, span: Told) -> None:
        self.told.append(span)

    def server(self) -> list[tuple[bool, int]]:
        return [
            (span.is_wrong, span.attributes["http.response.status_code"])
            for span in self.told
            if span.shape.kind == "server"
        ]


async def test_a_client_that_goes_away_leaves_a_span(tmp_path: Path) -> None:
    sink = Sink()
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        engine = await stack.engine()
        hold = engine.hold_at(0)
        http = await stack.http(KEY)
        asking = asyncio.create_task(http.post_json("/v1/chat/completions", {"model": "general", "messages": HELLO}))
        await hold.reached()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(sink.server)
        hold.open.set()
    assert sink.server() == [(False, 499)]
