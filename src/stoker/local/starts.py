"""The phases of how a replica of `stoker up` started, for the ledger. Pure: whoever sees the moments hands them in."""

from dataclasses import dataclass, fields

from stoker.meter.lives import Phase

_PHASES = ("queue", "boot", "weights", "warm-up")


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds since the epoch, in this order. None: it was not seen, or is still to come.

    `needed_at`: the first task waited that had no replica; of one that is always there, when the platform was started.
    `decided_at`: the supervisor was told to start it. `listening_at`: its process is there and has its port.
    `loaded_at`: its weights are in memory. `ready_at`: it can serve."""

    needed_at: float | None = None
    decided_at: float | None = None
    listening_at: float | None = None
    loaded_at: float | None = None
    ready_at: float | None = None


def phases_of(replica: str, moments: Moments) -> list[Phase]:
    """`replica`: the id of its StayLife. The queue until it is decided, boot until it listens, weights until they are
    loaded, warm-up until it is ready: one after the other, without a gap.

    A moment that was not seen belongs to the phase before: an engine that tells nothing between its port and readiness
    has weights up to then and no warm-up. A moment earlier than the one before it (clocks are set) counts as that. The
    last phase has no end until the replica is ready."""
    at = [getattr(moments, each.name) for each in fields(moments)]
    found: list[Phase] = []
    for i, name in enumerate(_PHASES):
        began = at[i]
        if began is None:
            continue
        began = max([began, *(each for each in at[:i] if each is not None)])
        later = [each for each in at[i + 1 :] if each is not None]
        ended = max(began, later[0]) if later else None
        found.append(Phase(subject=replica, phase=name, began_at=began, ended_at=ended))
    return found
