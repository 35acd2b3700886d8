"""Which replica takes the next request. Pure: called by the gateway with what it knows now, and by the simulator.

Requests with a key (a session, or the beginning of a prompt) prefer the replica that holds their cache: the one that
rendezvous hashing puts first, so that every gateway chooses alike without asking, and a replica that joins or leaves
moves only its own. The load is bounded: a replica that runs BOUND times its part of what runs now passes the request on
to the next in the key's order. Requests without a key go to the least busy.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeVar

BOUND = 1.25


class Candidate(Protocol):
    """What is known of a replica. `capacity` is how many requests it runs at once, `turn` the number of its last one,
    `place` a number of its own, made of its id by `place_of`."""

    @property
    def id(self) -> str: ...
    @property
    def running(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def place(self) -> int: ...


C = TypeVar("C", bound=Candidate)


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """A candidate as plain data."""

    id: str
    running: int
    capacity: int
    turn: int = 0

    @property
    def place(self) -> int:
        return place_of(self.id)


def place_of(name: str) -> int:
    """A name, or a key, as a number: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def pick(able: Iterable[C], *, exclude: Collection[str] = (), key: int | None = None) -> C | None:
    """The one that takes the next request, or None when each is full or excluded.

    `able` are those that are up; `exclude` holds ids that this request has tried already; `key` is `place_of` what the
    request's cache goes by. In one pass over them, and a second one for a key.
    """
    if key is not None:
        able = list(able)
        return _preferred(able, exclude, key)
    best: C | None = None
    best_rank = (0.0, 0)
    for one in able:
        running, capacity = one.running, one.capacity
        if running >= capacity or one.id in exclude:
            continue
        # Running / capacity is how busy it is: one of twice the size gets twice the requests. Of equals, the one whose
        # last request is the longest ago, so that they take turns.
        rank = (running / capacity, one.turn)
        if best is None or rank < best_rank:
            best, best_rank = one, rank
    return best


def _preferred(able: Collection[C], exclude: Collection[str], key: int) -> C | None:
    """The first in the key's order that has room and is within the bound; when one has room, one is both."""
    running = capacity = 0
    for one in able:
        if one.id not in exclude:
            running += one.running
            capacity += one.capacity
    best: C | None = None
    best_score = -1
    for one in able:
        its = one.running
        if its >= one.capacity or one.id in exclude or its + 1 > bound(running, capacity, one.capacity):
            continue
        score = _score(one.place, key)
        if score > best_score:
            best, best_score = one, score
    return best


def bound(running: int, capacity: int, own_capacity: int) -> int:
    """How many requests one of them may run, when one more is to run beside the `running` that run on all of them:
    BOUND times its part by size, rounded up."""
    part = BOUND * (running + 1) * own_capacity / capacity
    whole = int(part)
    return whole if whole == part else whole + 1


def _score(place: int, key: int) -> int:
    """Of a replica for a key: splitmix64's mixing of the two, since hashing anew for each replica would cost more."""
    mixed = ((place ^ key) * 0xBF58476D1CE4E5B9) & _64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _64
    return mixed ^ (mixed >> 31)


_64 = (1 << 64) - 1
