"""Calls of models: through the gateway, in the run's name, each paid once.

A call has a key, the same whenever its step is run again; the gateway gives its answer again where it is there already.
A call that failed is known by its key, too, so the next try has another.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stoker.agents.spans import parent_of_call
from stoker.base.clock import Clock
from stoker.base.errors import BudgetExhausted, InvalidInput, Refused, StokerError, TimedOut, Unavailable, UpstreamError
from stoker.telemetry.spans import sampler_of
from stoker.web.client import HttpClient, Timeouts

Json = dict[str, Any]

TRIES = 3  # of one call that fails and may work another time
PAUSE_S = 0.5  # before the second; twice that before the third
REFUSED_FOR_S = 120.0  # how long a call waits for a limit that renews (429)
_READ_S = 330.0  # a little more than a gateway keeps anybody waiting


@dataclass(frozen=True, slots=True)
class Answered:
    """`message` as OpenAI's API has it. Money in US dollars."""

    message: Json
    finish_reason: str | None
    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    usd: float


class Gateway:
    """The gateway, for the runs of one worker."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self._client = HttpClient(url, timeouts=Timeouts(read_s=_READ_S), name="the gateway")
        self._clock = clock
        self._is_sampled = sampler_of(os.environ)
        self._in_flight: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)  # by outermost run

    async def aclose(self) -> None:
        await self._client.close()

    async def chat(
        self,
        body: Json,
        *,
        bearer: str,
        key: str,
        route: str | None = None,
        span: str | None = None,
        trace: str | None = None,
    ) -> Answered:
        """One answer. `span`: the id of the call's own span, below which stands what it causes. `trace`: the run's.
        Raises BudgetExhausted, InvalidInput and other refusals for good; Unavailable and such when it may work when the
        step is tried again."""
        path = f"/v1/{quote(route)}/chat/completions" if route else "/v1/chat/completions"
        tree = key.partition(":")[0].partition(".")[0]
        while True:
            beside, mine = list(self._in_flight[tree]), asyncio.get_running_loop().create_future()
            self._in_flight[tree].add(mine)
            try:
                answer = await self._tried(path, body, bearer, key, self._caused_by(key, span, trace))
            except BudgetExhausted:
                self._over(tree, mine, gave_back=False)
                # What branches beside it have set aside and do not use comes back when they are answered: only then is
                # it known that nothing is left.
                if not await _one_gives_back(beside):
                    raise
            except BaseException:
                self._over(tree, mine, gave_back=True)
                raise
            else:
                self._over(tree, mine, gave_back=True)
                return answer

    def _caused_by(self, key: str, span: str | None, trace: str | None) -> dict[str, str]:
        if span is None:
            return {}
        return parent_of_call(key.partition(":")[0], trace, span, self._is_sampled).headers

    def _over(self, tree: str, call: "asyncio.Future[bool]", *, gave_back: bool) -> None:
        call.set_result(gave_back)
        self._in_flight[tree].discard(call)
        if not self._in_flight[tree]:
            del self._in_flight[tree]

    async def _tried(self, path: str, body: Json, bearer: str, key: str, caused_by: Mapping[str, str]) -> Answered:
        for number in range(TRIES):
            try:
                return await self._once(path, body, bearer, key if number == 0 else f"{key}:r{number}", caused_by)
            except (Unavailable, UpstreamError):
                if number == TRIES - 1:
                    raise
            await self._clock.sleep(PAUSE_S * 2**number)
        raise AssertionError("a try returns or raises")

    async def _once(self, path: str, body: Json, bearer: str, key: str, caused_by: Mapping[str, str]) -> Answered:
        headers = {"Authorization": f"Bearer {bearer}", "Idempotency-Key": key, **caused_by}
        until = self._clock.monotonic() + REFUSED_FOR_S
        while True:
            answer = await self._client.request("POST", path, body=body, headers=headers)
            try:
                answer.raise_for_error()
            except BudgetExhausted:
                raise
            except Refused:
                wait_s = _retry_after(answer.headers)
                if self._clock.monotonic() + wait_s > until:
                    raise
                await self._clock.sleep(wait_s)
                continue
            except TimedOut:
                if self._clock.monotonic() > until + _READ_S:
                    raise
                continue  # it goes on as a task, and the same key finds it
            return _answered(answer.json(), answer.headers)


async def _one_gives_back(calls: Sequence["asyncio.Future[bool]"]) -> bool:
    """Whether one of these is answered, as soon as it is; False when all were refused, too."""
    left = set(calls)
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        if any(each.result() for each in done):
            return True
    return False


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.1, float(headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _answered(said: Any, headers: Mapping[str, str]) -> Answered:
    try:
        choice = said["choices"][0]
        message, usage = dict(choice["message"]), said.get("usage") or {}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UpstreamError(f"the answer is no chat completion: {error!r}") from error
    details = usage.get("prompt_tokens_details") or {}
    return Answered(
        message={name: value for name, value in message.items() if value is not None or name == "content"},
        finish_reason=choice.get("finish_reason"),
        model=headers.get("x-stoker-model") or str(said.get("model")),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        usd=float(headers.get("x-stoker-cost-usd") or 0.0),
    )


def is_for_good(error: StokerError) -> bool:
    """Whether the step need not be tried again."""
    return isinstance(error, BudgetExhausted | InvalidInput) or error.status in (400, 401, 402, 403, 404, 409, 413, 422)
