"""What the authenticator remembers of keys, for how long, and how much of it. Time is the test's own."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.base.errors import NotPermitted, Unauthenticated, Unavailable
from stoker.gateway.auth import Authenticator, permit, permitted_models
from stoker.meter.accounts import Account, TenantTerms
from stoker.meter.keys import KeyStore, NewSecret
from stoker.meter.store import Store
from stoker.spec import Budgets
from stoker.testing import ManualClock


class Counting(KeyStore):
    """The real store; notes what it is asked, can be told to answer late, and to be away."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        super().__init__(store, clock)
        self.finds = 0
        self.looks = 0
        self.is_away = False
        self.has_read = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def find(self, secret: str) -> Account | None:
        self.finds += 1
        if self.is_away:
            raise Unavailable("the ledger's database refused: away", code="ledger_unavailable")
        return super().find(secret)

    def revision(self) -> int:
        self.looks += 1
        if self.is_away:
            raise Unavailable("the ledger's database refused: away", code="ledger_unavailable")
        number = super().revision()
        self.has_read.set()
        assert self.may_answer.wait(20)
        return number


class Door:
    """An authenticator on a store of its own."""

    def __init__(self, store: Store, *, most: int = 100) -> None:
        self.clock = ManualClock()
        self.keys = Counting(store, self.clock)
        self.auth = Authenticator(self.keys, self.clock, most=most)

    def key(self, tenant: str = "acme", **terms: object) -> NewSecret:
        return self.keys.create(tenant, **terms)  # type: ignore[arg-type]

    async def is_open(self, secret: str) -> bool:
        try:
            await self.auth.account(secret)
        except Unauthenticated:
            return False
        return True

    async def look_ended(self) -> None:
        """Returns when the look that runs beside requests, if any, has ended."""
        looking = self.auth._looking
        if looking is not None:
            await asyncio.wait({looking})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


@pytest.fixture
def door(store: Store) -> Door:
    return Door(store)


# --- how long ---------------------------------------------------------------------------------------------------------


async def test_what_was_revoked_is_refused_one_second_later(door: Door) -> None:
    made = door.key()
    assert await door.is_open(made.secret)
    door.keys.revoke(made.key.id)

    await door.clock.advance(0.3)
    assert await door.is_open(made.secret)
    await door.clock.advance(0.7)
    assert not await door.is_open(made.secret)


async def test_a_request_in_the_meantime_begins_the_look_so_that_the_next_need_not_wait(door: Door) -> None:
    made = door.key()
    assert await door.is_open(made.secret)
    door.keys.revoke(made.key.id)

    await door.clock.advance(0.5)
    assert await door.is_open(made.secret)
    await door.look_ended()
    assert not await door.is_open(made.secret)  # half a second early: the look is over


async def test_a_look_that_took_too_long_is_followed_by_another(door: Door) -> None:
    """The look has read the database before the key is revoked, and answers more than a second later."""
    made = door.key()
    assert await door.is_open(made.secret)
    await door.clock.advance(0.5)
    door.keys.has_read.clear()
    door.keys.may_answer.clear()
    assert await door.is_open(made.secret)
    await asyncio.to_thread(door.keys.has_read.wait, 20)
    door.keys.revoke(made.key.id)

    await door.clock.advance(1.1)
    asked = asyncio.create_task(door.is_open(made.secret))
    await asyncio.sleep(0)
    door.keys.may_answer.set()
    assert await asked is False
    assert door.keys.looks == 3


async def test_rotation_without_grace_ends_the_old_secret_with_it_at_its_time(door: Door) -> None:
    made = door.key()
    assert await door.is_open(made.secret)
    second = door.keys.rotate(made.key.id)
    assert await door.is_open(second.secret)  # a new secret works at once
    await door.clock.advance(1.0)
    assert not await door.is_open(made.secret)

    third = door.keys.rotate(made.key.id, grace_s=60.0)
    await door.clock.advance(59.0)
    assert await door.is_open(second.secret)
    await door.clock.advance(1.0)
    assert not await door.is_open(second.secret)
    assert await door.is_open(third.secret)
    assert (await door.auth.account(third.secret)).id == made.key.id


