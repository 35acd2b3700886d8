"""Telling somebody of the end of a task: a signed POST to the `callback_url` that the task was submitted with.

That it is owed is written in the same step as the end (`Queue.callbacks_due`), so it survives any process. It is made
at least once, and each call of one end has the same `webhook-id`. What may be called is decided in
`policy/callbacks.py`, and looked at again at each try. No redirect is followed, and of an answer nothing but its status
is read.
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from stoker.base import json_text, logs
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, NotPermitted, StokerError, Unavailable
from stoker.meter.accounts import TenantTerms
from stoker.meter.tenants import TenantStore
from stoker.policy import callbacks as rules
from stoker.policy.callbacks import Target
from stoker.policy.retry import delay_s
from stoker.queue import Delivery, Queue, Task

Json = dict[str, Any]

_log = logs.get(__name__)

LOOK_EVERY_S = 0.5
AT_ONCE = 32  # calls of one gateway process
TIMEOUT_S = 15.0  # of a whole call: a receiver should answer first, and work then
LEASE_S = 60.0  # longer than a call may take, name lookup and all
MOST_TRIES = 12
AGAIN_BASE_S, AGAIN_CAP_S = 5.0, 3600.0
GONE = 410  # the receiver does not want to be called any more
# A larger result is not sent: it is fetched by the task's id.
MOST_RESULT_BYTES = 256 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9])[ \r\n]")


def wanted_by(url: object, terms: TenantTerms, environ: Mapping[str, str] = os.environ) -> str | None:
    """The callback_url of a submission, if it has one and may have it. Raises InvalidInput; NotPermitted for a host
    that the tenant may not have called, and for a tenant without a secret."""
    if url is None:
        return None
    rules.check_host(rules.target_of(url), terms.callback_hosts)
    secrets_of(terms.callback_secret_env, environ)
    return str(url)


def secrets_of(variable: str | None, environ: Mapping[str, str]) -> list[bytes]:
    """Raises NotPermitted where there is none."""
    text = environ.get(variable) if variable is not None else None
    if not text:
        raise NotPermitted(
            "callback_url needs a secret to sign with, and this tenant has none",
            hint="tenants.<name>.callbackSecretEnv in platform.yaml names the variable that holds it",
            code="callback_without_secret",
        )
    try:
        return rules.secrets_in(text)
    except InvalidInput as error:
        raise NotPermitted(error.message, code="callback_without_secret") from error


def message_of(task: Task) -> bytes:
    """What is sent: what `GET /v1/tasks/{id}` would say, in the envelope of Standard Webhooks. A result that is too
    large is not in `task` (`Queue.callbacks_due`)."""
    outcome = "dead" if task.state.has_failed else task.state.value
    ended_at = datetime.fromtimestamp(task.ended_at or 0.0, UTC)
    data = {
        "id": task.id,
        "model": task.model,
        "state": outcome,
        "session": task.session,
        "run": task.run,
        "agent": task.agent,
        "submitted_at": task.submitted_at,
        "ended_at": task.ended_at,
        "replays": task.replays,
        "error": task.error,
        "result": task.result,
        "url": f"/v1/tasks/{task.id}",
    }
    return json_text.dumps(
        {"type": f"task.{outcome}", "timestamp": ended_at.isoformat(timespec="milliseconds"), "data": data}
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one try. `status`: what the receiver answered; None: nothing."""

    status: int | None
    error: str | None = None

    @property
    def is_done(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Callbacks:
    def __init__(
        self,
        queue: Queue,
        tenants: TenantStore,
        clock: Clock,
        random: Random,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._queue = queue
        self._tenants = tenants
        self._clock = clock
        self._random = random
        self._environ = environ
        self._calls: set[asyncio.Task[None]] = set()

    async def deliver_forever(self) -> None:
        """Until it is cancelled; calls that are on their way are then given up, and made again by whoever comes."""
        try:
            while True:
                await self._begin_what_is_due()
                await self._clock.sleep(LOOK_EVERY_S)
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    async def _begin_what_is_due(self) -> None:
        room = AT_ONCE - len(self._calls)
        if room <= 0:
            return
        try:
            due = await self._queue.callbacks_due(count=room, lease_s=LEASE_S, most_result_bytes=MOST_RESULT_BYTES)
        except StokerError as error:
            _log.warning("callbacks wait for Redis", error=error.in_log)
            return
        for task in due:
            call = logs.beside(self.deliver(task))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def deliver(self, task: Task) -> None:
        """One try, and a note of how it went."""
        outcome = await self._try(task)
        tries = 1 + (task.delivery.tries if task.delivery is not None else 0)
        is_over = outcome.is_done or outcome.status == GONE or tries >= MOST_TRIES
        again_in_s = None if is_over else retry_in_s(tries, self._random)
        delivery = Delivery(
            state="delivered" if outcome.is_done else "failed" if is_over else "waiting",
            tries=tries,
            at=self._clock.now(),
            status=outcome.status,
            error=outcome.error,
        )
        try:
            await self._queue.called_back(task, delivery, again_in_s=again_in_s)
        except StokerError as error:
            _log.warning("a callback will be made again: Redis did not note it", task=task.id, error=error.in_log)
        if delivery.state == "failed":
            _log.warning("a callback is given up", task=task.id, tries=tries, error=outcome.error)

    async def _try(self, task: Task) -> Outcome:
        try:
            record = await asyncio.to_thread(self._tenants.get, task.tenant)
            hosts, variable = record.terms.callback_hosts, record.terms.callback_secret_env
            target = rules.target_of(task.callback)
            rules.check_host(target, hosts)
            secrets = secrets_of(variable, self._environ)
        except StokerError as error:
            return Outcome(None, error.message)
        body, message_id = message_of(task), f"msg_{task.usage_id}"
        return await called(target, hosts, secrets, message_id=message_id, body=body, now=self._clock.now())


def retry_in_s(tries: int, random: Random) -> float:
    """How long after so many tries in vain the next one is made."""
    return 1.0 + delay_s(tries, base_s=AGAIN_BASE_S, cap_s=AGAIN_CAP_S, random=random)


async def called(
    target: Target, hosts: Sequence[str], secrets: Sequence[bytes], *, message_id: str, body: bytes, now: float
) -> Outcome:
    """One signed call of a host that may be called, at an address that it may have (`hosts`, as in `may_connect`)."""
    timestamp = int(now)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": rules.signature(secrets, message_id=message_id, timestamp=timestamp, body=body),
    }
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status = await post(target, await resolved(target, hosts), headers, body)
    except TimeoutError:
        return Outcome(None, f"no answer within {TIMEOUT_S:g} s")
    except StokerError as error:
        return Outcome(None, error.message)
    except (OSError, asyncio.IncompleteReadError) as error:
        # Its own words may name addresses of our network.
        _log.info("a call did not get through", message=message_id, error=str(error)[:300])
        return Outcome(None, f"no connection, or it was lost: {type(error).__name__}")
    if 200 <= status < 300:
        return Outcome(status)
    return Outcome(status, f"the receiver answered {status}" + (", a redirect" if 300 <= status < 400 else ""))


async def resolved(target: Target, hosts: Sequence[str]) -> str:
    """An address of the host that may be connected to. Raises NotPermitted when none may, Unavailable when there is
    none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise Unavailable(f"the host {target.host} has no address now", code="callback_no_address") from exc
    for *_, where in found:
        address = rules.address_of(str(where[0]))
        if address is not None and rules.may_connect(address, hosts, is_tls=target.is_tls):
            return str(address)
    raise NotPermitted(
        f"the host {target.host} has no address that may be called: they are private, or it is not https",
        hint="list a private address or its network in tenants.<name>.callbackHosts",
        code="callback_not_allowed",
    )


async def post(target: Target, address: str, headers: Mapping[str, str], body: bytes) -> int:
    """The status of the answer; the rest is not read. It connects to `address` and to nothing else."""
    # Reading all the authorities takes longer than other requests of this process may wait.
    tls = await asyncio.to_thread(ssl.create_default_context) if target.is_tls else None
    reader, writer = await asyncio.open_connection(
        address, target.port, ssl=tls, server_hostname=target.host if tls else None, limit=1 << 14
    )
    try:
        fixed = {
            "host": target.authority,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "user-agent": "stoker",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in {**fixed, **headers}.items())
        writer.write(f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            line = b""
        status = _STATUS.match(line)
        if status is None:
            raise Unavailable("what was answered is no HTTP", code="callback_no_http")
        return int(status[1])
    finally:
        writer.transport.abort()
