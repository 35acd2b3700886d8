"""`Idempotency-Key`: a client that did not get its answer sends the same request again, and it is done once.

The id of its task is made of the API key's id and the idempotency key, so "is it there already" and "let it wait" are
one step in Redis (`Queue.submit`), whichever gateway is asked and whatever died in between. So such a request is a task
from its start, also where a replica has room. It is known for as long as its task is: until `queue.resultTtlSeconds`
after its end, and as long as it lies dead. What was refused (a budget, a full queue) left no task, and is not known.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.base import json_text
from stoker.base.errors import InvalidInput, NotFound, Refused
from stoker.base.ids import TaskId
from stoker.gateway import busy, streams
from stoker.gateway.ask import Ask, Served, result_of
from stoker.gateway.services import INLINE_BODY_BYTES, Services
from stoker.meter.accounts import Account
from stoker.queue import Queue, Task
from stoker.web.client import Answer

Json = dict[str, Any]

HEADER = "idempotency-key"
REPLAYED = "Idempotent-Replayed"
PATTERN = "^[!-~]([ -~]{0,253}[!-~])?$"  # spaces at its ends would not survive HTTP
_KEY = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class Once:
    """A request that is done once, however often it is sent. `digest` is that of where it went and what it said, and
    `nonce` names this sending of it."""

    task_id: TaskId
    digest: str
    nonce: str

    def of(self, ask: Ask) -> Ask:
        return replace(ask, id=self.task_id, origin=f"{self.digest}.{self.nonce}")

    def is_of_another(self, task: Task) -> bool:
        """Whether an earlier sending made the task. Raises InvalidInput (`idempotency_key_reused`, 422) when that was
        another request."""
        digest, _, nonce = (task.origin or "").partition(".")
        if digest != self.digest:
            raise _reused()
        return nonce != self.nonce


async def once_of(headers: Mapping[str, str], key: Account, path: str, body: Json) -> Once | None:
    """None: its client does not ask for it. Raises InvalidInput for a key that is none."""
    said = headers.get(HEADER)
    if said is None:
        return None
    if not _KEY.fullmatch(said):
        raise InvalidInput(
            f"Idempotency-Key is {said[:40]!r}; it has to have 1 to 255 printable characters of ASCII",
            param="Idempotency-Key",
        )
    is_large = int(headers.get("content-length", INLINE_BODY_BYTES)) >= INLINE_BODY_BYTES
    digest = await asyncio.to_thread(_digest, path, body) if is_large else _digest(path, body)
    return Once(_task_id(key, said), digest, os.urandom(8).hex())


async def known(queue: Queue, once: Once) -> Task | None:
    """What an earlier sending has become, at no cost; None: nothing yet. Raises as `Once.is_of_another`."""
    try:
        task = await queue.get(once.task_id)
    except NotFound:
        return None
    once.is_of_another(task)
    return task


async def submitted(
    services: Services, ask: Ask, once: Once, *, timeout_s: float | None
) -> tuple[Task, dict[str, str]]:
    """The task that `once.of` a request is, begun by it or by one before, and the headers that say so. Raises what
    `Inference.submit_by_id` raises; after QueueUnavailable it may be there, and who sends it again learns it."""
    # One at a time: those that come together would each need a reservation, and the budget may have room for one.
    async with services.turns.setdefault(once.task_id, asyncio.Lock()):
        task = await known(services.queue, once)
        if task is None:
            task = await _begun(services, ask, once, timeout_s=timeout_s)
    headers = {"X-Request-Id": task.id, "X-Stoker-Model": task.model, "X-Stoker-Route": task.route or "queue"}
    if once.is_of_another(task):
        headers[REPLAYED] = "true"
    return task, headers


async def _begun(services: Services, ask: Ask, once: Once, *, timeout_s: float | None) -> Task:
    try:
        return await services.inference.submit_by_id(ask, timeout_s=timeout_s)
    except Refused:
        # There was no room for it, perhaps since another gateway has just begun the same.
        task = await known(services.queue, once)
        if task is None:
            raise
        return task


async def answered(services: Services, key: Account, ask: Ask, once: Once, headers: dict[str, str]) -> Served:
    """The answer to a request, whoever began it: now, before, or at the same time. `headers` are those of the answer
    however it ends. Raises what `Inference.run` raises."""
    wish, is_async = _wish(ask.headers, key)
    may_stay = is_async and not ask.wants_stream
    ask = replace(ask, priority=wish.priority)
    task, said = await submitted(services, ask, once, timeout_s=None if may_stay else ask.timeout_s)
    headers.update(said)
    return await answer_of(services, key, task, ask.headers)


async def answer_of(services: Services, key: Account, task: Task, headers: Mapping[str, str]) -> Served:
    """What the task comes to: events from their beginning; or its answer, which is waited for as long as a request may
    take; or, where `Prefer` says so, the task. Raises what became of it, and what `streams.resumed` raises."""
    if task.stream:
        said, events = await streams.resumed(services, key, task.id, None)
        return Served(None, events=events, headers=said)
    wish, is_async = _wish(headers, key)
    longest_s = services.platform.gateway.timeouts.total_seconds
    wait_s = min(longest_s, wish.wait_s) if is_async else longest_s
    if wait_s > 0 and not task.state.has_ended:
        task = await services.queue.wait(task.id, timeout_s=wait_s)
    if is_async and not task.state.has_ended:
        return Served(None, task=task, headers={"Preference-Applied": wish.applied or "respond-async"})
    answer = Answer(200, {}, json_text.dumps(result_of(task)))
    receipt = await streams.receipt_of(services, key, task)
    return Served(None, answer=answer, headers={} if receipt is None else receipt.headers(services.clock.now()))


def _wish(headers: Mapping[str, str], key: Account) -> tuple[busy.Wish, bool]:
    """With which priority it waits, and whether its client would rather have a task than wait."""
    wish = busy.wish_of(headers, key.tenant_terms)
    if wish.applied is not None:
        return wish, True
    usual = busy.priority_of(headers.get(busy.PRIORITY), key.tenant_terms, usual="interactive")
    return wish._replace(how="wait", priority=usual), False


def _task_id(key: Account, said: str) -> TaskId:
    """Another API key's same word is another request. A key that was rotated keeps its id, and its words."""
    name = json.dumps([key.id, said]).encode()
    return TaskId("once_" + base64.b32encode(hashlib.sha256(name).digest()[:20]).decode().lower())


def _digest(path: str, body: Json) -> str:
    """The order of the body's names says nothing."""
    said = json.dumps([path, body], sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(said).hexdigest()[:32]


def _reused() -> InvalidInput:
    error = InvalidInput(
        "this Idempotency-Key was sent before with another request",
        param="Idempotency-Key",
        hint="send the very same request again, or make a new key for this one",
        code="idempotency_key_reused",
    )
    error.status = 422
    return error
