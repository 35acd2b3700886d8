"""Waiting until objects are ready, or gone, with a word whenever something moves."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stoker.base.errors import StokerError, TimedOut
from stoker.deploy import reasons
from stoker.deploy.programs import Say
from stoker.deploy.readiness import Readiness
from stoker.kubernetes.cluster import Cluster, Key

_POLL_S = 2.0


class NotReady(StokerError):
    """What was applied will not become ready by waiting."""

    code = "not_ready"


@dataclass(frozen=True)
class Patience:
    """How long each wave is waited for. `monotonic` and `sleep` are for tests."""

    seconds: float
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def until_ready(cluster: Cluster, keys: Iterable[Key], patience: Patience, said: Say) -> None:
    """Raises NotReady with the reasons of those that failed for good, and TimedOut with those of all others."""
    waiting = dict.fromkeys(keys, "")
    end = patience.monotonic() + patience.seconds
    while True:
        failed = {}
        for key in list(waiting):
            state = _state(cluster, key)
            if state.is_ready:
                del waiting[key]
                continue
            if state.reason != waiting[key]:
                said(f"{key}: {state.reason}")
                waiting[key] = state.reason
            if state.failed:
                failed[key] = state.reason
        if failed:
            raise NotReady(_listed("failed", failed), hint="mend the cause, and do it again: it goes on from here")
        if not waiting:
            return
        if patience.monotonic() >= end:
            raise TimedOut(
                _listed(f"not ready after {patience.seconds:g} s", waiting),
                hint="`stoker status` says how it goes on; `stoker deploy` again waits on. deploy.waitSeconds",
            )
        patience.sleep(_POLL_S)


def until_gone(cluster: Cluster, keys: Iterable[Key], patience: Patience, said: Say) -> None:
    """Raises TimedOut with what holds those that are left."""
    waiting = dict.fromkeys(keys, "")
    end = patience.monotonic() + patience.seconds
    while True:
        for key in list(waiting):
            found = cluster.get(key)
            if found is None:
                del waiting[key]
                continue
            held = ", ".join(found["metadata"].get("finalizers") or []) or "it is being deleted"
            if held != waiting[key]:
                said(f"{key}: {held}")
                waiting[key] = held
        if not waiting:
            return
        if patience.monotonic() >= end:
            raise TimedOut(
                _listed(f"still there after {patience.seconds:g} s", waiting),
                hint="a finalizer waits for its controller: is that running? Doing it again waits on",
            )
        patience.sleep(_POLL_S)


def _state(cluster: Cluster, key: Key) -> Readiness:
    found = cluster.get(key)
    if found is None:
        return Readiness(False, "it is not there")
    return reasons.explained(cluster, found)


def _listed(what: str, of: dict[Key, str]) -> str:
    return f"{len(of)} {what}:\n" + "\n".join(f"  {key}: {reason}" for key, reason in of.items())
