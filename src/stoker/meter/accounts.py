"""Who may spend what: the account behind a key, with every limit that its requests fall under.

`Account` is all that the gateway needs to let a request in. It is made from one row of the database, kept in memory for
each key in use (so it is small, and what many keys have in common they share), and never changed: a change in the
database makes a new one.
"""

from dataclasses import dataclass
from typing import Literal

from stoker.meter.grants import Grant
from stoker.meter.texts import of_text
from stoker.spec import NO_BUDGETS, Budgets, Priority, WhenBusy, WhenRedisIsAway

Role = Literal["user", "admin"]
Source = Literal["file", "api"]
"""Where a tenant or team is written: in platform.yaml, which wins at each start, or by the admin API alone."""


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What holds for everything that a tenant does, and for each of its sessions and agent runs."""

    name: str
    budgets: Budgets = NO_BUDGETS
    session_budgets: Budgets = NO_BUDGETS
    run_budgets: Budgets = NO_BUDGETS
    when_redis_is_away: WhenRedisIsAway = "closed"
    weight: int = 1
    max_priority: Priority = "interactive"
    when_busy: WhenBusy = "wait"
    callback_hosts: tuple[str, ...] = ()
    callback_secret_env: str | None = None
    record_content: bool = False


@dataclass(frozen=True, slots=True)
class TeamTerms:
    """What holds for all keys of a team together. `name` is the team's name within its tenant."""

    name: str
    budgets: Budgets = NO_BUDGETS


@dataclass(frozen=True, slots=True)
class Account:
    """A key that may be used now, and what it stands for.

    `id` is the key's, and stays when the key is rotated: budgets and usage go on. `models` and `routes` are the names
    that it may use, None all of them. After `expires_at` (seconds since the epoch; None: never) it is nobody's.
    """

    id: str
    name: str
    role: Role
    tenant_terms: TenantTerms
    team_terms: TeamTerms | None = None
    budgets_text: str = "{}"
    """Its own budgets as the store has them: of many keys that are known few are in use, and a text is a tenth of the
    object."""
    models: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    expires_at: float | None = None
    grant: Grant | None = None
    """The run in whose name the key is used, when it is not used by its holder."""

    @property
    def tenant(self) -> str:
        return self.tenant_terms.name

    @property
    def team(self) -> str | None:
        return None if self.team_terms is None else self.team_terms.name

    @property
    def budgets(self) -> Budgets:
        return of_text(Budgets, self.budgets_text)

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at
