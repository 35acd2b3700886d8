"""Story: a change by an admin's key and its record are one transaction; what is recorded holds no secret."""

import pytest
from sqlalchemy import text

from stoker.base.errors import Conflict, NotFound, Unavailable
from stoker.meter import audit
from stoker.meter.audit import AuditRecord, AuditTrail, Change
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.spec import Budgets, Team, Tenant
from stoker.testing import ManualClock

NOW = 1_800_000_000.0


def by(did: str, object: str = "key", request: str = "req_1") -> Change:
    return Change("key_admin", request, did, object)


def shown(record: AuditRecord) -> tuple[object, ...]:
    return record.did, record.object, record.result, record.before, record.after


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def trail(store: Store, clock: ManualClock) -> AuditTrail:
    return AuditTrail(store, clock)


async def test_the_life_of_a_key(store: Store, clock: ManualClock, trail: AuditTrail) -> None:
    keys = KeyStore(store, clock)
    made = keys.create("acme", team="a", name="n", budgets=Budgets(tokens_per_day=5), by=by("keys.create"))
    key = f"key:{made.key.id}"
    await clock.advance(10)
    keys.change(
        made.key.id, lambda _: made.key.__class__(**{**_fields(made.key), "name": "m"}), by=by("keys.update", key)
    )
    await clock.advance(10)
    rotated = keys.rotate(made.key.id, grace_s=60, by=by("keys.rotate", key))
    await clock.advance(10)
    keys.revoke(made.key.id, by=by("keys.revoke", key))
    found = trail.page()
    assert [(record.at - NOW, record.key_id, record.request_id) for record in found] == [
        (at, "key_admin", "req_1") for at in (30.0, 20.0, 10.0, 0.0)
    ]
    assert [shown(record) for record in found] == [
        ("keys.revoke", key, "done", {"revoked_at": None}, {"revoked_at": NOW + 30}),
        (
            "keys.rotate",
            key,
            "done",
            {"rotated_at": None, "grace_seconds": None},
            {"rotated_at": NOW + 20, "grace_seconds": 60},
        ),
        ("keys.update", key, "done", {"name": "n"}, {"name": "m"}),
        (
            "keys.create",
            key,
            "done",
            None,
            {
                "tenant": "acme",
                "team": "a",
                "name": "n",
                "role": "user",
                "budgets": {"tokensPerDay": 5},
                "models": None,
                "routes": None,
                "expires_at": None,
                "made_tenant": True,
                "made_team": True,
            },
        ),
    ]
    kept = repr(found)
    for secret in (made.secret, rotated.secret):
        assert secret[:14] not in kept


def _fields(key: object) -> dict[str, object]:
    return {name: getattr(key, name) for name in type(key).__dataclass_fields__}  # type: ignore[attr-defined]


async def test_of_a_tenant_with_many_teams_only_what_changed_is_kept(
    store: Store, clock: ManualClock, trail: AuditTrail
) -> None:
    tenants = TenantStore(store, clock)
    teams = {f"t{number}": Team(budgets=Budgets(tokens_per_day=1)) for number in range(20)}
    tenants.create("acme", Tenant(description="d", teams=teams), by=by("tenants.create", "tenant:acme"))

    def more(tenant: Tenant) -> Tenant:
        changed = {"t7": Team(budgets=Budgets(tokens_per_day=2)), "new": Team()}
        return tenant.model_copy(update={"teams": {**tenant.teams, **changed}})

    await clock.advance(1)
    tenants.change("acme", more, by=by("teams.update", "team:acme/t7"))
    await clock.advance(1)
    tenants.change("acme", lambda tenant: tenant, by=by("tenants.update", "tenant:acme"))
    unchanged, changed, made = trail.page()
    assert (unchanged.before, unchanged.after) == ({}, {})
    assert changed.before == {"teams": {"t7": {"budgets": {"tokensPerDay": 1}}, "new": None}}
    assert changed.after == {"teams": {"t7": {"budgets": {"tokensPerDay": 2}}, "new": {}}}
    assert made.after is not None
    assert len(made.after["teams"]) == 20


def test_a_change_that_is_refused_leaves_no_record_of_its_own(store: Store, trail: AuditTrail) -> None:
    keys, tenants = KeyStore(store), TenantStore(store)
    tenants.ensure({"file": Tenant()})
    admin = keys.create("file", role="admin").key
    with pytest.raises(Conflict):
        keys.revoke(admin.id, by=by("keys.revoke"))
    with pytest.raises(NotFound):
        keys.rotate("key_none", by=by("keys.rotate"))
    with pytest.raises(Conflict):
        tenants.change("file", lambda tenant: tenant.model_copy(update={"description": "x"}), by=by("tenants.update"))
    with pytest.raises(Conflict):
        tenants.create("file", Tenant(), by=by("tenants.create"))
    assert trail.page() == []
    trail.refused(by("keys.revoke", f"key:{admin.id}"), "conflict")
    assert [shown(record) for record in trail.page()] == [("keys.revoke", f"key:{admin.id}", "conflict", None, None)]