async def test_an_expiry_needs_no_look(door: Door) -> None:
    made = door.key(expires_at=door.clock.now() + 0.25)
    assert await door.is_open(made.secret)
    await door.clock.advance(0.24)
    assert await door.is_open(made.secret)
    await door.clock.advance(0.01)
    assert not await door.is_open(made.secret)


async def test_limits_and_scopes_are_those_of_a_second_ago_at_most(door: Door) -> None:
    made = door.key(budgets=Budgets(tokens_total=10))
    assert (await door.auth.account(made.secret)).budgets == Budgets(tokens_total=10)
    changes = {"budgets": Budgets(tokens_total=5), "models": ("code",)}
    door.keys.change(made.key.id, lambda key: replace(key, **changes))  # type: ignore[arg-type]

    await door.clock.advance(1.0)
    account = await door.auth.account(made.secret)
    assert (account.budgets, account.models) == (Budgets(tokens_total=5), frozenset({"code"}))


# --- how much the database is asked -----------------------------------------------------------------------------------


async def test_a_usual_request_asks_the_database_nothing(door: Door) -> None:
    made = door.key()
    for _ in range(100):
        assert await door.is_open(made.secret)
    assert (door.keys.finds, door.keys.looks) == (1, 1)


async def test_many_that_come_at_once_share_one_look(door: Door) -> None:
    made = door.key()
    assert await door.is_open(made.secret)
    await door.clock.advance(1.0)
    assert await asyncio.gather(*(door.is_open(made.secret) for _ in range(50))) == [True] * 50
    assert (door.keys.finds, door.keys.looks) == (1, 2)


async def test_who_gives_up_does_not_end_the_look_of_the_others(door: Door) -> None:
    made = door.key()
    door.keys.may_answer.clear()
    impatient = asyncio.create_task(door.is_open(made.secret))
    patient = asyncio.create_task(door.is_open(made.secret))
    await asyncio.to_thread(door.keys.has_read.wait, 20)
    impatient.cancel()
    await asyncio.wait({impatient})
    door.keys.may_answer.set()
    assert await patient
    assert door.keys.looks == 1


async def test_a_change_of_one_key_makes_each_be_read_once_more(door: Door) -> None:
    one, other = door.key(), door.key()
    for made in (one, other):
        assert await door.is_open(made.secret)
    door.keys.revoke(one.key.id)
    await door.clock.advance(1.0)
    for _ in range(3):
        assert await door.is_open(other.secret)
    assert door.keys.finds == 3


async def test_making_keys_makes_nobody_be_read_again(door: Door) -> None:
    made = door.key()
    assert await door.is_open(made.secret)
    assert await door.is_open(door.key().secret)
    await door.clock.advance(1.0)
    assert await door.is_open(made.secret)
    assert door.keys.finds == 2


# --- how much is kept -------------------------------------------------------------------------------------------------


async def test_the_keys_that_were_used_last_are_kept_and_no_more(store: Store) -> None:
    door = Door(store, most=2)
    a, b, c = (door.key().secret for _ in range(3))
    for secret in (a, b, a, c):  # b is the one that was used longest ago
        assert await door.is_open(secret)
    assert door.keys.finds == 3
    assert await door.is_open(a)
    assert await door.is_open(c)
    assert door.keys.finds == 3
    assert await door.is_open(b)
    assert door.keys.finds == 4
    assert await door.is_open(a)  # pushed out by b
    assert door.keys.finds == 5


async def test_wrong_keys_take_no_room(store: Store) -> None:
    door = Door(store, most=2)
    a, b = door.key().secret, door.key().secret
    for secret in (a, b):
        assert await door.is_open(secret)
    for number in range(10):
        assert not await door.is_open(f"sk-wrong-{number}")
    assert await door.is_open(a)
    assert await door.is_open(b)
    assert door.keys.finds == 12


