"""`tenants`: who is accounted for, and the limits on what each may spend."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from stoker.spec.section import EnvName, Expected, Name, Section, decimal_as_written

WhenRedisIsAway = Literal["closed", "open"]
Priority = Literal["interactive", "normal", "batch"]  # the highest first
WhenBusy = Literal["wait", "async", "refuse"]

# Counters are kept by Redis scripts, whose numbers are exact up to 2^53 (9.007e15): nano-dollars and tokens stay below.
MOST_TOKENS = 10**15
MOST_REQUESTS = 10**9
MOST_CONCURRENT = 10**6
MOST_USD = 1_000_000
LEAST_USD = 1e-9  # a nano-dollar


def _count(most: int) -> Expected:
    return Expected(f"a whole number from 1 to {most} (0 would refuse every request; leave it out for no limit)")


_Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS), _count(MOST_TOKENS)]
_Requests = Annotated[int, Field(ge=1, le=MOST_REQUESTS), _count(MOST_REQUESTS)]
_Concurrent = Annotated[int, Field(ge=1, le=MOST_CONCURRENT), _count(MOST_CONCURRENT)]
_Usd = Annotated[
    Decimal,
    BeforeValidator(decimal_as_written),
    Field(gt=0, le=MOST_USD, decimal_places=9, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": LEAST_USD, "maximum": MOST_USD}),
    Expected(
        f"an amount in US dollars above 0 and at most {MOST_USD} with at most 9 decimals, as a number "
        "(0 would refuse every request; leave it out for no limit)"
    ),
]


class Budgets(Section):
    """Limits that hold at the same time; what is left out has none. Days and months are UTC's. Tokens are those of
    prompt and answer together; dollars are at the model's list prices."""

    leaves_out_defaults: ClassVar[bool] = True

    request_tokens: _Tokens | None = None
    """Tokens that one request may cost at most: its prompt and the longest answer that it asks for. null sets no
    limit."""

    request_usd: _Usd | None = None
    """US dollars that one request may cost at most. null sets no limit."""

    requests_per_minute: _Requests | None = None
    """Requests that may begin in a minute of the clock. null sets no limit."""

    tokens_per_minute: _Tokens | None = None
    """Tokens in a minute of the clock. null sets no limit."""

    tokens_per_day: _Tokens | None = None
    """Tokens in a day, from midnight UTC. null sets no limit."""

    usd_per_day: _Usd | None = None
    """US dollars in a day, from midnight UTC. null sets no limit."""

    tokens_per_month: _Tokens | None = None
    """Tokens in a calendar month, UTC. null sets no limit."""

    usd_per_month: _Usd | None = None
    """US dollars in a calendar month, UTC. null sets no limit."""

    tokens_total: _Tokens | None = None
    """Tokens ever: this one does not renew. null sets no limit."""

    usd_total: _Usd | None = None
    """US dollars ever: this one does not renew. null sets no limit."""

    concurrent_requests: _Concurrent | None = None
    """Requests that may run or wait at once. null sets no limit."""


NO_BUDGETS = Budgets()

Description = Annotated[str, StringConstraints(max_length=500), Expected("text of at most 500 characters")]


CallbackHost = Annotated[
    str,
    StringConstraints(
        pattern="^(([*][.])?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9.]{7,15}/[0-9]{1,2}|[0-9a-fA-F:.]{2,45}(/[0-9]{1,3})?)$"
    ),
    Expected("a host name, *.example.com, an IP address, or a network such as 10.0.0.0/8"),
]


class Team(Section):
    """Some of a tenant's keys, with limits on what they spend together."""

    leaves_out_defaults: ClassVar[bool] = True

    description: Description = ""
    """For people; shown beside the team's usage."""

    budgets: Budgets = NO_BUDGETS
    """Limits on what all keys of the team spend together. The same keys as in a tenant's budgets."""


class Tenant(Section):
    """Somebody who uses the platform and is accounted for on their own."""

    leaves_out_defaults: ClassVar[bool] = True

    description: Description = ""
    """For people; shown beside the tenant's usage."""

    budgets: Budgets = NO_BUDGETS
    """Limits on what all keys of the tenant spend together, such as {usdPerMonth: 500, tokensPerMinute: 200000}. A
    request is let in when it fits every budget that it falls under: key, team, tenant, session, run and agent."""

    session_budgets: Budgets = NO_BUDGETS
    """Limits on what each session spends (X-Session-Id). The same keys as in budgets."""

    run_budgets: Budgets = NO_BUDGETS
    """Limits on what each agent run spends (X-Run-Id). The same keys as in budgets."""

    when_redis_is_away: WhenRedisIsAway = "closed"
    """What becomes of requests while Redis does not answer: closed refuses them; open goes on until what a gateway has
    set aside is used up, which never overspends."""

    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Its part of a model's time while others wait, too: one with 3 gets three times the tokens of one with 1."""

    max_priority: Priority = "interactive"
    """The highest priority that its work may have where it waits: requests are interactive, tasks normal, batches
    batch. What would have a higher one gets this."""

    when_busy: WhenBusy = "wait"
    """What becomes of a request for which no replica has room: wait keeps the client on the line, async answers 202
    with a task to be fetched later, refuse answers 429."""

    callback_hosts: Annotated[tuple[CallbackHost, ...], Field(strict=False, max_length=100)] = ()
    """Hosts that its tasks may have called at their end (callback_url), none by default: names, *.example.com for all
    names below a domain, and addresses or networks, without which no private address is called."""

    record_content: bool = False
    """Whether prompts and answers of its requests and of its agents' runs are written on spans, where traces are sent
    somewhere. For requests it may be set by the API, too; runs go by platform.yaml."""

    callback_secret_env: EnvName | None = None
    """Environment variable with the secret that signs those calls: whsec_ and 24 to 64 bytes in base64. null refuses
    callback_url."""

    teams: Mapping[Name, Team] = Field(default={}, max_length=10_000)
    """Teams of the tenant, by name. A key belongs to one or to none."""


Tenants = Mapping[Name, Tenant]
