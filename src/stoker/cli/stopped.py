"""Questions that a running platform answers, and, when it does not run, its ledger."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stoker.base.errors import NotFound, Unavailable
from stoker.cli import target

if TYPE_CHECKING:
    from stoker.local.state import StateDirectory
    from stoker.meter.store import Store


def ask(found: target.Target, of_platform: Callable[[], Any], of_ledger: Callable[["StateDirectory"], Any]) -> Any:
    """`of_platform` where it runs, or is only known by its URL; `of_ledger` where it does not run, or stops just then.
    Raises what they raise."""
    from stoker.local.state import StateDirectory

    state = None if found.state is None else StateDirectory(found.state)
    if state is None or state.is_locked():
        try:
            return of_platform()
        except Unavailable:
            if state is None:
                raise
    return of_ledger(state)


@contextmanager
def store_of(state: "StateDirectory") -> Iterator["Store"]:
    """The store of a platform that does not run. Raises NotFound."""
    from stoker import spec
    from stoker.local.plan import ledger_url
    from stoker.meter.store import Store

    url = ledger_url(spec.load(state.spec), state, os.environ)
    if url == f"sqlite:///{state.ledger}" and not state.ledger.exists():
        raise NotFound(f"there is no ledger in {state.path}", hint="`stoker up` makes one")
    store = Store(url)
    try:
        yield store
    finally:
        store.close()
