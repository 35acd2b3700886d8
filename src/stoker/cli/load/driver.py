"""Sends requests and notes what comes back.

Open loop: requests are sent when they are due, whether or not earlier ones were answered, as a crowd of strangers
does; the latency that is seen is that of the given rate. Closed loop: a fixed number of clients, each of which sends
the next request when it has its answer; the rate is whatever the platform manages.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.cli.load import arrivals
from stoker.cli.load.report import Seen
from stoker.web.client import HttpClient


@dataclass(frozen=True)
class Ask:
    """What every request asks."""

    model: str
    max_tokens: int
    prompt_words: int
    seed: int
    timeout_s: float
    """From a request's sending to its last token."""


class Driver:
    def __init__(self, client: HttpClient, ask: Ask, clock: Clock) -> None:
        self.seen: list[Seen] = []
        self.in_flight = 0
        self._client, self._ask, self._clock = client, ask, clock

    async def open_loop(self, times: Iterator[float], *, most_in_flight: int) -> None:
        """Send at the given seconds from now; returns when all is answered. A request that is due while
        `most_in_flight` are on their way is not sent, and counts as an error: waiting would close the loop."""
        began_at = self._clock.monotonic()
        async with asyncio.TaskGroup() as requests:
            for at in times:
                await self._clock.sleep(began_at + at - self._clock.monotonic())
                one = self._new(began_at + at)
                if self.in_flight >= most_in_flight:
                    one.error = "too_many_in_flight"
                else:
                    self.in_flight += 1
                    requests.create_task(self._send(one, len(self.seen)))

    async def closed_loop(self, clients: int, *, seconds: float) -> None:
        """`clients` at once, none of which sends after `seconds`; returns when all is answered."""
        end_at = self._clock.monotonic() + seconds

        async def client() -> None:
            while self._clock.monotonic() < end_at:
                one = self._new(self._clock.monotonic())
                self.in_flight += 1
                await self._send(one, len(self.seen))
                if one.error is not None:
                    await self._clock.sleep(0.1)  # a platform that refuses at once is not asked thousands of times

        async with asyncio.TaskGroup() as all_clients:
            for _ in range(clients):
                all_clients.create_task(client())

    def _new(self, due_at: float) -> Seen:
        one = Seen(due_at)
        self.seen.append(one)
        return one

    async def _send(self, one: Seen, number: int) -> None:
        ask = self._ask
        body = {
            "model": ask.model,
            "messages": [{"role": "user", "content": arrivals.prompt(number, ask.prompt_words, ask.seed)}],
            "max_tokens": ask.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        one.sent_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(ask.timeout_s):
                one.error = await receive(self._client, body, one, self._clock.monotonic)
        except TimeoutError:
            one.error = "timeout"
        except StokerError as error:
            one.error = error.code
        except (ValueError, KeyError, TypeError, AttributeError):  # an event that is no chunk of OpenAI's
            one.error = "bad_event"
        finally:
            self.in_flight -= 1
        one.ended_at = self._clock.monotonic()


async def receive(client: HttpClient, body: object, one: Seen, now: Callable[[], float]) -> str | None:
    """Read a whole streamed answer into `one`. Returns the kind of failure, None for a complete answer with usage."""
    has_usage = False
    async with client.stream("POST", "/v1/chat/completions", body=body) as stream:
        if stream.error is not None:
            stream.error.raise_for_error()
            return "not_a_stream"
        async for event in stream.events:
            if event == b"[DONE]":
                return None if has_usage else "no_usage"
            chunk = json.loads(event)
            if isinstance(chunk.get("error"), dict):
                return str(chunk["error"].get("code") or "error_in_stream")
            if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
                one.token_times.append(now())
            if chunk.get("usage"):
                has_usage = True
                one.prompt_tokens = int(chunk["usage"]["prompt_tokens"])
                one.completion_tokens = int(chunk["usage"]["completion_tokens"])
    return "broken_stream"
