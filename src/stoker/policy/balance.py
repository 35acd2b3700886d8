"""Which replica takes the next request. Pure: called by the gateway with what it knows now, and by the simulator."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What is known of a replica when a request needs one.

    `down_until` is the time, on the clock of the caller's `now`, before which it is not tried again; None means that
    nothing is known against it. `capacity` is how many requests it runs at once.
    """

    id: str
    running: int
    capacity: int
    down_until: float | None = None

    @property
    def has_room(self) -> bool:
        return self.running < self.capacity

    def is_up(self, now: float) -> bool:
        return self.down_until is None or now >= self.down_until


def pick(
    replicas: Sequence[ReplicaLoad], *, now: float, exclude: Collection[str] = (), prefer: str | None = None
) -> ReplicaLoad | None:
    """The replica that is least busy for its size, or None when each one is full, down or excluded.

    Busy is running / capacity, so a replica of twice the size gets twice the requests. Of equals, the first of the
    sequence is taken: the caller rotates the sequence where it wants them to take turns. `exclude` holds ids that this
    request has tried already. `prefer` is the one that holds the cache of the request's session: as long as it has
    room, it is taken however busy it is.
    """
    able = [one for one in replicas if one.has_room and one.is_up(now) and one.id not in exclude]
    for one in able:
        if one.id == prefer:
            return one
    # Division of equal ratios rounds equally, so 1/2 and 4/8 tie as they should; min() keeps the first of a tie.
    return min(able, key=lambda one: one.running / one.capacity, default=None)
