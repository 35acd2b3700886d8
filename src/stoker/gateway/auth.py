"""Who calls: the key in the `Authorization` header, looked up by its hash and remembered for a moment."""

import asyncio
from collections import OrderedDict

from starlette.requests import Request

from stoker.base.clock import Clock
from stoker.base.errors import NotPermitted, Unauthenticated
from stoker.meter.keys import Key, KeyStore, hash_of

# A revoked key is refused at most this long after its revocation.
REMEMBER_S = 1.0
# 100,000 keys in use within one second are more than one process can serve.
REMEMBER_MOST = 100_000
_LONGEST_KEY = 512


class Authenticator:
    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Key]] = OrderedDict()

    async def user(self, request: Request) -> Key:
        """The key's record. Raises Unauthenticated; an admin key may do all that a user may."""
        return await self._find(_bearer(request))

    async def admin(self, request: Request) -> Key:
        """As `user`. Raises NotPermitted for a key that is not an admin's."""
        key = await self._find(_bearer(request))
        if key.role != "admin":
            raise NotPermitted(
                f"key {key.name!r} may not use {request.url.path}",
                hint="use the admin key; `stoker up` prints it and keeps it in the state directory",
            )
        return key

    async def _find(self, secret: str) -> Key:
        # By hash, so that the secret itself is never kept and comparing takes the same time for any wrong key.
        name = hash_of(secret)
        now = self._clock.monotonic()
        remembered = self._known.get(name)
        if remembered is not None and now - remembered[0] < REMEMBER_S:
            return remembered[1]
        key = await asyncio.to_thread(self._store.find, secret)
        if key is None:
            self._known.pop(name, None)
            raise Unauthenticated("this API key is not known here", hint="`stoker up` prints a key that is")
        self._known[name] = (now, key)
        self._known.move_to_end(name)
        while len(self._known) > REMEMBER_MOST:
            self._known.popitem(last=False)
        return key


def _bearer(request: Request) -> str:
    header = request.headers.get("authorization", "")
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or len(secret) > _LONGEST_KEY:
        raise Unauthenticated("there is no API key in this request", hint="send `Authorization: Bearer KEY`")
    return secret
