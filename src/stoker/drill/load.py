"""The load: clients that do what a good client does when the platform is hurt, and remember what each was told.

- Nobody was reached, or the answer was "later" (429, 503 with Retry-After): ask again.
- A task whose submission broke off: look by its run whether it is there; only if not, submit it again.
- A resumable stream that broke off: read it again by its id.
- Another request that broke off: that is its end, since asking again would do it twice.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import StokerError, Unreachable
from stoker.drill import prompts
from stoker.drill.observed import Ask, Try
from stoker.drill.outside import ENDED, Outside, text_of
from stoker.web.client import Answer, HttpClient, Stream, Timeouts, openai_error_in

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
_REQUEST_ID = "X-Request-Id"
# After nobody answered: a gateway is back in a second or two.
_AGAIN_S = 0.1
# However late the platform says that it is worth asking again, a drill looks sooner.
_MOST_PAUSE_S = 2.0
# One long poll for a task.
_POLL_S = 20


class Load:
    def __init__(
        self,
        url: str,
        key: str,
        outside: Outside,
        *,
        model: str,
        max_tokens: int,
        clients: int,
        clock: Clock,
    ) -> None:
        self.http = HttpClient(url, key=key, timeouts=Timeouts(connect_s=2.0, read_s=120.0))
        self.model, self.max_tokens = model, max_tokens
        self.beats: list[float] = []
        self.left: int | None = None
        self._outside, self._clock = outside, clock
        self._room = asyncio.Semaphore(clients)
        self._ways: dict[str, Callable[[Ask], Awaitable[None]]] = {
            "chat": self._chat,
            "stream": self._stream,
            "resumable": self._resumable,
            "task": self._task,
        }

    async def close(self) -> None:
        await self.http.close()

    async def send_all(self, asks: Iterable[Ask], deadline: float) -> None:
        """Returns when each has ended, or at the deadline."""
        await asyncio.gather(*(self.send(ask, deadline) for ask in asks))

    async def send_paced(self, paced: Iterable[tuple[float, Ask]], deadline: float) -> None:
        began_at = self._clock.monotonic()

        async def one(at: float, ask: Ask) -> None:
            await self._clock.sleep(began_at + at - self._clock.monotonic())
            await self.send(ask, deadline)

        await asyncio.gather(*(one(at, ask) for at, ask in paced))

    async def send(self, ask: Ask, deadline: float) -> None:
        """Bring it to its end; at the deadline it is left `open`."""
        try:
            async with asyncio.timeout(deadline - self._clock.monotonic()), self._room:
                ask.began_at = self._clock.monotonic()
                await self._ways[ask.kind](ask)
        except TimeoutError:
            return
        except (ValueError, KeyError, TypeError, AttributeError):  # an answer that is none of this API's
            ask.end, ask.tries[-1].code = "cut", "bad_answer"
        ask.ended_at = self._clock.monotonic()
        self.beats.append(ask.ended_at)

    # --- clients that hold a line -----------------------------------------------------------------------------------

    async def _chat(self, ask: Ask) -> None:
        while True:
            tried = _try(ask)
            try:
                answer = await self.http.request("POST", CHAT, body=self._body(ask), headers={"X-Run-Id": ask.run})
            except StokerError as error:
                if await self._goes_on(ask, tried, error):
                    continue
                return
            _heard(tried, answer)
            if answer.status == 200:
                tried.outcome, ask.end = "done", "done"
                self._was_told(ask, answer)
                return
            if not await self._may_ask_again(tried, answer):
                ask.end = "refused"
                return

    async def _stream(self, ask: Ask) -> None:
        while True:
            tried = _try(ask)
            try:
                async with self._open(ask, {}) as stream:
                    if stream.error is None:
                        tried.request_id, tried.status = stream.headers.get(_REQUEST_ID), stream.status
                        tried.code = await self._read(ask, stream)
                        is_whole = tried.code is None
                        tried.outcome, ask.end = ("done", "done") if is_whole else ("cut", "cut")
                        return
                    refusal = stream.error
            except StokerError as error:
                if await self._goes_on(ask, tried, error):
                    continue
                return
            _heard(tried, refusal)
            if not await self._may_ask_again(tried, refusal):
                ask.end = "refused"
                return

    async def _goes_on(self, ask: Ask, tried: Try, error: StokerError) -> bool:
        """After a request without an answer: whether it may be made again, since nothing was sent."""
        tried.code = error.code
        if isinstance(error, Unreachable):
            tried.outcome = "unreachable"
            await self._clock.sleep(_AGAIN_S)
            return True
        tried.outcome, ask.end = "cut", "cut"
        return False

    async def _may_ask_again(self, tried: Try, answer: Answer) -> bool:
        tried.outcome = "refused"
        later = answer.headers.get("Retry-After")
        if answer.status not in (429, 503) or later is None:
            return False
        await self._clock.sleep(min(float(later), _MOST_PAUSE_S))
        return True

    # --- clients that come back -------------------------------------------------------------------------------------

    async def _resumable(self, ask: Ask) -> None:
        """From its beginning each time: what comes again is what was there, or, after a worker was lost, another
        attempt's."""
        while True:
            tried = _try(ask) if ask.task_id is None else ask.tries[-1]
            try:
                async with self._open(ask, {"X-Stoker-Resumable": "true"}) as stream:
                    if stream.error is None:
                        tried.request_id = ask.task_id = stream.headers.get(_REQUEST_ID) or ask.task_id
                        code = await self._read(ask, stream)
                        if code is None:
                            tried.outcome, tried.code, ask.end = "done", None, "done"
                            return
                        tried.code = code
                        if await self._is_over(ask):
                            return
                        await self._clock.sleep(_AGAIN_S)
                        continue
                    refusal = stream.error
            except StokerError as error:
                tried.code = error.code
                if not isinstance(error, Unreachable) and ask.task_id is None:
                    tried.outcome = "cut"
                    ask.task_id = await self._found(ask)
                elif isinstance(error, Unreachable) and ask.task_id is None:
                    tried.outcome = "unreachable"
                await self._clock.sleep(_AGAIN_S)
                continue
            _heard(tried, refusal)
            tried.request_id = ask.task_id or tried.request_id
            if not await self._may_ask_again(tried, refusal):
                ask.end = "refused"
                return

    async def _is_over(self, ask: Ask) -> bool:
        """Whether the task behind a stream was given up, so that reading it again would be told the same."""
        task = None if ask.task_id is None else await self._outside.task(ask.task_id)
        if task is None or task.state not in ENDED or task.state == "done":
            return False
        ask.end = "cancelled" if task.state == "cancelled" else "dead"
        return True

    def _open(self, ask: Ask, headers: dict[str, str]) -> Any:
        if ask.task_id is not None:
            return self.http.stream("GET", f"/v1/streams/{ask.task_id}")
        return self.http.stream(
            "POST", CHAT, body=self._body(ask, stream=True), headers={"X-Run-Id": ask.run, **headers}
        )

    # --- tasks ------------------------------------------------------------------------------------------------------

    async def _task(self, ask: Ask) -> None:
        if ask.task_id is None:
            ask.task_id = await self._submit(ask)
            if ask.task_id is None:
                ask.end = "refused"
                return
        while True:
            try:
                answer = await self.http.request("GET", f"/v1/tasks/{ask.task_id}", params={"wait": str(_POLL_S)})
            except StokerError:
                await self._clock.sleep(_AGAIN_S)
                continue
            if answer.status == 404:
                ask.end = "lost"
                return
            if answer.status != 200:
                await self._clock.sleep(_AGAIN_S)
                continue
            task = answer.json()
            if task["state"] in ENDED:
                ask.end = task["state"] if task["state"] in ("done", "cancelled") else "dead"
                self._was_told_of_task(ask, task)
                return

    async def _submit(self, ask: Ask) -> str | None:
        """The task's id; None when it was refused for good."""
        while True:
            tried = _try(ask)
            body = {"endpoint": CHAT, "body": self._body(ask)}
            try:
                answer = await self.http.request("POST", "/v1/tasks", body=body, headers={"X-Run-Id": ask.run})
            except Unreachable as error:
                tried.outcome, tried.code = "unreachable", error.code
                await self._clock.sleep(_AGAIN_S)
                continue
            except StokerError as error:
                tried.outcome, tried.code = "cut", error.code
                await self._clock.sleep(_AGAIN_S)
            else:
                _heard(tried, answer)
                if answer.status == 202:
                    tried.outcome = "done"
                    return str(answer.json()["id"])
                if not await self._may_ask_again(tried, answer):
                    return None
            # It may be there all the same: what broke off, or was refused halfway, is looked for before it is repeated.
            found = await self._found(ask)
            if found is not None:
                return found

    async def _found(self, ask: Ask) -> str | None:
        """The task of this run, if the platform has one."""
        tasks = await self._outside.tasks(self.model)
        return next((task.id for task in tasks if task.run == ask.run), None)

    # --- what they were told ----------------------------------------------------------------------------------------

    def _body(self, ask: Ask, *, stream: bool = False) -> Json:
        most = ask.max_tokens or self.max_tokens
        return prompts.body(ask.prompt, self.model, max_tokens=most, begun=ask.begun, stream=stream)

    def _was_told(self, ask: Ask, answer: Answer) -> None:
        said = answer.json()
        ask.answer = text_of(said)
        _usage(ask, said.get("usage"))
        left = answer.headers.get("X-Stoker-Budget-Left-Tokens")
        self.left = None if left is None else int(left)

    def _was_told_of_task(self, ask: Ask, task: Json) -> None:
        result = task.get("result")
        ask.answer = text_of(result)
        _usage(ask, result.get("usage") if isinstance(result, dict) else None)

    async def _read(self, ask: Ask, stream: Stream) -> str | None:
        """The rest of an answer into `ask`. Returns what went wrong, in a word; None for a whole answer."""
        text: list[str] = []
        try:
            async for event in stream.events:
                if event == b"[DONE]":
                    ask.answer = "".join(text)
                    return None
                chunk = json.loads(event)
                if isinstance(chunk.get("error"), dict):
                    return str(chunk["error"].get("code") or "error_in_stream")
                for choice in chunk.get("choices") or ():
                    if choice.get("delta", {}).get("content"):
                        text.append(choice["delta"]["content"])
                        self.beats.append(self._clock.monotonic())
                _usage(ask, chunk.get("usage"))
        except StokerError as error:
            return error.code
        return "broken_stream"


def _try(ask: Ask) -> Try:
    tried = Try()
    ask.tries.append(tried)
    return tried


def _heard(tried: Try, answer: Answer) -> None:
    error = openai_error_in(answer) if answer.status >= 400 else None
    tried.status, tried.request_id = answer.status, answer.headers.get(_REQUEST_ID)
    tried.code = None if error is None else str(error.get("code"))


def _usage(ask: Ask, usage: Any) -> None:
    if isinstance(usage, dict):
        ask.told_generated = int(usage["completion_tokens"])
        ask.told = int(usage["prompt_tokens"]) + ask.told_generated
