"""`/admin/v1/tenants`, `keys` and `budgets`: who may spend what. The admin key only.

Tenants and teams are sent and shown as they stand in platform.yaml; a change is a merge patch (RFC 7396): what is sent
replaces, null takes away, the rest stays. Wrong values are answered in the words that platform.yaml has for them. Each
change leaves a record in the audit log (`gateway.audited`), in the transaction in which it is made.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import logs
from stoker.base.errors import Conflict, InvalidInput, NotFound, QueueUnavailable
from stoker.gateway.audited import no_body
from stoker.gateway.services import Services
from stoker.meter.alerts import Alert
from stoker.meter.audit import Change
from stoker.meter.cost import usd
from stoker.meter.keys import Key, NewSecret
from stoker.meter.ledger import Ledger
from stoker.meter.limits import began_at, limits_of
from stoker.meter.tenants import TeamRecord, TenantRecord
from stoker.policy.alerts import MILLIONTHS
from stoker.policy.budgets import Scope, ScopeKind, Unit, counters, inside
from stoker.queue import CounterState
from stoker.spec import Budgets, Team, Tenant, plain, read_section
from stoker.spec.requests import KeyTerms, NewKey, NewTenant, Rotation
from stoker.spec.section import yaml_name
from stoker.web.parameters import Text, flag, whole, whole_of
from stoker.web.server import JSONResponse, read_json

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

_log = logs.get(__name__)
MOST_BODY_BYTES = 1 << 20
MOST_LISTED = 1000

TENANT = Text("tenant", "Only this tenant's.")
TEAM = Text("team", "Only this team's of the tenant.")
ENDED = flag("ended", "With those that were revoked or have expired, too.")
AFTER_KEY = Text("after", "Go on after the key with this id.")
KEYS_LIMIT = whole("limit", 1, MOST_LISTED, MOST_LISTED, "How many at most.")


def routes(services: Services) -> list[Route]:
    return _Accounts(services).routes()


class _Accounts:
    """The handlers, around the stores that they work on."""

    def __init__(self, services: Services) -> None:
        self._auth, self._clock = services.auth, services.clock
        self._platform, self._ledger, self._settle_all = services.platform, services.ledger, services.settle_all
        self._keys, self._tenants, self._budgets_store = services.keys, services.tenants, services.budgets
        self._stored, self._alerts = services.changes.stored, services.alerts

    def routes(self) -> list[Route]:
        at, stored = "/admin/v1", self._stored
        team = "team:{tenant}/{team}"
        return [
            Route(f"{at}/tenants", self._list_tenants, methods=["GET"]),
            Route(
                f"{at}/tenants", stored("tenants.create", "tenant:{name}", self._create_tenant, _body), methods=["POST"]
            ),
            Route(f"{at}/tenants/{{tenant}}", self._show_tenant, methods=["GET"]),
            Route(
                f"{at}/tenants/{{tenant}}",
                stored("tenants.update", "tenant:{tenant}", self._change_tenant, _body),
                methods=["PATCH"],
            ),
            Route(f"{at}/tenants/{{tenant}}/teams", self._list_teams, methods=["GET"]),
            Route(f"{at}/tenants/{{tenant}}/teams/{{team}}", self._show_team, methods=["GET"]),
            Route(
                f"{at}/tenants/{{tenant}}/teams/{{team}}",
                stored("teams.update", team, self._change_team, _body),
                methods=["PUT", "PATCH"],
            ),
            Route(f"{at}/keys", self._list_keys, methods=["GET"]),
            Route(f"{at}/keys", stored("keys.create", "key", self._create_key, _body), methods=["POST"]),
            Route(f"{at}/keys/{{id}}", self._show_key, methods=["GET"]),
            Route(f"{at}/keys/{{id}}", stored("keys.update", "key:{id}", self._change_key, _body), methods=["PATCH"]),
            Route(
                f"{at}/keys/{{id}}", stored("keys.revoke", "key:{id}", self._revoke_key, no_body), methods=["DELETE"]
            ),
            Route(
                f"{at}/keys/{{id}}/rotate",
                stored("keys.rotate", "key:{id}", self._rotate_key, _body_or_nothing),
                methods=["POST"],
            ),
            Route(f"{at}/budgets", self._budgets, methods=["GET"]),
        ]

    # --- tenants and teams --------------------------------------------------------------------------------------------

    async def _list_tenants(self, request: Request) -> Response:
        await self._auth.admin(request)
        found = await asyncio.to_thread(self._tenants.list)
        return JSONResponse({"tenants": [shown_tenant(tenant) for tenant in found]})

    async def _show_tenant(self, request: Request) -> Response:
        await self._auth.admin(request)
        return JSONResponse(shown_tenant(await self._tenant(request)))

    async def _create_tenant(self, request: Request, body: Json, change: Change) -> Response:
        name = read_section(NewTenant, body).name
        terms = read_section(Tenant, {key: value for key, value in body.items() if key != "name"})
        made = await asyncio.to_thread(self._tenants.create, name, terms, by=change)
        return JSONResponse(shown_tenant(made), 201)

    async def _change_tenant(self, request: Request, patch: Json, change: Change) -> Response:
        name = request.path_params["tenant"]
        _refuse_to_take_teams_away(patch)
        changed = await asyncio.to_thread(
            self._tenants.change, name, lambda terms: _patched(Tenant, terms, patch), by=change
        )
        return JSONResponse(shown_tenant(changed))

    async def _list_teams(self, request: Request) -> Response:
        await self._auth.admin(request)
        tenant = await self._tenant(request)
        return JSONResponse({"teams": [shown_team(team) for team in tenant.teams.values()]})

    async def _show_team(self, request: Request) -> Response:
        await self._auth.admin(request)
        return JSONResponse(shown_team(_team(await self._tenant(request), request.path_params["team"])))

    async def _change_team(self, request: Request, patch: Json, change: Change) -> Response:
        """PUT makes it when it is not there, and says so."""
        tenant, team = request.path_params["tenant"], request.path_params["team"]
        made = False

        def make(terms: Tenant) -> Tenant:
            nonlocal made
            made = team not in terms.teams
            if made and request.method == "PATCH":
                raise NotFound(f"tenant {tenant!r} has no team {team!r}", hint="PUT makes it")
            if made:
                change.did = "teams.create"
                read_section(Tenant, {"teams": {team: {}}})  # refuses what cannot be a name
            patched = _patched(Team, terms.teams.get(team, Team()), patch)
            return terms.model_copy(update={"teams": {**terms.teams, team: patched}})

        changed = await asyncio.to_thread(self._tenants.change, tenant, make, by=change)
        return JSONResponse({**shown_team(changed.teams[team]), "made_team": made}, 201 if made else 200)

    async def _tenant(self, request: Request) -> TenantRecord:
        return await asyncio.to_thread(self._tenants.get, request.path_params["tenant"])

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def _list_keys(self, request: Request) -> Response:
        await self._auth.admin(request)
        limit = whole_of(KEYS_LIMIT, request)
        found = await asyncio.to_thread(
            self._keys_of,
            TENANT.of(request),
            TEAM.of(request),
            ended=ENDED.of(request) == "true",
            after=AFTER_KEY.of(request),
            limit=limit + 1,
        )
        keys = [shown_key(key, self._clock.now()) for key in found[:limit]]
        return JSONResponse({"keys": keys, "has_more": len(found) > limit})

    def _keys_of(self, tenant: str | None, team: str | None, **which: Any) -> list[Key]:
        """Raises NotFound for a tenant that is not there, whose keys would be none, and for such a team of it."""
        found = self._keys.list(tenant=tenant, team=team, **which)
        if not found and tenant is not None:
            record = self._tenants.get(tenant)
            if team is not None:
                _team(record, team)
        return found

    async def _show_key(self, request: Request) -> Response:
        await self._auth.admin(request)
        found = await asyncio.to_thread(self._keys.get, _key_id(request))
        return JSONResponse(shown_key(found, self._clock.now()))

    async def _create_key(self, request: Request, body: Json, change: Change) -> Response:
        asked = read_section(NewKey, body)
        self._check(asked)
        made = await asyncio.to_thread(
            self._keys.create,
            asked.tenant,
            name=asked.name,
            role=asked.role,
            team=asked.team,
            budgets=asked.budgets,
            models=asked.models,
            routes=asked.routes,
            expires_at=asked.expires_at,
            by=change,
        )
        return JSONResponse(self._shown_secret(made), 201)

    async def _change_key(self, request: Request, patch: Json, change: Change) -> Response:
        key_id = _key_id(request)
        changed = await asyncio.to_thread(
            self._keys.change, key_id, lambda key: self._patched_key(key, patch), by=change
        )
        return JSONResponse(shown_key(changed, self._clock.now()))

    async def _revoke_key(self, request: Request, _: Json, change: Change) -> Response:
        revoked = await asyncio.to_thread(self._keys.revoke, _key_id(request), by=change)
        return JSONResponse(shown_key(revoked, self._clock.now()))

    async def _rotate_key(self, request: Request, body: Json, change: Change) -> Response:
        asked = read_section(Rotation, body)
        key_id = _key_id(request)
        rotated = await asyncio.to_thread(self._keys.rotate, key_id, grace_s=asked.grace_seconds, by=change)
        return JSONResponse(self._shown_secret(rotated))

    def _shown_secret(self, made: NewSecret) -> Json:
        """The one answer with a secret in it."""
        shown = shown_key(made.key, self._clock.now())
        return {
            "id": shown["id"],
            "key": made.secret,
            **shown,
            "made_tenant": made.made_tenant,
            "made_team": made.made_team,
        }

    def _patched_key(self, key: Key, patch: Json) -> Key:
        now_said = {
            "name": key.name,
            "budgets": plain(key.budgets),
            "models": key.models,
            "routes": key.routes,
            "expires_at": key.expires_at,
        }
        after = merged({name: one for name, one in now_said.items() if one is not None}, patch)
        terms = read_section(KeyTerms, after)
        self._check(terms, expires="expires_at" in patch)
        _refuse_to_end_sooner(key, terms.expires_at)
        return replace(
            key,
            name=terms.name,
            budgets=terms.budgets,
            models=terms.models,
            routes=terms.routes,
            expires_at=terms.expires_at,
        )

    def _check(self, terms: KeyTerms, *, expires: bool = True) -> None:
        """What only the running platform can know. Raises InvalidInput."""
        _check_names("models", "model", terms.models, self._platform.llm.models)
        _check_names("routes", "route", terms.routes, self._platform.gateway.routes)
        now = self._clock.now()
        if expires and terms.expires_at is not None and terms.expires_at <= now:
            raise InvalidInput(
                f"expires_at: {terms.expires_at:.0f} is past; it must be later than now, which is {now:.0f} seconds "
                "since the epoch",
                param="expires_at",
            )

    # --- budgets ------------------------------------------------------------------------------------------------------

    async def _budgets(self, request: Request) -> Response:
        """Every limit that is set, with what was spent in its window and what is set aside of it. Whoever has limits
        for each session and each agent run is shown them once, without what each has spent."""
        await self._auth.admin(request)
        await self._settle_all()
        found = await asyncio.to_thread(self._limits, TENANT.of(request))
        named = [(name, row) for name, row in found if name is not None]
        try:
            states = await self._budgets_store.state([name for name, _ in named])
        except QueueUnavailable as error:
            _log.warning("what is set aside of budgets is not known", error=error.in_log)
        else:
            for (_, row), state in zip(named, states, strict=True):
                set_aside(row, state)
        if self._alerts is not None:
            latest = await asyncio.to_thread(self._alerts.latest, [name for name, _ in named])
            for name, row in named:
                row["alert"] = shown_alert(latest[name]) if name in latest else None
        return JSONResponse({"budgets": [row for _, row in found]})

    def _limits(self, tenant: str | None) -> list[tuple[str | None, Json]]:
        tenants = self._tenants.list() if tenant is None else [self._tenants.get(tenant)]
        found: list[tuple[ScopeKind, str, str | None, Budgets]] = []
        for one in tenants:
            found.append(("tenant", one.name, one.name, one.terms.budgets))
            found.append(("session", one.name, None, one.terms.session_budgets))
            found.append(("run", one.name, None, one.terms.run_budgets))
            found += [("team", one.name, team.name, team.terms.budgets) for team in one.teams.values()]
        if tenant is None:  # what all tenants spend in the runs of one
            agents = self._platform.agents.definitions
            found += [("agent", "", name, agent.budgets) for name, agent in agents.items()]
        after = None
        while keys := self._keys.list(tenant=tenant, ended=False, after=after, limit=MOST_LISTED):
            found += [("key", key.tenant, key.id, key.budgets) for key in keys]
            after = keys[-1].id
        now = self._clock.now()
        return [row for each in found for row in limit_rows(self._ledger, *each, now=now)]


def limit_rows(
    ledger: Ledger, kind: ScopeKind, tenant: str, name: str | None, budgets: Budgets, *, now: float
) -> list[tuple[str | None, Json]]:
    """One row for each limit with the name of its counter, those on a single request first. Money in US dollars. `name`
    is None for what holds for each session or run alike. `spent` is null where nothing is summed up: for those, for a
    single request, and for what runs now, which is not in the ledger. An agent is of no tenant: ""."""
    rows: list[tuple[str | None, Json]] = [
        (None, {**_row(kind, tenant, name, field, unit, "request", getattr(budgets, field)), "renews_at": None})
        for field, unit in (("request_tokens", Unit.TOKENS), ("request_usd", Unit.NANO_USD))
        if getattr(budgets, field) is not None
    ]
    id = inside(tenant, name or "") if kind in ("team", "session", "run") else name or ""
    for field, limit in limits_of(Scope(kind, id), budgets):
        (counter,) = counters([limit], now)
        unit, window = limit.unit, limit.window
        row = _row(kind, tenant, name, field, unit, window.value, getattr(budgets, field))
        if name is not None and unit is not Unit.CONCURRENT:
            used = ledger.spent(kind, tenant, name, since=began_at(window, counter.renews_at))
            spent = getattr(used, unit.value)
            row["spent"], row["left"] = _amount(unit, spent), _amount(unit, max(0, limit.amount - spent))
        rows.append((None if name is None else counter.name, {**row, "renews_at": counter.renews_at}))
    return rows


def set_aside(row: Json, state: CounterState | None) -> None:
    """Add what gateways and tasks have set aside of what is left (None: Redis does not know the counter): for what runs
    now, and ahead of what will; what of it is not spent comes back."""
    amount = 0 if state is None else state.leased + state.held
    row["reserved"] = float(usd(amount)) if row["unit"] == "usd" else amount


def shown_alert(alert: Sequence[Alert]) -> Json:
    """The last one of a budget. `threshold` null: requests were refused. `told`: by channel, `told`, `waiting` or
    `failed`."""
    first = alert[0]
    threshold = None if first.threshold > MILLIONTHS else first.threshold / MILLIONTHS
    return {"threshold": threshold, "at": first.raised_at, "told": {each.channel: each.state for each in alert}}


def _row(
    kind: ScopeKind, tenant: str, name: str | None, field: str, unit: Unit, window: str, limit: int | Decimal
) -> Json:
    return {
        "scope": kind,
        "tenant": tenant or None,
        "id": name,
        "budget": yaml_name(field),
        "unit": "usd" if unit is Unit.NANO_USD else unit.value,
        "window": window,
        "limit": float(limit) if unit is Unit.NANO_USD else limit,
        "spent": None,
        "reserved": None,
        "left": None,
        "alert": None,
    }


def _amount(unit: Unit, amount: int) -> int | float:
    return float(usd(amount)) if unit is Unit.NANO_USD else amount


# --- how things are shown ---------------------------------------------------------------------------------------------


def shown_tenant(record: TenantRecord) -> Json:
    return {
        "name": record.name,
        **plain(record.terms, whole=True),
        "teams": {name: plain(team.terms, whole=True) for name, team in record.teams.items()},
        "source": record.source,
        "created_at": record.created_at,
    }


def shown_team(record: TeamRecord) -> Json:
    return {
        "name": record.name,
        "tenant": record.tenant,
        **plain(record.terms, whole=True),
        "source": record.source,
        "created_at": record.created_at,
    }


def shown_key(key: Key, now: float) -> Json:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "team": key.team,
        "name": key.name,
        "role": key.role,
        "state": key.state(now),
        "prefix": key.prefix,
        "budgets": plain(key.budgets),
        "models": key.models,
        "routes": key.routes,
        "created_at": key.created_at,
        "rotated_at": key.rotated_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


# --- what was asked ---------------------------------------------------------------------------------------------------


def merged(before: Any, patch: Any) -> Any:
    """RFC 7396: null takes away, an object goes into the one that is there, all else replaces. A null for what is not
    there stays, so that whoever reads the whole refuses a name that is none, and not only when it is given a value."""
    if not isinstance(patch, dict):
        return patch
    after = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None and key in after:
            del after[key]
        else:
            after[key] = merged(after.get(key), value)
    return after


_Terms = TypeVar("_Terms", Tenant, Team)


def _patched(kind: type[_Terms], terms: _Terms, patch: Json) -> _Terms:
    before, teams = plain(terms, whole=True), patch.get("teams")
    if kind is Tenant and isinstance(teams, dict):
        before["teams"] = {**dict.fromkeys(teams, plain(Team(), whole=True)), **before["teams"]}
    return read_section(kind, merged(before, patch))


def _refuse_to_take_teams_away(patch: Json) -> None:
    teams = patch.get("teams", {})
    named = teams.items() if isinstance(teams, dict) else ()
    gone = ["teams"] if teams is None else [f"teams.{name}" for name, team in named if team is None]
    if gone:
        raise InvalidInput(
            f"{gone[0]}: a team cannot be taken away, since keys and usage go by its name",
            param=gone[0],
            hint='revoke its keys; its limits are taken away with {"budgets": null}',
        )


def _refuse_to_end_sooner(key: Key, expires_at: float | None) -> None:
    """Revoking looks that an admin key remains; time does not."""
    if key.role == "admin" and expires_at is not None and (key.expires_at is None or expires_at < key.expires_at):
        raise Conflict(
            f"key {key.id} is an admin's, which cannot be made to expire sooner: it could be the last one",
            hint="make another with the expiry that you want, and revoke this one",
        )


def _key_id(request: Request) -> str:
    """The id in the path. Raises NotFound, without repeating it, for what looks like a secret."""
    said: str = request.path_params["id"]
    if said.startswith("sk-"):
        raise NotFound("this is a key and not the id of one; ids begin with key_", hint="`stoker keys list` shows them")
    return said


def _team(tenant: TenantRecord, name: str) -> TeamRecord:
    if name not in tenant.teams:
        raise NotFound(f"tenant {tenant.name!r} has no team {name!r}")
    return tenant.teams[name]


def _check_names(param: str, what: str, names: tuple[str, ...] | None, known: Any) -> None:
    for index, name in enumerate(names or ()):
        if name not in known:
            raise InvalidInput(
                f'{param}[{index}]: "{name}" is not a {what}; the {what}s are: {", ".join(known)}',
                param=f"{param}[{index}]",
            )


async def _body(request: Request) -> Json:
    read: Json = _with_whole_numbers(await read_json(request, max_bytes=MOST_BODY_BYTES))
    return read


def _with_whole_numbers(value: Any) -> Any:
    """39.0 as 39: to JSON both are the same number, and some languages write all numbers with a fraction."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


async def _body_or_nothing(request: Request) -> Json:
    """A POST that needs no words may have none."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    return await _body(request)