def test_a_record_that_cannot_be_written_takes_its_change_back(empty_url: str) -> None:
    store = Store(empty_url)
    keys = KeyStore(store)
    made = keys.create("acme")
    with store.transaction() as connection:
        connection.execute(text("DROP TABLE audit"))
    for change in (
        lambda: keys.revoke(made.key.id, by=by("keys.revoke")),
        lambda: keys.rotate(made.key.id, by=by("keys.rotate")),
        lambda: keys.create("other", by=by("keys.create")),
        lambda: TenantStore(store).create("third", Tenant(), by=by("tenants.create")),
    ):
        with pytest.raises(Unavailable):
            change()
    assert keys.find(made.secret) is not None
    assert [key.id for key in keys.list()] == [made.key.id]
    assert [tenant.name for tenant in TenantStore(store).list()] == ["acme"]
    store.close()


async def test_a_change_elsewhere_is_begun_and_then_ended(trail: AuditTrail, clock: ManualClock) -> None:
    first = trail.begin(by("tasks.retry", "task:1"))
    await clock.advance(1)
    trail.begin(by("tasks.retry", "task:2"))
    trail.end(first, before={"state": "dead", "n": 1}, after={"state": "queued", "n": 1})
    assert [shown(record) for record in trail.page()] == [
        ("tasks.retry", "task:2", "begun", None, None),
        ("tasks.retry", "task:1", "done", {"state": "dead"}, {"state": "queued"}),
    ]


async def test_pages_and_filters(trail: AuditTrail, clock: ManualClock) -> None:
    for number in range(5):
        trail.refused(by(f"keys.{'revoke' if number % 2 else 'rotate'}", f"key:{number}"), "conflict")
        await clock.advance(1)
    trail.refused(Change("key_other", "req_9", "teams.update", "team:a_b/c"), "conflict")
    names = [record.object for record in trail.page()]
    assert names == ["team:a_b/c", "key:4", "key:3", "key:2", "key:1", "key:0"]
    first = trail.page(limit=2)
    assert [record.object for record in trail.page(after=(first[-1].at, first[-1].id), limit=2)] == ["key:3", "key:2"]

    def objects(**wanted: object) -> list[str]:
        return [record.object for record in trail.page(**wanted)]  # type: ignore[arg-type]

    assert objects(key_id="key_other") == ["team:a_b/c"]
    assert objects(did="keys.revoke") == ["key:3", "key:1"]
    assert objects(did="keys.*", object="key:4") == ["key:4"]
    assert objects(object="team:a_*") == ["team:a_b/c"]
    assert objects(object="team:aX*") == []
    assert objects(object="team:%") == []
    assert objects(since=NOW + 1, until=NOW + 3) == ["key:2", "key:1"]


def test_records_of_one_moment_have_an_order_and_none_is_left_out(trail: AuditTrail) -> None:
    for number in range(5):
        trail.refused(by("keys.revoke", f"key:{number}"), "conflict")
    pages, after = [], None
    while page := trail.page(after=after, limit=2):
        pages += page
        after = (page[-1].at, page[-1].id)
    assert pages == trail.page()
    assert {record.object for record in pages} == {f"key:{number}" for number in range(5)}


async def test_what_is_old_is_forgotten(trail: AuditTrail, clock: ManualClock) -> None:
    for number in range(3):
        trail.refused(by("keys.revoke", f"key:{number}"), "conflict")
        await clock.advance(10)
    assert trail.prune(NOW + 20) == 2
    assert [record.object for record in trail.page()] == ["key:2"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("key:sk-stoker-abcdef", "key:(a secret)"),
        ("tenant:my-sk-stoker-abcdef", "tenant:(a secret)"),
        ("tenant:help-desk-2", "tenant:help-desk-2"),
        ("task:a\nb\x00c", "task:a?b?c"),
        ("tenant:" + "x" * 300, "tenant:" + "x" * (audit.OBJECT_CHARS - 7)),
        ("tenant:", "tenant"),
        ("usage", "usage"),
    ],
)
def test_the_name_of_an_object_is_cut_and_is_never_a_secret(said: str, kept: str) -> None:
    assert by("x", said).object == kept
