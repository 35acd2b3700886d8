"""Sessions: what one has cost so far.

A session is what a client names: `X-Session-Id`, or `conversation` in the body. After `gateway.sessions.idleSeconds`
without a request it is over, and this process forgets it. What it has spent stays in the ledger, so its budget does not
begin anew. Which replica holds its cache nobody has to remember: `policy.balance` says it of the name alone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, Unavailable
from stoker.gateway.commitments import seen
from stoker.meter.ledger import Ledger

# Sessions that one process remembers; a forgotten one asks the ledger again.
REMEMBERED = 50_000
# Other processes may have served the session meanwhile; the ledger has their records by then.
LOOK_AGAIN_S = 2.0

Name = tuple[str, str]
"""Tenant and id: two tenants' sessions of one name are two."""


class _Session:
    __slots__ = ("cost", "in_flight", "used_at")

    def __init__(self) -> None:
        self.used_at = float("-inf")
        self.in_flight = 0
        self.cost: asyncio.Task[int] | int | None = None  # nano-dollars; None: not known yet


class Sessions:
    def __init__(self, ledger: Ledger, clock: Clock, *, idle_s: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._idle_s = idle_s
        self._known: OrderedDict[Name, _Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, name: Name) -> None:
        """A request of the session begins. What it has cost is looked up beside it. End it with `end`."""
        now = self._clock.monotonic()
        self._forget(now)
        session = self._known.get(name)
        if session is None or self._is_over(session, now):
            session = self._known[name] = _Session()
        self._known.move_to_end(name)
        if session.cost is None or (not session.in_flight and now - session.used_at > LOOK_AGAIN_S):
            session.cost = logs.beside(self._spent(name))
            session.cost.add_done_callback(seen)
        session.used_at = now
        session.in_flight += 1

    async def end(self, name: Name, nano_usd: int) -> int | None:
        """A request of the session ended and cost that. What the session has cost so far; None: the ledger is away."""
        session = self._known.get(name)
        if session is None or not session.in_flight:  # forgotten meanwhile, for there were too many
            return None
        session.used_at = self._clock.monotonic()
        session.in_flight -= 1
        self._known.move_to_end(name)
        if isinstance(session.cost, asyncio.Task):
            looking = session.cost
            try:
                # A client that leaves must not end the look-up that others wait for.
                before = await asyncio.shield(looking)
            except Unavailable:
                if session.cost is looking:
                    session.cost = None
                return None
            # Others that waited for the same look-up may have added theirs by now.
            if session.cost is looking:
                session.cost = before
        if not isinstance(session.cost, int):
            return None
        session.cost += nano_usd
        return session.cost

    def _forget(self, now: float) -> None:
        while self._known:
            name, oldest = next(iter(self._known.items()))
            if not self._is_over(oldest, now) and len(self._known) <= REMEMBERED:
                return
            del self._known[name]

    def _is_over(self, session: _Session, now: float) -> bool:
        return not session.in_flight and now - session.used_at >= self._idle_s

    async def _spent(self, name: Name) -> int:
        tenant, session = name
        return (await asyncio.to_thread(self._ledger.spent, "session", tenant, session)).nano_usd


def conversation_in(body: Mapping[str, Any]) -> str | None:
    """The session that a body names, as OpenAI's `conversation`: an id, or an object with one. Raises InvalidInput."""
    value = body.get("conversation")
    said = value.get("id") if isinstance(value, dict) else value
    if said is not None and not isinstance(said, str):
        raise InvalidInput("conversation has to be an id, or an object with one", param="conversation")
    return said
