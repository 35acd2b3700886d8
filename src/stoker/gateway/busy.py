"""What becomes of a request for which no replica has room, and with which priority work waits. Pure.

The headers of a request are looked at here, and only once it has to wait: one that is answered at once pays nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from stoker.base.errors import InvalidInput, NotPermitted, Refused
from stoker.meter.accounts import TenantTerms
from stoker.policy.fairness import PRIORITIES, lower
from stoker.spec import Priority, WhenBusy

PREFER = "prefer"
PRIORITY = "x-stoker-priority"

# A replica that is full has room again when one of its requests ends; nobody can say when that is.
RETRY_AFTER_S = 1.0


class Wish(NamedTuple):
    """`wait_s`: how long the answer itself is waited for before a task is answered (`async`). `applied`: what is
    answered as `Preference-Applied`; None when nothing was preferred."""

    how: WhenBusy
    priority: Priority
    wait_s: float = 0.0
    applied: str | None = None


def wish_of(headers: Mapping[str, str], tenant: TenantTerms) -> Wish:
    """`Prefer: respond-async` goes before what the tenant says. Raises what `priority_of` raises."""
    preferred = preferences(headers.get(PREFER, ""))
    how: WhenBusy = "async" if "respond-async" in preferred else tenant.when_busy
    # Who holds the line goes before who comes back for it.
    priority = priority_of(headers.get(PRIORITY), tenant, usual="normal" if how == "async" else "interactive")
    if "respond-async" not in preferred:
        return Wish(how, priority)
    wait = preferred.get("wait", "")
    if not wait.isascii() or not wait.isdigit():
        return Wish(how, priority, applied="respond-async")
    return Wish(how, priority, float(wait[:9]), f"respond-async, wait={int(wait[:9])}")


def preferences(said: str) -> dict[str, str]:
    """Those of a `Prefer` header (RFC 7240), names in lower case; of two of one name the first counts, and their
    parameters are left out. What cannot be read is nobody's preference."""
    found: dict[str, str] = {}
    for one in said.split(","):
        name, _, value = one.partition(";")[0].partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def priority_of(said: object, tenant: TenantTerms, *, usual: Priority) -> Priority:
    """That of work for which a client said this (None: nothing, and then `usual`, or the highest that its tenant may
    have). Raises InvalidInput for what is no priority, NotPermitted for one that is too high."""
    if said is None:
        return lower(usual, tenant.max_priority)
    for priority in PRIORITIES:
        if priority == said:
            if lower(priority, tenant.max_priority) != priority:
                raise NotPermitted(
                    f"priority {priority} is more than tenant {tenant.name} may have, which is {tenant.max_priority}",
                    hint=f"for who runs the platform: tenants.{tenant.name}.maxPriority",
                    code="priority_not_permitted",
                )
            return priority
    raise InvalidInput(f"priority is {str(said)[:40]!r}; it has to be one of {', '.join(PRIORITIES)}", param="priority")


def no_room(model: str) -> Refused:
    return Refused(
        f"no replica of {model} has room now",
        retry_after_s=RETRY_AFTER_S,
        hint="send `Prefer: respond-async` to be answered with a task",
        code="no_room",
    )
