"""What a gateway is told at its start in a cluster: the first admin's key, and how long answers may go on."""

import argparse
import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_parts import SPEC

from stoker.base.errors import InvalidInput
from stoker.gateway import __main__ as gateway
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store

ADMIN = "sk-stoker-0123456789abcdef0123456789abcdef"


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield KeyStore(store)
    store.close()


def test_the_key_in_the_environment_is_an_admins_once_however_many_gateways_start(keys: KeyStore) -> None:
    for _ in range(2):
        gateway.ensure_admin(keys, {"STOKER_ADMIN_KEY": ADMIN}, tenant="acme")
    account = keys.find(ADMIN)
    assert account is not None
    assert (account.tenant, account.role, len(keys.list())) == ("acme", "admin", 1)


def test_without_one_nobody_is_made_an_admin(keys: KeyStore) -> None:
    gateway.ensure_admin(keys, {}, tenant="acme")
    assert keys.list() == []


def test_one_that_was_revoked_stays_dead_and_stops_no_gateway(keys: KeyStore) -> None:
    gateway.ensure_admin(keys, {"STOKER_ADMIN_KEY": ADMIN}, tenant="acme")
    keys.create("acme", role="admin")  # the last one could not be revoked
    first = next(key for key in keys.list() if key.name == "first admin")
    keys.revoke(first.id)
    gateway.ensure_admin(keys, {"STOKER_ADMIN_KEY": ADMIN}, tenant="acme")
    assert keys.find(ADMIN) is None
    assert len(keys.list()) == 2


def test_one_that_could_be_guessed_is_refused_and_not_repeated(keys: KeyStore) -> None:
    with pytest.raises(InvalidInput, match="has 6 characters; it must have at least 32") as refused:
        gateway.ensure_admin(keys, {"STOKER_ADMIN_KEY": "secret"}, tenant="acme")
    assert "secret" not in refused.value.message
    assert keys.list() == []


def test_answers_may_go_on_for_as_long_as_the_command_line_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    class Told:
        services = SimpleNamespace(measures=SimpleNamespace(metrics=None))

        async def run(self, listening: socket.socket, *_: Any, grace_s: float, **__: Any) -> None:
            listening.close()
            told.append(grace_s)

    monkeypatch.setattr(gateway.Gateway, "of", lambda *_, **__: Told())
    spec = tmp_path / "platform.yaml"
    spec.write_text(SPEC.replace("TOTAL", "20").replace("CONNECT", "2"))
    options = argparse.Namespace(
        spec=spec,
        host="127.0.0.1",
        port=0,
        redis="redis://127.0.0.1:1",
        ledger=f"sqlite:///{tmp_path / 'ledger.sqlite'}",
        journals=tmp_path / "journals",
        leash=False,
        grace=321.0,
    )
    asyncio.run(gateway.run(options))
    assert told == [321.0]
