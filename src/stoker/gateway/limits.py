"""What one caller may spend, made once from its account and remembered."""

from collections import OrderedDict
from collections.abc import Sequence

from stoker.base.errors import InvalidInput
from stoker.gateway.bounds import Bound
from stoker.meter.accounts import Account
from stoker.meter.limits import limits_of_account
from stoker.policy.budgets import Amounts, Plan
from stoker.spec import Budgets

# Callers (key, session and run) that are remembered; a forgotten one is made again in some 20 us.
REMEMBERED = 20_000

Json = dict[str, object]


class Terms:
    """The plan of a caller's counters, and what a single request may cost at most."""

    __slots__ = (
        "_shared",
        "_shared_counters",
        "account",
        "limits",
        "most_tokens",
        "most_usd",
        "plan",
        "run",
        "session",
    )

    def __init__(self, account: Account, session: str | None, run: str | None) -> None:
        self.account = account
        self.session = session
        self.run = run
        self.limits = [named.limit for named in limits_of_account(account, session, run)]
        self.plan = Plan(self.limits)
        budgets = _levels(account, session, run)
        self.most_tokens = min((b.request_tokens for b in budgets if b.request_tokens is not None), default=None)
        self.most_usd = min((b.request_usd for b in budgets if b.request_usd is not None), default=None)
        self._shared: Json = {}
        self._shared_counters: object = None

    def check(self, bound: Bound) -> None:
        """Raises InvalidInput for a request that is larger than a single one may be: waiting would not help."""
        if self.most_tokens is not None and bound.tokens > self.most_tokens:
            raise InvalidInput(
                f"this request could take {bound.tokens} tokens ({bound.prompt_tokens} of prompt and "
                f"{bound.completion_tokens} of answer at most); one request may take {self.most_tokens}",
                param="max_tokens",
                hint="ask for a shorter answer, or send less",
                code="request_over_budget",
            )
        if self.most_usd is not None and bound.nano_usd > self.most_usd * 10**9:
            raise InvalidInput(
                f"this request could cost ${bound.nano_usd / 1e9:.9f}; one request may cost ${self.most_usd}",
                param="max_tokens",
                hint="ask for a shorter answer, or send less",
                code="request_over_budget",
            )

    def shared(self, now: float) -> Json:
        """What the journal writes once for all requests of this caller in this minute: the same object each time."""
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
            }
        return self._shared


def parts_of(shared: Json, amounts: Amounts) -> Sequence[tuple[str, int, int]]:
    """Counter, place of its unit, and amount, of a request that was written into a journal."""
    counters = shared["counters"]
    assert isinstance(counters, list)  # noqa: S101 - `shared` wrote it
    return [(name, place, amounts[place]) for name, place in counters if amounts[place]]


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
    """Terms by caller, the most recent ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str | None, str | None], Terms] = OrderedDict()

    def of(self, account: Account, session: str | None, run: str | None) -> Terms:
        name = (account.id, session, run)
        terms = self._known.get(name)
        if terms is not None and (terms.account is account or terms.account == account):
            self._known.move_to_end(name)
            return terms
        terms = self._known[name] = Terms(account, session, run)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return terms
