"""What the admin API is asked about keys and usage.

Sections like those of platform.yaml, so that a wrong value is answered in the same words. Tenants and teams are sent as
they stand in platform.yaml.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from stoker.spec.budgets import NO_BUDGETS, Budgets, Tenant
from stoker.spec.faults import Fault
from stoker.spec.section import Expected, Name, Section

_Label = Annotated[
    str,
    StringConstraints(max_length=100, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]*$"),
    Expected("text of at most 100 characters on one line"),
]
_Names = Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=1000)]
# The year 2100: later than any key should live, and a time in milliseconds is beyond it.
_Time = Annotated[
    float,
    Field(ge=0, le=4_102_444_800, allow_inf_nan=False),
    Expected("a time as seconds since the epoch, before the year 2100"),
]


class NewTenant(Tenant):
    """A tenant that is to be made: its section of platform.yaml, with its name in it."""

    name: Name


class KeyTerms(Section):
    """What of a key can be changed."""

    name: _Label = ""
    """For people; shown wherever the key is."""

    budgets: Budgets = NO_BUDGETS
    """Limits on what the key spends. The same keys as in a tenant's budgets."""

    models: _Names | None = None
    """Models that it may use. null allows all."""

    routes: _Names | None = None
    """Routes that it may use. null allows all."""

    expires_at: Annotated[_Time | None, Field(alias="expires_at")] = None
    """Seconds since the epoch after which it is refused. null: never."""


class NewKey(KeyTerms):
    """A key that is to be made. The tenant and the team are made with it when they are not there."""

    tenant: Name
    team: Name | None = None
    role: Literal["user", "admin"] = "user"


class Rotation(Section):
    grace_seconds: Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False, alias="grace_seconds")] = 0.0
    """Seconds for which the old secret still works."""


_Day = Annotated[
    str, StringConstraints(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), Expected("a date, such as 2026-01-31, in quotes")
]


class Pruning(Section):
    before: _Day
    """The first day whose records are kept, UTC."""


MOST_AGE_S = 10 * 366 * 86400
_Age = Annotated[float, Field(ge=0, le=MOST_AGE_S, allow_inf_nan=False)]
_TaskId = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern="^[!-~]+$"), Expected("the id of a task")
]
_Why = Annotated[
    str,
    StringConstraints(
        max_length=500, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$"
    ),
    Expected("the reason, in at most 500 characters on one line"),
]


# As JSON Schema has it, 5.0 is a whole number, too.
_Most = Annotated[
    int,
    Field(ge=1, le=1000),
    BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value),
]


class Letters(Section):
    """Which dead letters are meant: those of these ids, or those that all else that is written here is true of."""

    ids: Annotated[tuple[_TaskId, ...], Field(strict=False, max_length=1000)] = ()
    """Ids of tasks."""

    model: Name | None = None
    """Those of this model."""

    tenant: Name | None = None
    """Those of this tenant."""

    reason: str | None = None
    """Those whose error has this code."""

    older_than: Annotated[_Age | None, Field(alias="older_than")] = None
    """Those that died longer ago than so many seconds."""

    newer_than: Annotated[_Age | None, Field(alias="newer_than")] = None
    """Those that died within the last so many seconds."""

    everything: Annotated[bool, Field(alias="all")] = False
    """All of them: nobody should mean that by leaving out the rest."""

    most: Annotated[_Most, Field(alias="max")] = 100
    """How many at most."""

    def broken_rules(self) -> Iterator[Fault]:
        narrower = ("model", "tenant", "reason", "older_than", "newer_than")
        given = [name for name in narrower if getattr(self, name) is not None]
        if self.ids and (given or self.everything):
            yield Fault(("ids",), "ids stand alone; leave them out, or everything else")
        if not self.ids and not given and not self.everything:
            yield Fault(
                (),
                "nothing says which are meant; write ids, model, tenant, reason, older_than, newer_than, or all: true",
            )


class Dropping(Letters):
    why: _Why
    """Why they are given up; kept in the log."""


class FromSqs(Section):
    most: Annotated[_Most, Field(alias="max")] = 100
    """How many messages are received at most."""
