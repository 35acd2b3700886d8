"""Who calls: the key in the `Authorization` header, looked up by its hash, and what it may use. Or a run of an agent,
with a grant (`meter.grants`): then it is the key that the run was begun with, by its id.

Accounts are kept in memory. Whether they are still so is asked of the database with one number for all of them, at most
`REMEMBER_S` old, so a usual request waits for no database, and a key that was revoked is refused that soon. While the
database does not answer, nobody is let in: a revocation could not be seen.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.websockets import WebSocket

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import Conflict, NotFound, NotPermitted, Unauthenticated
from stoker.gateway.commitments import seen
from stoker.meter.accounts import Account
from stoker.meter.grants import Grant, is_grant
from stoker.meter.keys import KeyStore, hash_of

# A change (a revocation, another budget) takes effect at most this long after it was made, in every gateway process.
REMEMBER_S = 1.0
# When a request comes this long after the last look, the next look begins, beside the request.
_LOOK_AFTER_S = 0.4
# Accounts of the keys that were used last; 100,000 take less than 200 MB (benchmarks/accounts).
REMEMBER_MOST = 100_000
_LONGEST_KEY = 512
# Of a run with eight above it, each with its limits, some 2,000.
_LONGEST_GRANT = 8192
T = TypeVar("T")


class Asked(Protocol):
    """A request as far as its caller is concerned. Header names are in lower case."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class Authenticator:
    def __init__(
        self, store: KeyStore, clock: Clock, *, most: int = REMEMBER_MOST, agents_key: str | None = None
    ) -> None:
        """`agents_key`: the secret with which grants are signed; None: a grant is a key that nobody issued."""
        self._store = store
        self._clock = clock
        self._most = most
        self._agents_key = agents_key
        # By the hash, so that a secret itself is never kept and comparing takes the same time for any wrong key; for
        # grants by the key's id, which no hash is. With the revision that was known before the account was read: it is
        # good as long as that is the latest.
        self._known: OrderedDict[bytes, tuple[int, Account]] = OrderedDict()
        self._revision = 0
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def user(self, request: Asked) -> Account:
        """The key's account. Raises Unauthenticated; an admin key may do all that a user may."""
        return await self.account(_bearer(request))

    async def admin(self, request: Request) -> Account:
        """As `user`. Raises NotPermitted for a key that is not an admin's."""
        account = await self.account(_bearer(request))
        if account.role != "admin":
            raise NotPermitted(
                f"key {account.name!r} may not use {request.url.path}",
                hint="use the admin key; `stoker up` prints it and keeps it in the state directory",
            )
        return account

    async def user_and_body(self, request: Request, read: Callable[[Request], Awaitable[T]]) -> tuple[Account, T]:
        """As `user`, with what `read` makes of the body. Checked before it, since a stranger's body is not worth
        reading, and again after it: the client says how long it takes, and what was revoked meanwhile is refused. Whose
        request it is stands in `request.state.account` then, for whoever hears of an error."""
        request.state.account = await self.user(request)
        body = await read(request)
        return await self.user(request), body

    async def admin_and_body(self, request: Request, read: Callable[[Request], Awaitable[T]]) -> tuple[Account, T]:
        """As `user_and_body`, for an admin."""
        await self.admin(request)
        body = await read(request)
        return await self.admin(request), body

    async def account(self, secret: str) -> Account:
        """Raises Unauthenticated for a secret that is no key's now; Unavailable while the database does not answer."""
        if self._agents_key is not None and is_grant(secret):
            return await self._account_of_run(Grant.read(secret, self._agents_key, now=self._clock.now()))
        await self._look()
        return await self._found(bytes.fromhex(hash_of(secret)), self._store.find, secret)

    async def _account_of_run(self, grant: Grant) -> Account:
        """That of the key which pays for the run. Nobody looks after a platform in the name of a run."""
        await self._look()
        account = await self._found(grant.key_id.encode(), self._find_by_id, grant.key_id)
        return replace(account, role="user", grant=grant)

    def _find_by_id(self, key_id: str) -> Account | None:
        try:
            return self._store.account_of(key_id)
        except (NotFound, Conflict):
            return None

    async def _found(self, name: bytes, find: Callable[[str], Account | None], said: str) -> Account:
        """What `find` gives for what was `said`, or gave: it is remembered under `name` until something is changed."""
        known = self._known.get(name)
        if known is not None and known[0] == self._revision and not known[1].has_expired(self._clock.now()):
            self._known.move_to_end(name)
            return known[1]
        revision = self._revision
        account = await asyncio.to_thread(find, said)
        if account is None:
            self._known.pop(name, None)
            raise Unauthenticated(
                "this API key is not known here, or it was revoked or has expired",
                hint="`stoker keys create` makes one; `stoker up` prints one",
            )
        self._known[name] = (revision, account)
        self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return account

    async def _look(self) -> None:
        """Returns when what is known of the revision is new enough. One look at a time, however many wait for it."""
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_AFTER_S:
            return
        self._begin_look()
        # Counted from when this request came: a look that began too long before that may have missed a change, and
        # then there is another. It does not count how long the database took to answer, or a slow one would never do.
        while self._looked_at <= now - REMEMBER_S:
            # A request that is given up must not end the look that others wait for.
            await asyncio.shield(self._begin_look())

    def _begin_look(self) -> "asyncio.Task[None]":
        if self._looking is None or self._looking.done():
            self._looking = logs.beside(self._read_revision())
            self._looking.add_done_callback(seen)
        return self._looking

    async def _read_revision(self) -> None:
        began = self._clock.monotonic()
        self._revision = await asyncio.to_thread(self._store.revision)
        self._looked_at = began


