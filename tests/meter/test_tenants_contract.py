"""What the store of tenants and teams promises, on SQLite and on PostgreSQL: which source wins, and what changes."""

from decimal import Decimal
from functools import partial

import pytest
from meter_builders import at_once

from stoker.base.errors import Conflict, NotFound
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.tenants import TeamRecord, TenantRecord, TenantStore
from stoker.policy.budgets import Scope
from stoker.spec import Budgets, Team, Tenant
from stoker.testing import ManualClock

DAILY, TOTAL = Budgets(tokens_per_day=10), Budgets(usd_total=Decimal("0.000000001"))


@pytest.fixture
def tenants(store: Store) -> TenantStore:
    return TenantStore(store, ManualClock(5.0))


def later(store: Store) -> TenantStore:
    return TenantStore(store, ManualClock(9.0))


def named(record: TenantRecord) -> dict[str, object]:
    return {record.name: (record.source, record.terms, {team.name: team.source for team in record.teams.values()})}


# --- platform.yaml ----------------------------------------------------------------------------------------------------


def test_what_the_file_says_is_what_the_store_says(store: Store, tenants: TenantStore) -> None:
    written = Tenant(
        description="für alle",
        budgets=DAILY,
        session_budgets=TOTAL,
        run_budgets=DAILY,
        when_redis_is_away="open",
        teams={"search": Team(description="d", budgets=TOTAL), "ads": Team()},
    )
    tenants.ensure({"zeta": Tenant(), "acme": written})
    alone = written.model_copy(update={"teams": {}})
    acme = TenantRecord(
        "acme",
        "file",
        5.0,
        alone,
        {
            "ads": TeamRecord("acme", "ads", "file", 5.0, Team()),
            "search": TeamRecord("acme", "search", "file", 5.0, Team(description="d", budgets=TOTAL)),
        },
    )
    assert tenants.list() == [acme, TenantRecord("zeta", "file", 5.0, Tenant())]
    assert tenants.get("acme") == acme

    later(store).ensure({"zeta": Tenant(), "acme": written})
    assert tenants.get("acme") == acme  # made when it was made


def test_what_the_file_has_only_the_file_changes(tenants: TenantStore) -> None:
    tenants.ensure({"acme": Tenant(budgets=DAILY, teams={"search": Team()})})
    with pytest.raises(Conflict, match=r"tenant 'acme' is written in platform\.yaml, which wins at each start"):
        tenants.change("acme", lambda terms: terms.model_copy(update={"budgets": TOTAL}))
    with pytest.raises(Conflict, match=r"team 'search' of tenant 'acme' is written in platform\.yaml"):
        tenants.change("acme", lambda terms: terms.model_copy(update={"teams": {"search": Team(budgets=TOTAL)}}))
    assert tenants.get("acme").terms.budgets == DAILY

    tenants.ensure({"acme": Tenant(budgets=TOTAL, teams={"search": Team(budgets=DAILY)})})
    found = tenants.get("acme")
    assert (found.terms.budgets, found.teams["search"].terms.budgets) == (TOTAL, DAILY)


def test_a_tenant_of_the_file_can_have_teams_that_the_api_made(tenants: TenantStore) -> None:
    tenants.ensure({"acme": Tenant(teams={"search": Team()})})
    tenants.change("acme", lambda terms: terms.model_copy(update={"teams": {"ads": Team(budgets=DAILY)}}))
    tenants.ensure({"acme": Tenant(teams={"search": Team()})})
    assert named(tenants.get("acme")) == {"acme": ("file", Tenant(), {"ads": "api", "search": "file"})}


def test_what_is_taken_out_of_the_file_lives_on_as_the_apis(store: Store, tenants: TenantStore) -> None:
    tenants.ensure({"acme": Tenant(budgets=DAILY, teams={"search": Team(budgets=TOTAL)}), "zeta": Tenant()})
    secret = KeyStore(store).create("acme", team="search").secret
    tenants.ensure({"zeta": Tenant()})
    assert named(tenants.get("acme")) == {"acme": ("api", Tenant(budgets=DAILY), {"search": "api"})}
    found = KeyStore(store).find(secret)
    assert found is not None
    assert found.team_terms is not None
    assert (found.tenant_terms.budgets, found.team_terms.budgets) == (DAILY, TOTAL)
    changed = tenants.change("acme", lambda terms: terms.model_copy(update={"budgets": TOTAL}))
    assert changed.terms.budgets == TOTAL


def test_what_the_api_made_becomes_the_files_when_that_names_it(store: Store, tenants: TenantStore) -> None:
    tenants.create("acme", Tenant(budgets=DAILY))
    later(store).ensure({"acme": Tenant(budgets=TOTAL)})
    assert tenants.get("acme") == TenantRecord("acme", "file", 5.0, Tenant(budgets=TOTAL))


