"""What the admin API is asked about keys and usage.

Sections like those of platform.yaml, so that a wrong value is answered in the same words. Tenants and teams are sent as
they stand in platform.yaml.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stoker.spec.budgets import NO_BUDGETS, Budgets, Tenant
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
