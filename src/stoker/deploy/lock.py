"""One deploy at a time: a Lease in the platform's namespace, renewed while somebody works. Terraform's state has its
own lock.

Whoever finds it held watches it for as long as it lasts: one that is not renewed meanwhile belongs to somebody who is
gone. Clocks of two machines are never compared (as in client-go's leader election).
"""

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from stoker.base.errors import Conflict, StokerError
from stoker.deploy.programs import Say
from stoker.deploy.waiting import Patience
from stoker.kubernetes.cluster import Cluster, Key

NAME = "stoker-deploy"
LASTS_S = 30.0
_RENEWED_S = 10.0
_LOOKED_S = 2.0


@contextmanager
def held(cluster: Cluster, namespace: str, patience: Patience, said: Say) -> Iterator[None]:
    """Raises Conflict with who holds it while somebody else works."""
    me = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    key = Key("coordination.k8s.io/v1", "Lease", namespace, NAME)
    _take(cluster, key, me, patience, said)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWED_S):
            try:
                cluster.merge(key, {"spec": {"renewTime": _now()}})
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


def _take(cluster: Cluster, key: Key, me: str, patience: Patience, said: Say) -> None:
    first: str | None = None
    since = patience.monotonic()
    while True:
        found = cluster.get(key)
        holder = "" if found is None else str(found.get("spec", {}).get("holderIdentity") or "")
        version = "" if found is None else str(found["metadata"]["resourceVersion"])
        if holder == me:  # the answer was lost
            return
        is_free = not holder or (first == version and patience.monotonic() - since >= LASTS_S)
        if is_free and _taken(cluster, _lease(key, me), found):
            return
        if not is_free and first is None:
            said(f"{holder} has the lease of this platform: is it still there? ({LASTS_S:g} s)")
        if first is not None and version != first:
            raise Conflict(f"{holder or 'somebody else'} deploys this platform", hint="wait until that has ended")
        first = version
        patience.sleep(_LOOKED_S)


def _taken(cluster: Cluster, lease: dict[str, Any], found: dict[str, Any] | None) -> bool:
    """Whether it is ours now; not where somebody was faster."""
    try:
        if found is None:
            cluster.create(lease)
        else:
            lease["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            cluster.replace(lease)
    except Conflict:
        return False
    return True


def _let_go(cluster: Cluster, key: Key, me: str) -> None:
    """So that the next one need not wait. Whoever cannot reach the cluster leaves it to time."""
    try:
        found = cluster.get(key)
        if found is not None and found.get("spec", {}).get("holderIdentity") == me:
            cluster.delete(key)
    except StokerError:
        return


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _lease(key: Key, me: str) -> dict[str, Any]:
    spec = {
        "holderIdentity": me,
        "leaseDurationSeconds": int(LASTS_S),
        "acquireTime": _now(),
        "renewTime": _now(),
    }
    meta = {"name": key.name, "namespace": key.namespace}
    return {"apiVersion": key.api_version, "kind": key.kind, "metadata": meta, "spec": spec}