def test_gateways_that_start_at_once_write_the_file_once(tenants: TenantStore) -> None:
    written = {f"t{number}": Tenant(budgets=DAILY, teams={"a": Team(), "b": Team()}) for number in range(20)}
    assert at_once([partial(tenants.ensure, written)] * 4) == [None] * 4
    assert [record.name for record in tenants.list()] == sorted(written)
    assert all(list(record.teams) == ["a", "b"] for record in tenants.list())


# --- the admin API ----------------------------------------------------------------------------------------------------


def test_a_tenant_is_made_once(tenants: TenantStore) -> None:
    made = tenants.create("acme", Tenant(budgets=DAILY, teams={"search": Team(budgets=TOTAL)}))
    assert made == tenants.get("acme")
    assert named(made) == {"acme": ("api", Tenant(budgets=DAILY), {"search": "api"})}
    with pytest.raises(Conflict, match="there is a tenant 'acme' already"):
        tenants.create("acme", Tenant())
    assert tenants.list() == [made]
    with pytest.raises(NotFound, match="there is no tenant 'zeta'"):
        tenants.get("zeta")
    with pytest.raises(NotFound, match="there is no tenant 'zeta'"):
        tenants.change("zeta", lambda terms: terms)


def test_a_change_replaces_terms_adds_teams_and_takes_none_away(tenants: TenantStore) -> None:
    tenants.create("acme", Tenant(budgets=DAILY, teams={"search": Team(), "ads": Team()}))

    def change(terms: Tenant) -> Tenant:
        assert set(terms.teams) == {"search", "ads"}
        return Tenant(budgets=TOTAL, teams={"search": Team(budgets=DAILY), "new": Team(budgets=TOTAL)})

    changed = tenants.change("acme", change)
    assert changed == tenants.get("acme")
    assert changed.terms == Tenant(budgets=TOTAL)
    assert {name: team.terms.budgets for name, team in changed.teams.items()} == {
        "ads": Budgets(),
        "new": TOTAL,
        "search": DAILY,
    }


def test_a_change_that_raises_changes_nothing(tenants: TenantStore) -> None:
    made = tenants.create("acme", Tenant(budgets=DAILY))

    def change(terms: Tenant) -> Tenant:
        raise NotFound("tenant 'acme' has no team 'x'")

    with pytest.raises(NotFound, match="has no team"):
        tenants.change("acme", change)
    assert tenants.list() == [made]


def test_what_a_key_falls_under_is_what_the_store_says_now(store: Store, tenants: TenantStore) -> None:
    secret = KeyStore(store).create("acme", team="search").secret
    tenants.change("acme", lambda _: Tenant(run_budgets=DAILY, teams={"search": Team(budgets=TOTAL)}))
    found = KeyStore(store).find(secret)
    assert found is not None
    assert found.team_terms is not None
    assert (found.tenant_terms.run_budgets, found.team_terms.budgets) == (DAILY, TOTAL)


def test_of_changes_at_once_none_is_lost(tenants: TenantStore) -> None:
    tenants.create("acme", Tenant(budgets=Budgets(tokens_total=1)))

    def one_more(number: int) -> None:
        def change(terms: Tenant) -> Tenant:
            budgets = Budgets(tokens_total=(terms.budgets.tokens_total or 0) + 1)
            return terms.model_copy(update={"budgets": budgets, "teams": {**terms.teams, f"team-{number}": Team()}})

        tenants.change("acme", change)

    assert at_once([partial(one_more, number) for number in range(8)]) == [None] * 8
    found = tenants.get("acme")
    assert found.terms.budgets == Budgets(tokens_total=9)
    assert list(found.teams) == [f"team-{number}" for number in range(8)]


def test_budgets_by_scope_are_of_those_that_have_any_and_of_keys_in_use(store: Store, tenants: TenantStore) -> None:
    keys = KeyStore(store, ManualClock(9.0))
    described = Tenant(description='"budgets"', run_budgets=DAILY, teams={"search": Team(budgets=TOTAL), "ads": Team()})
    tenants.ensure({"acme": Tenant(budgets=DAILY), "zeta": described})
    assert tenants.budgets() == {Scope("tenant", "acme"): DAILY, Scope("team", "zeta/search"): TOTAL}
    made = [keys.create("acme", budgets=DAILY, expires_at=end).key for end in (None, 9.5, 8.0)]
    keys.create("acme")
    keys.revoke(made[0].id)
    assert keys.budgets() == {Scope("key", made[1].id): DAILY}
