"""What the store of keys promises, on SQLite and on PostgreSQL: who is found, until when, and no secret kept."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

import pytest
from meter_builders import at_once
from sqlalchemy import MetaData

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.meter.accounts import Account, TeamTerms, TenantTerms
from stoker.meter.keys import Key, KeyStore, NewSecret, hash_of, new_key
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.meter.texts import text_of
from stoker.spec import Budgets, Team, Tenant
from stoker.testing import ManualClock

TEN_DOLLARS = Budgets(usd_total=Decimal("10.5"))


def at(store: Store, now: float) -> KeyStore:
    """The keys as they are at that time."""
    return KeyStore(store, ManualClock(now))


@pytest.fixture
def known(store: Store) -> KeyStore:
    return at(store, 100.0)


def everything_stored(store: Store) -> str:
    found = MetaData()
    with store.reading() as connection:
        found.reflect(connection)
        return str([connection.execute(table.select()).all() for table in found.sorted_tables])


# --- creating and finding ---------------------------------------------------------------------------------------------


def test_a_key_is_found_by_its_secret_with_all_that_holds_for_it(store: Store, known: KeyStore) -> None:
    tenant = Tenant(
        budgets=Budgets(tokens_per_day=1000),
        session_budgets=Budgets(requests_per_minute=5),
        run_budgets=TEN_DOLLARS,
        when_redis_is_away="open",
        teams={"search": Team(budgets=Budgets(concurrent_requests=2))},
    )
    TenantStore(store).create("acme", tenant)
    made = known.create(
        "acme",
        name="Ann's, für alles",
        team="search",
        budgets=TEN_DOLLARS,
        models=["general", "code", "general"],
        routes=["vision"],
        expires_at=200.5,
    )
    assert (made.made_tenant, made.made_team) == (False, False)
    assert made.key == Key(
        id=made.key.id,
        tenant="acme",
        name="Ann's, für alles",
        role="user",
        created_at=100.0,
        team="search",
        prefix=made.secret[:14],
        budgets=TEN_DOLLARS,
        models=("code", "general"),
        routes=("vision",),
        expires_at=200.5,
    )
    assert known.get(made.key.id) == made.key
    assert known.find(made.secret) == Account(
        id=made.key.id,
        name="Ann's, für alles",
        role="user",
        tenant_terms=TenantTerms("acme", tenant.budgets, tenant.session_budgets, TEN_DOLLARS, "open"),
        team_terms=TeamTerms("search", Budgets(concurrent_requests=2)),
        budgets_text=text_of(TEN_DOLLARS),
        models=frozenset({"general", "code"}),
        routes=frozenset({"vision"}),
        expires_at=200.5,
    )


def test_a_key_makes_the_tenant_and_the_team_that_it_lacks(store: Store, known: KeyStore) -> None:
    first = known.create("acme", team="search")
    again = known.create("acme", team="search")
    other = known.create("acme", team="ads", role="admin")
    assert [(each.made_tenant, each.made_team) for each in (first, again, other)] == [
        (True, True),
        (False, False),
        (False, True),
    ]
    assert known.find(first.secret) == Account(first.key.id, "", "user", TenantTerms("acme"), TeamTerms("search"))
    assert known.find(other.secret) == Account(other.key.id, "", "admin", TenantTerms("acme"), TeamTerms("ads"))
    [tenant] = TenantStore(store).list()
    assert (tenant.name, tenant.source, list(tenant.teams)) == ("acme", "api", ["ads", "search"])


def test_what_is_no_key_is_not_found(known: KeyStore) -> None:
    made = known.create("acme")
    for wrong in ("", made.secret + "x", made.secret[:-1], made.secret.upper(), hash_of(made.secret), "\0", "\ud800"):
        assert known.find(wrong) is None
    with pytest.raises(NotFound, match="there is no key 'key_nope'"):
        known.get("key_nope")


def test_secrets_are_neither_stored_nor_shown(store: Store, known: KeyStore) -> None:
    made = known.create("acme", name="n")
    mine = "sk-stoker-one-that-somebody-brought-along-with-them"
    known.ensure(mine, tenant="acme", name="n", role="user")
    rotated = known.rotate(made.key.id)
    stored = everything_stored(store)
    for secret in (made.secret, rotated.secret, mine):
        assert secret not in stored
        assert secret[len("sk-stoker-") :] not in stored
        assert hash_of(secret) in stored
        for shown in (made, rotated, known.list(), known.find(secret)):
            assert secret not in repr(shown)
    assert repr(made) == f"NewSecret({made.key.id}, ...)"


def test_the_first_characters_of_a_short_secret_are_not_kept_either(store: Store, known: KeyStore) -> None:
    assert known.ensure("sk-short", tenant="acme", name="n", role="user").prefix == ""
    assert "sk-short" not in everything_stored(store)


def test_a_text_that_no_database_keeps_is_refused(known: KeyStore) -> None:
    with pytest.raises(InvalidInput, match="the ledger's database cannot keep such a value"):
        known.create("acme", name="half a pair: \ud800")
    assert known.list() == []


# --- the end of a key, and of a secret --------------------------------------------------------------------------------


def test_an_expired_key_is_not_found_from_that_moment_on(store: Store, known: KeyStore) -> None:
    made = known.create("acme", expires_at=110.0)
    assert at(store, 109.9).find(made.secret) is not None
    assert at(store, 110.0).find(made.secret) is None
    assert [made.key.state(now) for now in (109.9, 110.0)] == ["in use", "expired"]


def test_a_revoked_key_stays_revoked(known: KeyStore) -> None:
    made = known.create("acme")
    revoked = known.revoke(made.key.id)
    assert revoked == replace(made.key, revoked_at=100.0) == known.get(made.key.id)
    assert revoked.state(100.0) == "revoked"
    assert known.find(made.secret) is None
    with pytest.raises(NotFound, match=f"there is no key '{made.key.id}' in use"):
        known.revoke(made.key.id)
    with pytest.raises(Conflict, match="was revoked; a revoked key stays so"):
        known.change(made.key.id, lambda key: replace(key, name="back again"))
    with pytest.raises(Conflict, match="is revoked; only one in use can be rotated"):
        known.rotate(made.key.id)
    assert known.get(made.key.id) == revoked


def test_the_last_admin_key_cannot_be_revoked(store: Store, known: KeyStore) -> None:
    first, second = known.create("ops", role="admin"), known.create("ops", role="admin", expires_at=150.0)
    known.create("ops")
    with pytest.raises(Conflict, match=f"key {first.key.id} is the last admin key"):
        at(store, 150.0).revoke(first.key.id)  # the other one has expired by then
    known.revoke(first.key.id)
    with pytest.raises(Conflict, match=f"key {second.key.id} is the last admin key"):
        known.revoke(second.key.id)


def test_of_two_last_admin_keys_that_are_revoked_at_once_one_stays(known: KeyStore) -> None:
    keys = [known.create("ops", role="admin").key.id for _ in range(2)]
    done = at_once([partial(known.revoke, key_id) for key_id in keys])
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "Key"]
    assert len(known.list(ended=False)) == 1


def test_rotating_gives_another_secret_and_the_old_one_some_time(store: Store, known: KeyStore) -> None:
    made = known.create("acme", team="search", budgets=TEN_DOLLARS)
    second = known.rotate(made.key.id, grace_s=30.0)
    assert second.key == replace(made.key, prefix=second.secret[:14], rotated_at=100.0) == known.get(made.key.id)
    old, new = known.find(made.secret), known.find(second.secret)
    assert (old and old.id, new and new.id) == (made.key.id, made.key.id)
    assert (old and old.expires_at, new and new.expires_at) == (130.0, None)  # so who remembers it forgets in time
    assert at(store, 129.9).find(made.secret) is not None
    assert at(store, 130.0).find(made.secret) is None
    assert at(store, 130.0).find(second.secret) is not None


def test_rotating_again_ends_what_was_older(store: Store, known: KeyStore) -> None:
    made = known.create("acme")
    second = known.rotate(made.key.id, grace_s=1000.0)
    third = at(store, 101.0).rotate(made.key.id, grace_s=5.0)
    now = at(store, 101.0)
    assert now.find(made.secret) is None
    assert [bool(now.find(each.secret)) for each in (second, third)] == [True, True]
    assert at(store, 106.0).find(second.secret) is None
    fourth = now.rotate(made.key.id)  # no grace: at once
    assert [bool(now.find(each.secret)) for each in (second, third, fourth)] == [False, False, True]


def test_an_expiry_comes_first_when_it_is_before_the_end_of_the_grace(known: KeyStore) -> None:
    made = known.create("acme", expires_at=110.0)
    known.rotate(made.key.id, grace_s=30.0)
    found = known.find(made.secret)
    assert found is not None
    assert found.expires_at == 110.0


def test_an_expired_key_is_not_rotated(store: Store, known: KeyStore) -> None:
    made = known.create("acme", expires_at=110.0)
    with pytest.raises(Conflict, match="is expired; only one in use can be rotated"):
        at(store, 110.0).rotate(made.key.id)
    with pytest.raises(NotFound):
        known.rotate("key_nope")


def test_rotated_many_times_at_once_a_key_has_one_secret(known: KeyStore) -> None:
    made = known.create("acme")
    done = at_once([partial(known.rotate, made.key.id)] * 4)
    secrets = [each.secret for each in done if isinstance(each, NewSecret)]
    assert len(secrets) == 4
    assert sum(known.find(secret) is not None for secret in [made.secret, *secrets]) == 1


# --- ensure -----------------------------------------------------------------------------------------------------------


def test_a_secret_that_is_known_is_not_made_again(store: Store, known: KeyStore) -> None:
    secret = new_key()
    made = known.ensure(secret, tenant="acme", name="the first", role="admin")
    assert made == Key(made.id, "acme", "the first", "admin", 100.0, prefix=secret[:14])
    assert at(store, 200.0).ensure(secret, tenant="other", name="another", role="user") == made
    assert known.list() == [made]


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (lambda known, key: known.revoke(key.id), "was revoked"),
        (lambda known, key: known.rotate(key.id, grace_s=60.0), "was replaced by another secret"),
        (lambda known, key: known.change(key.id, lambda one: replace(one, expires_at=99.0)), "was expired"),
    ],
)
def test_a_secret_that_has_ended_does_not_come_to_life_again(
    known: KeyStore, end: Callable[[KeyStore, Key], object], word: str
) -> None:
    made = known.ensure("sk-1", tenant="acme", name="n", role="user")
    end(known, made)
    with pytest.raises(Conflict, match=word):
        known.ensure("sk-1", tenant="acme", name="n", role="user")


def test_many_who_make_the_same_secret_known_at_once_make_one_key(known: KeyStore) -> None:
    made = at_once([partial(known.ensure, "sk-1", tenant="acme", name="n", role="user")] * 4)
    assert made == known.list() * 4
    assert len(known.list()) == 1


def test_many_who_make_keys_of_a_new_tenant_at_once_make_it_once(known: KeyStore) -> None:
    made = at_once([partial(known.create, "acme", team="search")] * 4)
    assert sorted(isinstance(each, NewSecret) and (each.made_tenant, each.made_team) for each in made) == [
        (False, False),
        (False, False),
        (False, False),
        (True, True),
    ]


# --- changing ---------------------------------------------------------------------------------------------------------


def test_a_change_replaces_what_can_be_changed_and_nothing_else(known: KeyStore) -> None:
    made = known.create("acme", name="before", models=["code"], budgets=TEN_DOLLARS)
    changed = known.change(
        made.key.id,
        lambda key: replace(
            key,
            tenant="stolen",
            role="admin",
            created_at=0.0,
            name="after",
            budgets=Budgets(tokens_total=5),
            models=None,
            routes=("vision", "code", "code"),
            expires_at=500.0,
        ),
    )
    assert changed == replace(
        made.key,
        name="after",
        budgets=Budgets(tokens_total=5),
        models=None,
        routes=("code", "vision"),
        expires_at=500.0,
    )
    assert known.get(made.key.id) == changed
    found = known.find(made.secret)
    assert found is not None
    assert (found.tenant, found.role, found.name) == ("acme", "user", "after")
    assert (found.budgets, found.models, found.routes) == (Budgets(tokens_total=5), None, frozenset({"code", "vision"}))
    with pytest.raises(NotFound):
        known.change("key_nope", lambda key: key)


def test_of_changes_at_once_none_is_lost(known: KeyStore) -> None:
    made = known.create("acme", budgets=Budgets(tokens_total=1))

    def one_more(key: Key) -> Key:
        return replace(key, budgets=Budgets(tokens_total=(key.budgets.tokens_total or 0) + 1))

    def five() -> None:
        for _ in range(5):
            known.change(made.key.id, one_more)

    assert at_once([five] * 4) == [None] * 4
    assert known.get(made.key.id).budgets == Budgets(tokens_total=21)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_are_pages_from_the_oldest_on(store: Store) -> None:
    made = [at(store, 100.0 + number).create("acme", name=str(number)).key for number in range(5)]
    known = at(store, 200.0)
    assert known.list() == made
    assert known.list(limit=2) == made[:2]
    assert known.list(after=made[1].id, limit=2) == made[2:4]
    assert known.list(after=made[4].id) == []


def test_lists_are_narrowed(store: Store) -> None:
    search, ads, other = (
        at(store, float(number)).create(tenant, team=team).key
        for number, (tenant, team) in enumerate([("acme", "search"), ("acme", "ads"), ("other", "search")])
    )
    expiring = at(store, 4.0).create("acme", expires_at=50.0).key
    known = at(store, 50.0)
    revoked = known.revoke(ads.id)
    assert known.list(tenant="acme") == [search, revoked, expiring]
    assert known.list(tenant="acme", team="search") == [search]
    assert known.list(team="search") == [search, other]
    assert known.list(ended=False) == [search, other]
    assert at(store, 49.9).list(ended=False) == [search, other, expiring]


# --- the revision -----------------------------------------------------------------------------------------------------


def test_the_revision_grows_with_what_makes_a_remembered_account_old_and_with_nothing_else(store: Store) -> None:
    known, tenants = at(store, 100.0), TenantStore(store)
    file = {"acme": Tenant(budgets=TEN_DOLLARS, teams={"search": Team()})}
    steps: list[tuple[str, bool, Callable[[], object]]] = []
    tenants.ensure(file)
    user, admin = known.create("acme", team="search").key.id, known.create("ops", role="admin").key.id

    def to(**changed: object) -> Callable[[Key], Key]:
        return lambda key: replace(key, **changed)  # type: ignore[arg-type]

    def of_tenant(**changed: object) -> Callable[[Tenant], Tenant]:
        return lambda terms: terms.model_copy(update=changed)

    steps = [
        ("another start with the same file", False, lambda: tenants.ensure(file)),
        ("a new tenant in the file", False, lambda: tenants.ensure({**file, "new": Tenant()})),
        ("a new team in the file", False, lambda: tenants.ensure({"acme": with_team(file["acme"], "ads", Team())})),
        ("other terms in the file", True, lambda: tenants.ensure({"acme": with_team(Tenant(), "search", Team())})),
        (
            "a team's other terms",
            True,
            lambda: tenants.ensure({"acme": with_team(Tenant(), "search", Team(budgets=TEN_DOLLARS))}),
        ),
        ("a tenant left out of the file", False, lambda: tenants.ensure({})),
        ("a new tenant", False, lambda: tenants.create("more", Tenant())),
        ("a tenant's other terms", True, lambda: tenants.change("acme", of_tenant(budgets=Budgets(tokens_total=7)))),
        ("the same terms again", False, lambda: tenants.change("acme", of_tenant(budgets=Budgets(tokens_total=7)))),
        ("a new team", False, lambda: tenants.change("acme", lambda terms: with_team(terms, "x", Team()))),
        (
            "its other terms",
            True,
            lambda: tenants.change("acme", lambda terms: with_team(terms, "x", Team(budgets=TEN_DOLLARS))),
        ),
        ("a new key", False, lambda: known.create("acme")),
        ("a new key of a new tenant", False, lambda: known.create("newest", team="t")),
        ("a key at the start", False, lambda: known.ensure("sk-1", tenant="acme", name="n", role="user")),
        ("another name", True, lambda: known.change(user, to(name="x"))),
        ("the same name again", False, lambda: known.change(user, to(name="x"))),
        ("another budget", True, lambda: known.change(user, to(budgets=TEN_DOLLARS))),
        ("another scope", True, lambda: known.change(user, to(models=("general",)))),
        ("another expiry", True, lambda: known.change(user, to(expires_at=1e9))),
        ("another secret", True, lambda: known.rotate(user, grace_s=10.0)),
        ("a revocation", True, lambda: known.revoke(user)),
        ("one that is refused", False, lambda: refused(lambda: known.revoke(admin))),
        ("a look", False, lambda: (known.list(), known.find("sk-1"), tenants.list())),
    ]
    for what, grows, step in steps:
        before = known.revision()
        step()
        assert (known.revision() > before) is grows, what


def refused(step: Callable[[], object]) -> None:
    with pytest.raises(Conflict):
        step()


def with_team(tenant: Tenant, name: str, team: Team) -> Tenant:
    return tenant.model_copy(update={"teams": {**tenant.teams, name: team}})