def permitted_models(account: Account, prefix: str | None, routes: Mapping[str, str], models: list[str]) -> list[str]:
    """Those of `models` that the key may use under a prefix (None: under /v1 itself), in their order. `routes`: prefix
    to model. Raises NotPermitted for a prefix that the key may not use.

    A key that is bound to routes may use the models that they lead to under /v1, too.
    """
    if account.routes is not None and prefix is not None and prefix not in account.routes:
        raise NotPermitted(
            f"this key may not use /v1/{prefix}; it may use the routes: {', '.join(sorted(account.routes))}"
        )
    reached = None if account.routes is None else {routes[word] for word in account.routes if word in routes}
    return [
        name
        for name in models
        if (account.models is None or name in account.models) and (reached is None or name in reached)
    ]


def may_use(account: Account, routes: Mapping[str, str], models: Iterable[str]) -> list[str] | None:
    """Those of `models` that the key may use under /v1; None: all of them."""
    if account.models is None and account.routes is None:
        return None
    return permitted_models(account, None, routes, list(models))


def permit(account: Account, prefix: str | None, model: str, routes: Mapping[str, str], models: list[str]) -> None:
    """Raises NotPermitted, saying what the key may use, for a model that it may not."""
    if account.models is None and account.routes is None:
        return
    allowed = permitted_models(account, prefix, routes, models)
    if model not in allowed:
        may = f"it may use the models: {', '.join(allowed)}" if allowed else "it may use none of the models there are"
        raise NotPermitted(f"this key may not use the model {model}; {may}")


SUBPROTOCOL = "stoker"
"""Of WebSockets to the gateway."""


def authorization_of(socket: WebSocket) -> str | None:
    """What a WebSocket's handshake says of its caller. A browser cannot set `Authorization`, so the key may also stand
    behind our name in the list of subprotocols: a header too, and never in the URL, which logs keep."""
    said = socket.headers.get("authorization")
    offered: list[str] = socket.scope["subprotocols"]
    if said is None and len(offered) == 2 and offered[0] == SUBPROTOCOL:
        return f"Bearer {offered[1]}"
    return said


def _bearer(request: Asked) -> str:
    header = request.headers.get("authorization", "")
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    is_long = len(secret) > _LONGEST_KEY and (len(secret) > _LONGEST_GRANT or not is_grant(secret))
    if scheme.lower() != "bearer" or not secret or is_long:
        raise Unauthenticated("there is no API key in this request", hint="send `Authorization: Bearer KEY`")
    return secret
