"""Changes by admins' keys: who may make them, and the record that each leaves (`meter.audit`).

A route that changes something in SQL is `Changes.stored`: its handler hands the `Change` to the store, which writes the
record in the same transaction. One that changes something elsewhere is `Changes.elsewhere`. What is refused leaves a
record, too.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stoker.base import logs
from stoker.base.errors import StokerError
from stoker.base.ids import new_id
from stoker.gateway.auth import Authenticator
from stoker.meter.accounts import Account
from stoker.meter.audit import DONE, AuditTrail, Change

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
Reading = Callable[[Request], Awaitable[Json]]
Storing = Callable[[Request, Json, Change], Awaitable[Response]]
Making = Callable[[Request, Json, "Outcome"], Awaitable[Response]]
Naming = Callable[[Json], str]

_log = logs.get(__name__)


@dataclass(slots=True)
class Outcome:
    """What a change elsewhere came to, for its record. `by` is the id of the key that makes it."""

    by: str
    before: Json | None = None
    after: Json | None = None


async def no_body(_: Request) -> Json:
    """For changes that need no words."""
    return {}


@dataclass(frozen=True, slots=True)
class Changes:
    auth: Authenticator
    trail: AuditTrail

    def stored(self, did: str, object: str, store: Storing, read: Reading) -> Handler:
        """The handler of a route for an admin's key. `object` names what it changes, with parts of the path or of the
        body in braces: `key:{id}`."""

        async def handle(request: Request) -> Response:
            by, body = await self.auth.admin_and_body(request, read)
            change = begun(request, by, did, _named(object, {**body, **request.path_params}))
            try:
                answer = await store(request, body, change)
            except StokerError as error:
                await self._refused(change, error)
                raise
            return _answered(answer, change)

        return handle

    def elsewhere(self, did: str, object: str | Naming, make: Making, read: Reading) -> Handler:
        """As `stored`, for what is not in SQL. `object` may also be a function of the body."""

        async def handle(request: Request) -> Response:
            by, body = await self.auth.admin_and_body(request, read)
            of_what = object(body) if callable(object) else _named(object, {**body, **request.path_params})
            change = begun(request, by, did, of_what)
            async with self.recorded(change) as outcome:
                answer = await make(request, body, outcome)
            return _answered(answer, change)

        return handle

    @asynccontextmanager
    async def recorded(self, change: Change) -> AsyncIterator[Outcome]:
        """Around a change that is not in SQL: its record is there before it is made, or it is not made. Raises
        Unavailable. An error that leaves the block is its result."""
        record_id = await asyncio.to_thread(self.trail.begin, change)
        outcome = Outcome(change.key_id)
        try:
            yield outcome
        except StokerError as error:
            await self._ended(record_id, error.code, outcome)
            raise
        await self._ended(record_id, DONE, outcome)

    async def _ended(self, record_id: str, result: str, outcome: Outcome) -> None:
        """The change is made, or is not: that its result cannot be written down takes nothing back."""
        try:
            await asyncio.to_thread(self.trail.end, record_id, result, before=outcome.before, after=outcome.after)
        except StokerError as error:
            _log.warning("the result of a change is not in the audit log", record=record_id, error=error.in_log)

    async def _refused(self, change: Change, why: StokerError) -> None:
        try:
            await asyncio.to_thread(self.trail.refused, change, why.code)
        except StokerError as error:
            _log.warning("a refused change is not in the audit log", did=change.did, error=error.in_log)


def begun(request: Request, by: Account, did: str, object: str) -> Change:
    """The change that a request asks for, whose answer will have its id, an error too."""
    change = Change(by.id, new_id("req"), did, object)
    request.state.headers = {"X-Request-Id": change.request_id}
    return change


def _answered(answer: Response, change: Change) -> Response:
    _log.info("admin change", by=change.key_id, did=change.did, object=change.object, request=change.request_id)
    answer.headers["X-Request-Id"] = change.request_id
    return answer


def _named(object: str, parts: Json) -> str:
    """`key:{id}` with the id; a part that is no text, or is not there, is left empty."""

    def part(found: re.Match[str]) -> str:
        value = parts.get(found[1])
        return value if isinstance(value, str) else ""

    return re.sub(r"\{(\w+)\}", part, object)