async def test_a_key_that_ended_takes_no_room(store: Store) -> None:
    door = Door(store, most=2)
    a, b = door.key().secret, door.key(expires_at=door.clock.now() + 0.1).secret
    for secret in (a, b):
        assert await door.is_open(secret)
    await door.clock.advance(0.1)
    assert not await door.is_open(b)
    assert await door.is_open(door.key().secret)
    assert door.keys.finds == 4
    assert await door.is_open(a)
    assert door.keys.finds == 4


async def test_no_secret_is_kept(door: Door) -> None:
    made = door.key()
    account = await door.auth.account(made.secret)
    assert made.secret not in repr((door.auth._known, account))
    assert made.secret not in repr(made)


# --- a database that is away ------------------------------------------------------------------------------------------


async def test_while_the_database_is_away_nobody_is_let_in_after_a_second(door: Door) -> None:
    made, never_seen = door.key(), door.key()
    assert await door.is_open(made.secret)
    door.keys.is_away = True

    await door.clock.advance(0.99)
    assert await door.is_open(made.secret)
    with pytest.raises(Unavailable):
        await door.auth.account(never_seen.secret)
    await door.clock.advance(0.01)
    for _ in range(2):
        with pytest.raises(Unavailable) as told:
            await door.auth.account(made.secret)
        assert (told.value.status, told.value.code, told.value.retry_after_s) == (503, "ledger_unavailable", 1.0)


async def test_what_was_revoked_while_it_was_away_is_refused_when_it_is_back(door: Door) -> None:
    one, other = door.key(), door.key()
    for made in (one, other):
        assert await door.is_open(made.secret)
    door.keys.is_away = True
    door.keys.revoke(one.key.id)
    await door.clock.advance(1.0)
    with pytest.raises(Unavailable):
        await door.auth.account(one.secret)

    door.keys.is_away = False
    assert not await door.is_open(one.secret)
    assert await door.is_open(other.secret)


# --- scopes -----------------------------------------------------------------------------------------------------------

ROUTES = {"general": "general", "code": "code", "fast": "small"}
MODELS = ["general", "code", "small"]


def an_account(models: set[str] | None = None, routes: set[str] | None = None) -> Account:
    return Account(
        "key_1",
        "n",
        "user",
        TenantTerms("acme"),
        models=None if models is None else frozenset(models),
        routes=None if routes is None else frozenset(routes),
    )


@pytest.mark.parametrize(
    ("models", "routes", "may"),
    [
        (None, None, ["general", "code", "small"]),
        ({"small", "code"}, None, ["code", "small"]),
        (None, {"fast"}, ["small"]),
        ({"code"}, {"fast", "code"}, ["code"]),
        ({"general"}, {"fast"}, []),
        (None, {"gone"}, []),  # a route that platform.yaml has no more
    ],
)
def test_a_key_may_use_what_its_models_and_its_routes_both_allow(
    models: set[str] | None, routes: set[str] | None, may: list[str]
) -> None:
    account = an_account(models, routes)
    assert permitted_models(account, None, ROUTES, MODELS) == may
    for model in MODELS:
        if model in may:
            permit(account, None, model, ROUTES, MODELS)
        else:
            with pytest.raises(NotPermitted, match=f"this key may not use the model {model}; it may use "):
                permit(account, None, model, ROUTES, MODELS)


def test_a_prefix_that_is_not_allowed_is_told_with_those_that_are() -> None:
    with pytest.raises(NotPermitted) as told:
        permitted_models(an_account(routes={"fast", "code"}), "general", ROUTES, MODELS)
    assert told.value.message == "this key may not use /v1/general; it may use the routes: code, fast"


def test_a_key_that_may_use_nothing_is_told_so() -> None:
    with pytest.raises(NotPermitted) as told:
        permit(an_account(models={"gone"}), None, "general", ROUTES, MODELS)
    assert told.value.message == ("this key may not use the model general; it may use none of the models there are")
