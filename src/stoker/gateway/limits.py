"""What one caller may spend, made once from its account and remembered."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NoReturn

from stoker.base.errors import InvalidInput
from stoker.gateway.bounds import Bound, Quote
from stoker.gateway.receipts import money
from stoker.meter.accounts import Account
from stoker.meter.limits import limits_of_account
from stoker.policy.budgets import Plan, Scope, Unit, inside, runs_counted, scope_name
from stoker.spec import NO_BUDGETS, Budgets

# Callers (key, session and run) that are remembered; a forgotten one is made again in some 20 us.
REMEMBERED = 20_000

# The ledger's columns hold no more; no model has a context of that size.
MOST_TOKENS = 2**31 - 1

Json = dict[str, object]


class Terms:
    """The plan of a caller's counters, and what a single request may cost at most."""

    __slots__ = (
        "_shared",
        "_shared_counters",
        "account",
        "agent",
        "most_tokens",
        "most_usd",
        "plan",
        "run",
        "session",
    )

    def __init__(
        self,
        account: Account,
        session: str | None,
        run: str | None,
        agent: str | None = None,
        agent_budgets: Budgets = NO_BUDGETS,
    ) -> None:
        self.account = account
        self.session = session
        self.run = run
        self.agent = agent
        self.plan = Plan(named.limit for named in limits_of_account(account, session, run, agent, agent_budgets))
        budgets = [*_levels(account, session, run), agent_budgets]
        self.most_tokens = min((b.request_tokens for b in budgets if b.request_tokens is not None), default=None)
        self.most_usd = min((b.request_usd for b in budgets if b.request_usd is not None), default=None)
        self._shared: Json = {}
        self._shared_counters: object = None

    def fitting(self, quote: Quote) -> tuple[Quote, Bound]:
        """The quote, shortened where it may be to what a single request may cost, and its bound. Raises InvalidInput
        for a request that is larger than that: waiting would not help."""
        bound = quote.bound()
        most_tokens = MOST_TOKENS if self.most_tokens is None else min(self.most_tokens, MOST_TOKENS)
        most_nano_usd = None if self.most_usd is None else int(self.most_usd.scaleb(9))
        if bound.tokens <= most_tokens and (most_nano_usd is None or bound.nano_usd <= most_nano_usd):
            return quote, bound
        shorter = quote.shortened(tokens=most_tokens, nano_usd=most_nano_usd)
        if shorter is None:
            self._refuse(bound, most_tokens)
        return shorter, shorter.bound()

    def _refuse(self, bound: Bound, most_tokens: int) -> NoReturn:
        if bound.tokens > most_tokens:
            raise over_budget(bound, Unit.TOKENS, f"one request may take {most_tokens}")
        raise over_budget(bound, Unit.NANO_USD, f"one request may cost ${self.most_usd}")

    def run_called(self, scope: str) -> str | None:
        """The run, this one or one above it, whose counters' names begin so."""
        runs, tenant = runs_counted(self.run, self.agent), self.account.tenant
        return next((run for run in runs if scope_name(Scope("run", inside(tenant, run))) == scope), None)

    def shared(self, now: float) -> Json:
        """Whose requests these are and which counters they fall under at `now`: the same object for a whole minute."""
        counters = self.plan.at(now)
        if self._shared_counters is not counters:
            self._shared_counters = counters
            self._shared = {
                "counters": [[counter.name, counter.place] for counter in counters],
                "tenant": self.account.tenant,
                "team": self.account.team,
                "key_id": self.account.id,
                "session": self.session,
                "run": self.run,
                "agent": self.agent,
            }
        return self._shared


def over_budget(bound: Bound, unit: Unit, most: str) -> InvalidInput:
    """The refusal of a request that asks for more than it can ever get. `most` says what that is."""
    if unit is Unit.NANO_USD:
        could = f"this request could cost {money(bound.nano_usd)}"
    else:
        could = (
            f"this request could take {bound.tokens} tokens ({bound.prompt_tokens} of prompt and "
            f"{bound.completion_tokens} of answer at most)"
        )
    return InvalidInput(
        f"{could}; {most}",
        param="max_tokens",
        hint="ask for a shorter answer, or send less",
        code="request_over_budget",
    )


def counters_of(shared: Mapping[str, object]) -> Sequence[tuple[str, int]]:
    """Name and place of the unit in `Amounts` of each counter, of a request that a journal tells of."""
    counters = shared["counters"]
    assert isinstance(counters, list)  # noqa: S101 - `shared` wrote it
    return [(name, place) for name, place in counters]


def _levels(account: Account, session: str | None, run: str | None) -> list[Budgets]:
    terms = account.tenant_terms
    levels = [account.budgets, terms.budgets]
    if account.team_terms is not None:
        levels.append(account.team_terms.budgets)
    if session is not None:
        levels.append(terms.session_budgets)
    if run is not None:
        levels.append(terms.run_budgets)
    return levels


class TermsOfCallers:
    """Terms by caller, the most recent ones. `agents`: the budgets of each agent."""

    def __init__(self, agents: Mapping[str, Budgets] | None = None) -> None:
        self._known: OrderedDict[tuple[str, str | None, str | None, str | None], Terms] = OrderedDict()
        self._agents = agents or {}

    def of(self, account: Account, session: str | None, run: str | None, agent: str | None = None) -> Terms:
        name = (account.id, session, run, agent)
        terms = self._known.get(name)
        if terms is not None and (terms.account is account or terms.account == account):
            self._known.move_to_end(name)
            return terms
        budgets = NO_BUDGETS if agent is None else self._agents.get(agent, NO_BUDGETS)
        terms = self._known[name] = Terms(account, session, run, agent, budgets)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return terms
