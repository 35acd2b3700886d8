"""Telling people that a budget is being used up, by webhook and by SNS.

Each batch of usage records says which tenants, teams, keys and agents have spent something. Of those, and of nobody
else, it is looked up how far their budgets are used up: one call to Redis. A threshold that is reached is written into
the ledger's database before the batch is acknowledged (`Settler.noticed`), so it survives any process, and only once,
whoever else sees it. What is owed is told by any gateway, with retries, the thresholds of a budget in their order.
`docs/budgets.md` has the picture.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, NamedTuple

from stoker.aws.sns import SnsTopic
from stoker.base import json_text, logs
from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, NotFound, StokerError
from stoker.gateway.callbacks import GONE, MOST_TRIES, Outcome, called, retry_in_s
from stoker.gateway.limits import Terms
from stoker.meter import UsageRecord
from stoker.meter.alerts import Alert, AlertStore
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.limits import COUNTED, limits_of
from stoker.meter.tenants import TenantStore
from stoker.policy import callbacks as rules
from stoker.policy.alerts import MILLIONTHS, Budget, budget_of, crossed, used_up_at
from stoker.policy.budgets import Counter, Scope, ScopeKind, Unit, inside, scope_name
from stoker.queue import BudgetStore
from stoker.queue.budgets import Standing
from stoker.spec import NO_BUDGETS, Budgets, Platform
from stoker.spec.costs import Webhook
from stoker.spec.section import yaml_name

Json = dict[str, Any]

_log = logs.get(__name__)

LOOK_EVERY_S = 1.0
AT_ONCE = 16
# Longer than a call may take, with the lookup of its address.
LEASE_S = 60.0
LATELY_S = 3600.0
"""What was spent in this time is what the forecast takes for the present rate."""
KEPT_S = 7 * 86_400.0
"""After the end of its window an alert is forgotten."""
FORGET_EVERY_S = 3600.0
# Counters of which it is remembered that their thresholds are written down; another one is written once more, in vain.
REMEMBERED = 50_000
REFUSED = MILLIONTHS + 1
"""In place of a threshold: too little was left for a request."""
MOST_REFUSED = 10_000
WEBHOOK, SNS = "webhook", "sns"


class Whose(NamedTuple):
    kind: ScopeKind
    tenant: str
    """Empty for an agent, which is of all tenants."""
    name: str


def whose_counter(terms: Terms, counter: str) -> Whose | None:
    """Of a counter that a caller falls under; None for one of a session or a run."""
    account, kind = terms.account, counter.partition(":")[0]
    match kind:
        case "tenant":
            return Whose("tenant", account.tenant, account.tenant)
        case "team" if account.team is not None:
            return Whose("team", account.tenant, account.team)
        case "key":
            return Whose("key", account.tenant, account.id)
        case "agent" if terms.agent is not None:
            return Whose("agent", "", terms.agent)
    return None


def scopes_in(records: Sequence[UsageRecord]) -> dict[str, Whose]:
    """Who has spent something, by the names that their counters begin with. Steps of agents cost nothing."""
    found: dict[str, Whose] = {}
    for who in {(each.tenant, each.team, each.key_id, each.agent) for each in records if each.kind != "step"}:
        tenant, team, key_id, agent = who
        found[scope_name(Scope("tenant", tenant))] = Whose("tenant", tenant, tenant)
        found[scope_name(Scope("key", key_id))] = Whose("key", tenant, key_id)
        if team is not None:
            found[scope_name(Scope("team", inside(tenant, team)))] = Whose("team", tenant, team)
        if agent is not None:
            found[scope_name(Scope("agent", agent))] = Whose("agent", "", agent)
    return found


class Alerts:
    """Raises InvalidInput for a webhook whose secret is not in the environment, and for SNS without boto3."""

    def __init__(
        self,
        platform: Platform,
        *,
        store: AlertStore,
        budgets: BudgetStore,
        keys: KeyStore,
        tenants: TenantStore,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        said = platform.costs.alerts
        self._platform, self._store, self._budgets = platform, store, budgets
        self._keys, self._tenants, self._ledger = keys, tenants, ledger
        self._clock, self._random = clock, random
        self._thresholds = [int(each * MILLIONTHS) for each in said.thresholds]
        self._channels: dict[str, _WebhookChannel | _SnsChannel] = {}
        if said.webhook is not None:
            self._channels[WEBHOOK] = _WebhookChannel(said.webhook, clock, environ)
        if said.sns is not None:
            self._channels[SNS] = _SnsChannel(SnsTopic(said.sns, region=platform.global_.cluster.region))
        # Apart for the thresholds and for what was refused: who was refused early goes on to reach thresholds.
        self._written: OrderedDict[tuple[str, int, bool], int] = OrderedDict()
        self._refused: dict[str, tuple[Whose, int]] = {}
        self._forget_at = 0.0

    # --- noticing -----------------------------------------------------------------------------------------------------

    async def notice(self, records: Sequence[UsageRecord]) -> None:
        """Write down what these records have made due. Raises QueueUnavailable, Unavailable (the ledger)."""
        whose = scopes_in(records)
        standings = await self._budgets.standings(list(whose))
        found = [each for each in standings if self._is_new(each)]
        if found:
            reached = [(each, self._reached(each)) for each in found]
            await asyncio.to_thread(
                self._raise, reached, {each.counter: whose[_scope_of(each.counter)] for each in found}
            )
            for standing in found:
                self._remember(standing.counter, standing.limit, self._reached(standing)[-1])

    def refused(self, terms: Terms, counter: Counter) -> None:
        """A request found too little left of a budget. It is told once for each window and limit: what is left may be
        more than nothing for ever, so that the last threshold is not reached by what is spent."""
        if (counter.name, counter.limit, True) not in self._written and len(self._refused) < MOST_REFUSED:
            whose = whose_counter(terms, counter.name)
            if whose is not None and budget_of(counter.name) is not None:
                self._refused[counter.name] = (whose, counter.limit)

    async def notice_refused(self) -> None:
        """Write down what `refused` was told. Raises QueueUnavailable, Unavailable (the ledger)."""
        refused = dict(self._refused)
        if not refused:
            return
        states = await self._budgets.state(list(refused))
        found = [
            Standing(counter, state.spent, limit)
            for (counter, (_, limit)), state in zip(refused.items(), states, strict=True)
            if state is not None
        ]
        whose = {counter: who for counter, (who, _) in refused.items()}
        await asyncio.to_thread(self._raise, [(each, [REFUSED]) for each in found], whose)
        for each in found:
            self._remember(each.counter, each.limit, REFUSED)
        for counter in refused:
            del self._refused[counter]

    def _reached(self, standing: Standing) -> list[int]:
        return crossed(standing.spent, standing.limit, self._thresholds)

    def _is_new(self, standing: Standing) -> bool:
        """Whether a threshold is reached that was not written down yet, as far as this process knows."""
        reached = self._reached(standing)
        if not reached or self._written.get((standing.counter, standing.limit, False), 0) >= reached[-1]:
            return False
        budget = budget_of(standing.counter)
        return budget is not None and (budget.ends_at is None or budget.ends_at > self._clock.now())

    def _remember(self, counter: str, limit: int, threshold: int) -> None:
        key = (counter, limit, threshold == REFUSED)
        self._written[key] = max(threshold, self._written.get(key, 0))
        self._written.move_to_end(key)
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _raise(self, found: Sequence[tuple[Standing, Sequence[int]]], whose: Mapping[str, Whose]) -> None:
        now = self._clock.now()
        self._store.raise_all(
            [
                Alert(
                    channel=channel,
                    counter=standing.counter,
                    limit=standing.limit,
                    threshold=threshold,
                    body=body,
                    raised_at=now,
                    ends_at=ends_at,
                )
                for standing, thresholds in found
                for threshold, ends_at, body in self._bodies(standing, thresholds, whose[standing.counter], now)
                for channel in self._channels
            ]
        )

    def _bodies(
        self, standing: Standing, thresholds: Sequence[int], who: Whose, now: float
    ) -> Iterator[tuple[int, float | None, str]]:
        budget = budget_of(standing.counter)
        if budget is None or not self._is_set(who, budget, standing.limit):
            return  # Redis knows a limit that was changed or taken away, and not yet the one that holds
        since = now - LATELY_S if budget.began_at is None else max(budget.began_at, now - LATELY_S)
        lately = getattr(self._ledger.spent(who.kind, who.tenant, who.name, since=since), budget.unit.value)
        for threshold in thresholds:
            said = told_of(who, standing, budget, threshold, now=now, spent_lately=lately, lately_s=now - since)
            yield threshold, budget.ends_at, json_text.dumps(said).decode()

    def _is_set(self, who: Whose, budget: Budget, limit: int) -> bool:
        id = inside(who.tenant, who.name) if who.kind == "team" else who.name
        return any(
            (each.limit.unit, each.limit.window, each.limit.amount) == (budget.unit, budget.window, limit)
            for each in limits_of(Scope(who.kind, id), self._budgets_of(who))
        )

    def _budgets_of(self, who: Whose) -> Budgets:
        try:
            if who.kind == "key":
                return self._keys.get(who.name).budgets
            if who.kind == "agent":
                agent = self._platform.agents.definitions.get(who.name)
                return NO_BUDGETS if agent is None else agent.budgets
            record = self._tenants.get(who.tenant)
        except NotFound:
            return NO_BUDGETS
        if who.kind == "tenant":
            return record.terms.budgets
        return record.teams[who.name].terms.budgets if who.name in record.teams else NO_BUDGETS

    # --- telling ------------------------------------------------------------------------------------------------------

    async def tell_forever(self) -> None:
        """Until it is cancelled; what is on its way then is told again by whoever comes. Each channel for itself: one
        whose receiver takes its time holds up no other."""
        async with asyncio.TaskGroup() as channels:
            for each in (*self._channels, None):
                channels.create_task(self._forever(partial(self._tell_due, each)))

    async def notice_forever(self) -> None:
        """Until it is cancelled. Apart from telling: a receiver may take its time, and until it is written down a
        refusal is lost with this process."""
        await self._forever(self.notice_refused)

    async def _forever(self, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
            except StokerError as error:
                _log.warning("alerts of budgets wait for Redis or the ledger", error=error.in_log)
            await self._clock.sleep(LOOK_EVERY_S)

    async def tell_due(self) -> int:
        """Tell what is due, until nothing is; how many calls were made. Raises Unavailable (the ledger)."""
        return sum([await self._tell_due(each) for each in (*self._channels, None)])

    async def _tell_due(self, channel: str | None) -> int:
        """None: what is owed to those that are in the platform.yaml no more."""
        made, now = 0, self._clock.now()
        if channel is None and now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            await asyncio.to_thread(self._store.forget, now - KEPT_S)
        but = [] if channel is not None else list(self._channels)
        take = partial(self._store.take, lease_s=LEASE_S, most=AT_ONCE, channel=channel, but=but)
        # A lease begins when it is taken: telling those before may have lasted longer than one.
        while due := await asyncio.to_thread(take, self._clock.now()):
            await asyncio.gather(*(self._tell(each) for each in due))
            made += len(due)
        return made

    async def _tell(self, alert: Alert) -> None:
        channel = self._channels.get(alert.channel)
        if channel is None:
            await asyncio.to_thread(self._store.failed, alert, "this channel is in the platform.yaml no more")
            return
        outcome = await channel.tell(alert)
        tries, now = alert.tries + 1, self._clock.now()
        if outcome.is_done:
            await asyncio.to_thread(self._store.told, alert, now)
            return
        error = outcome.error or "refused"
        is_over = outcome.status == GONE or tries >= MOST_TRIES
        _log.warning("an alert was not told", counter=alert.counter, channel=alert.channel, tries=tries, error=error)
        if is_over:
            await asyncio.to_thread(self._store.failed, alert, error)
        else:
            due_at = now + retry_in_s(tries, self._random)
            await asyncio.to_thread(lambda: self._store.again(alert, due_at=due_at, error=error))

    async def aclose(self) -> None:
        for channel in self._channels.values():
            await channel.aclose()


class _WebhookChannel:
    """A signed POST. Raises InvalidInput for a URL or a secret that is none."""

    def __init__(self, said: Webhook, clock: Clock, environ: Mapping[str, str]) -> None:
        self._target = rules.target_of(said.url)
        self._networks, self._clock = said.networks, clock
        try:
            self._secrets = rules.secrets_in(environ.get(said.secret_env) or "")
        except InvalidInput as error:
            raise InvalidInput(
                f"costs.alerts.webhook.secretEnv names {said.secret_env}, which holds no secret that can sign",
                param="costs.alerts.webhook.secretEnv",
                hint='whsec_ and 24 to 64 bytes in base64: python3 -c "import base64, os; '
                "print('whsec_' + base64.b64encode(os.urandom(32)).decode())\"",
            ) from error

    async def tell(self, alert: Alert) -> Outcome:
        return await called(
            self._target,
            self._networks,
            self._secrets,
            message_id=id_of(alert),
            body=alert.body.encode(),
            now=self._clock.now(),
        )

    async def aclose(self) -> None:
        pass


class _SnsChannel:
    def __init__(self, topic: SnsTopic) -> None:
        self._topic = topic

    async def tell(self, alert: Alert) -> Outcome:
        said = json_text.loads(alert.body)["data"]
        is_refused = alert.threshold == REFUSED
        what = "requests are refused" if is_refused else f"{100 * said['threshold']:g}% is spent"
        subject = f"{said['scope']} {said['id']}: {what} of {said['budget']}"
        attributes = {
            "type": type_of(alert.threshold),
            "scope": said["scope"],
            "tenant": said["tenant"],
            "id": id_of(alert),
        }
        try:
            await self._topic.publish(alert.body, subject=subject, attributes=attributes)
        except StokerError as error:
            return Outcome(None, error.message)
        return Outcome(200)

    async def aclose(self) -> None:
        await self._topic.aclose()


def told_of(
    who: Whose,
    standing: Standing,
    budget: Budget,
    threshold: int,
    *,
    now: float,
    spent_lately: int,
    lately_s: float,
) -> Json:
    """What is sent, in the envelope of Standard Webhooks. Money in US dollars, times in seconds since the epoch."""
    at = used_up_at(
        now=now,
        left=standing.limit - standing.spent,
        spent_lately=spent_lately,
        lately_s=lately_s,
        ends_at=budget.ends_at,
    )
    per_hour = spent_lately * 3600 / lately_s if lately_s > 0 else 0.0
    field = next(name for name, counted in COUNTED.items() if counted == (budget.unit, budget.window))
    data = {
        "scope": who.kind,
        "tenant": who.tenant or None,
        "id": who.name,
        "budget": yaml_name(field),
        "window": budget.window.value,
        "unit": "usd" if budget.unit is Unit.NANO_USD else budget.unit.value,
        "limit": _amount(budget.unit, standing.limit),
        "used": _amount(budget.unit, standing.spent),
        "fraction": round(standing.spent / standing.limit, 6) if standing.limit else 1.0,
        "threshold": None if threshold == REFUSED else threshold / MILLIONTHS,
        "ends_at": budget.ends_at,
        "forecast": {"per_hour": _amount(budget.unit, per_hour), "used_up_at": at},
    }
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    return {"type": type_of(threshold), "timestamp": timestamp, "data": data}


def type_of(threshold: int) -> str:
    return "budget.refused" if threshold == REFUSED else "budget.threshold"


def _scope_of(counter: str) -> str:
    return ":".join(counter.split(":")[:2])


def id_of(alert: Alert) -> str:
    """The same at each try, and on each channel."""
    said = f"{alert.counter} {alert.limit} {alert.threshold}".encode()
    return "msg_" + hashlib.blake2b(said, digest_size=16).hexdigest()


def _amount(unit: Unit, amount: float) -> float:
    return amount / 1e9 if unit is Unit.NANO_USD else amount
