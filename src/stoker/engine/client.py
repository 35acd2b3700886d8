"""The client of any engine: the embedded one, vLLM, or a hosted API. Called by the gateway and the worker."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import StokerError, TimedOut, Unavailable
from stoker.engine.hidden import Hiding
from stoker.telemetry import metrics
from stoker.web.client import Answer, HttpClient, Stream, Timeouts

# An engine notices within a step or two that nobody listens any more.
ASK_EVERY_S = 0.02
ASK_TIMES = 25

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Requests that compute and requests that wait inside the engine."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Produced:
    """What an engine says of one request. One that it does not know and that was sent after `since` (seconds since the
    epoch) never reached it; of an older one it cannot say."""

    is_known: bool
    since: float
    has_ended: bool
    prompt_tokens: int
    completion_tokens: int


class EngineClient:
    """One engine. `model` is the name that this engine knows the model by; `key` is the engine's own. `name` is what
    errors call it: clients are told of them, and its address is none of their business. Neither key nor address stands
    in an answer that is an error (`hiding`)."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key: str | None = None,
        timeouts: Timeouts | None = None,
        name: str = "the engine",
    ) -> None:
        """`url` is the base of its API (`https://host/v1`), or the server's origin, which gets `/v1`. Raises
        InvalidInput when it is none."""
        self.url = url.rstrip("/")
        scheme, _, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        self._api = f"/{path}" if slash else "/v1"
        self._model = model
        self.hiding = Hiding(key, host)
        self._http = HttpClient(f"{scheme}://{host}", key=key, timeouts=timeouts, name=name)

    async def close(self) -> None:
        await self._http.close()

    async def __aenter__(self) -> "EngineClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def complete(
        self,
        endpoint: str,
        body: dict[str, Any],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
        within_s: float = math.inf,
        trace: str | None = None,
    ) -> Answer:
        """One whole answer, whatever its status. `request_id` is what `produced` knows it by; `timeout_s` the longest
        silence, `within_s` the time for all; `trace`: lines that tell the engine of its trace.
        Raises Unavailable, TimedOut."""
        answer = await self._http.request(
            "POST",
            self._path(endpoint),
            body={**body, "model": self._model},
            headers=None if request_id is None else {"X-Request-Id": request_id},
            lines=trace,
            timeout_s=timeout_s,
            within_s=within_s,
        )
        return answer if answer.status < 400 else self._without_secrets(answer)

    @asynccontextmanager
    async def stream(
        self,
        endpoint: str,
        body: dict[str, Any],
        *,
        request_id: str | None = None,
        trace: str | None = None,
    ) -> AsyncIterator[Stream]:
        """The events of one answer; leaving the block cancels the generation. Raises Unavailable, TimedOut."""
        opened = await self.open(endpoint, body, request_id=request_id, trace=trace)
        try:
            yield opened
        finally:
            opened.close()

    async def open(
        self,
        endpoint: str,
        body: dict[str, Any],
        *,
        request_id: str | None = None,
        trace: str | None = None,
    ) -> Stream:
        """As `stream`; closing what it returns cancels the generation."""
        opened = await self._http.open(
            "POST",
            self._path(endpoint),
            body={**body, "model": self._model, "stream": True},
            headers=None if request_id is None else {"X-Request-Id": request_id},
            lines=trace,
        )
        if opened.error is not None:
            opened.error = self._without_secrets(opened.error)
        return opened

    def _without_secrets(self, answer: Answer) -> Answer:
        return replace(answer, body=self.hiding.body(answer.body))

    async def produced(self, request_id: str) -> Produced:
        """What the engine computed for a request whose caller died. Raises Unavailable, TimedOut."""
        answer = await self._ask(self._path(f"/v1/requests/{request_id}"), within_s=2.0)
        try:
            said = answer.raise_for_error().json()
            usage = said["usage"] or {"prompt_tokens": 0, "completion_tokens": 0}
            return Produced(
                bool(said["known"]),
                float(said["since"]),
                said["has_ended"] is not False,
                int(usage["prompt_tokens"]),
                int(usage["completion_tokens"]),
            )
        except (StokerError, KeyError, TypeError, ValueError):
            # An engine that has no such route, as most have none.
            return Produced(is_known=False, since=float("inf"), has_ended=True, prompt_tokens=0, completion_tokens=0)

    async def usage_of(self, request_id: str, *, sent_at: float, clock: Clock) -> dict[str, int] | None:
        """What it computed for a request that was stopped, as soon as it has noticed. None: it cannot say. `sent_at`:
        seconds since the epoch."""
        for _ in range(ASK_TIMES):
            try:
                said = await self.produced(request_id)
            except StokerError:
                return None
            if not said.is_known and sent_at <= said.since:
                return None
            if said.is_known and said.has_ended:
                return {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
            await clock.sleep(ASK_EVERY_S)
        # It may have been on its way: one that is not there by now never came.
        return None if said.is_known else {"prompt_tokens": 0, "completion_tokens": 0}

    async def _ask(self, path: str, *, within_s: float) -> Answer:
        """A question about the engine itself, answered within that time or not at all: a server that never falls silent
        and never ends would hold whoever asks. Raises Unavailable, TimedOut."""
        try:
            async with asyncio.timeout(within_s):
                return await self._http.request("GET", path, timeout_s=within_s)
        except TimeoutError as exc:
            raise TimedOut(f"{self.url} did not answer {path} in {within_s:g} s") from exc

    def _path(self, endpoint: str) -> str:
        return self._api + endpoint.removeprefix("/v1")

    async def is_healthy(self) -> bool:
        """Whether it serves. vLLM and the embedded engine have /health; a hosted API without one answers /v1/models."""
        try:
            answer = await self._ask("/health", within_s=2.0)
            if 400 <= answer.status < 500:
                answer = await self._ask(self._path("/v1/models"), within_s=5.0)
        except StokerError:
            return False
        return answer.status < 400

    async def load(self) -> EngineLoad | None:
        """What the engine says of itself in vLLM's metrics; None when it has none. Raises Unavailable, TimedOut."""
        answer = await self._ask("/metrics", within_s=2.0)
        if answer.status >= 500:
            raise Unavailable(f"the engine's metrics answered with status {answer.status}")
        if answer.status >= 400:
            return None
        try:
            read = metrics.read(answer.body.decode(), _RUNNING, _WAITING)
        except ValueError:
            return None
        if _RUNNING not in read:
            return None
        return EngineLoad(int(read[_RUNNING]), int(read.get(_WAITING, 0)))
