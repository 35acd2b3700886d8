"""One deploy at a time: a Lease in the platform's namespace, renewed while somebody works, and free again a minute
after whoever holds it is gone. Terraform's state has its own lock.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from stoker.base.errors import Conflict, StokerError
from stoker.deploy.cluster import Cluster, Key

NAME = "stoker-deploy"
LASTS_S = 60
_RENEWED_S = 20.0
_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def held(cluster: Cluster, namespace: str, *, now: Callable[[], datetime] = _now) -> Iterator[None]:
    """Raises Conflict with who holds it, and since when, while somebody else does."""
    me = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    key = Key("coordination.k8s.io/v1", "Lease", namespace, NAME)
    _take(cluster, key, me, now)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWED_S):
            try:
                cluster.merge(key, {"spec": {"renewTime": now().strftime(_FORM)}})
            except StokerError:
                continue  # the next call of the work itself says what is wrong

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _let_go(cluster, key, me)


def _take(cluster: Cluster, key: Key, me: str, now: Callable[[], datetime]) -> None:
    for _ in range(3):
        found = cluster.get(key)
        try:
            if found is None:
                cluster.create(_lease(key, me, now()))
                return
            spec = found.get("spec", {})
            if spec.get("holderIdentity") == me:  # the answer to `create` was lost
                return
            if spec.get("holderIdentity") and not _is_over(spec, now()):
                raise Conflict(
                    f"{spec['holderIdentity']} deploys this platform, since {spec.get('acquireTime', 'some time')}",
                    hint=f"wait for it; if it was killed, the platform is free {LASTS_S} seconds after that",
                    code="deploy_runs",
                )
            taken = _lease(key, me, now())
            taken["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            cluster.replace(taken)
        except Conflict as error:
            if error.code == "deploy_runs":
                raise
            continue  # somebody was faster: who is it?
        else:
            return
    raise Conflict("others take the lease of this platform again and again", hint="do it again in a moment")


def _let_go(cluster: Cluster, key: Key, me: str) -> None:
    """So that the next one need not wait. Whoever cannot reach the cluster leaves it to time."""
    try:
        found = cluster.get(key)
        if found is not None and found.get("spec", {}).get("holderIdentity") == me:
            cluster.delete(key)
    except StokerError:
        return


def _is_over(spec: dict[str, Any], now: datetime) -> bool:
    try:
        renewed = datetime.fromisoformat(str(spec["renewTime"]))
    except (KeyError, ValueError):
        return True
    return renewed + timedelta(seconds=int(spec.get("leaseDurationSeconds", LASTS_S))) < now


def _lease(key: Key, me: str, now: datetime) -> dict[str, Any]:
    at = now.strftime(_FORM)
    spec = {"holderIdentity": me, "leaseDurationSeconds": LASTS_S, "acquireTime": at, "renewTime": at}
    meta = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": key.api_version, "kind": key.kind, "metadata": meta, "spec": spec}
