"""`python -m stoker.gateway`: one gateway on one port, until it is told to stop."""

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import Conflict, InvalidInput, StokerError
from stoker.gateway import app
from stoker.gateway.running import GRACE_S, Gateway
from stoker.meter.grants import secret_of
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.queue import QueueSettings, RedisBudgets, RedisQueue, RedisRegistry
from stoker.spec import load
from stoker.telemetry.otlp_metrics import sending
from stoker.telemetry.traces import traces_from, tracing_from
from stoker.web import server

_log = logs.get(__name__)

ADMIN_KEY = "STOKER_ADMIN_KEY"
AGENTS_URL = "STOKER_AGENTS_URL"
SHORTEST_ADMIN_KEY = 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="stoker.gateway", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", default=os.environ.get("STOKER_REDIS_URL"), help="default: $STOKER_REDIS_URL")
    parser.add_argument("--ledger", default=os.environ.get("STOKER_LEDGER_URL"), help="default: $STOKER_LEDGER_URL")
    parser.add_argument(
        "--journals",
        type=Path,
        default=os.environ.get("STOKER_JOURNALS"),
        help="folder in which the gateways of this machine say what they have in flight; it has to outlive the process "
        "(default: $STOKER_JOURNALS, or one for each user and Redis in the system's place for temporary files)",
    )
    parser.add_argument(
        "--grace", type=float, default=GRACE_S, help="seconds for running answers after a stop (default: %(default)s)"
    )
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    options = parser.parse_args()
    if not options.redis or not options.ledger:
        parser.error("--redis and --ledger are needed, or $STOKER_REDIS_URL and $STOKER_LEDGER_URL")
    logs.configure("gateway")
    try:
        server.run(run(options))
    except StokerError as error:
        _log.error("gateway cannot run", error=error.in_log, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    stop = process.stop_event(leash=options.leash)
    platform = load(options.spec)
    listening = server.bind(options.host, options.port)
    url = server.url_of(listening)
    store = Store(options.ledger)
    ensure_admin(KeyStore(store), os.environ, tenant=next(iter(platform.tenants)))
    queue = RedisQueue(options.redis, settings=QueueSettings.of(platform.queue, platform.gateway.max_waiting))
    registry, budgets = RedisRegistry(options.redis), RedisBudgets(options.redis)
    traces = traces_from(os.environ, "stoker-gateway")
    gateway = Gateway.of(
        platform,
        queue=queue,
        registry=registry,
        budgets=budgets,
        journals=options.journals or _journals(options.redis),
        store=store,
        clock=SystemClock(),
        agents_key=secret_of(os.environ),
        agents_url=os.environ.get(AGENTS_URL) or None,
        tracing=tracing_from(traces, os.environ),
    )
    try:
        async with sending(
            gateway.services.measures.metrics,
            "stoker-gateway",
            refresh=lambda: app.measure(gateway.services),
        ):
            await gateway.run(listening, stop, on_ready=lambda: _ready(url), grace_s=options.grace)
    finally:
        if traces is not None:
            await asyncio.to_thread(traces.close, 1.0)
        await queue.aclose()
        await registry.aclose()
        await budgets.aclose()
        store.close()


def ensure_admin(keys: KeyStore, environ: Mapping[str, str], *, tenant: str) -> None:
    """Make the key in $STOKER_ADMIN_KEY an admin's, where nobody could make one otherwise: in a cluster. One that was
    revoked or rotated away stays dead. Raises InvalidInput for one that could be guessed."""
    secret = environ.get(ADMIN_KEY)
    if not secret:
        return
    if len(secret) < SHORTEST_ADMIN_KEY:
        raise InvalidInput(
            f"{ADMIN_KEY} has {len(secret)} characters; it must have at least {SHORTEST_ADMIN_KEY}, by chance",
            param=ADMIN_KEY,
            hint="make one: echo sk-stoker-$(openssl rand -hex 32)",
        )
    try:
        keys.ensure(secret, tenant=tenant, name="first admin", role="admin")
    except Conflict as error:
        _log.warning("the key in the environment is no admin's any more", variable=ADMIN_KEY, why=error.message)


def _ready(url: str) -> None:
    process.keep_what_is_there()
    process.say_ready(url=url)


def _journals(redis: str) -> Path:
    """A folder for the gateways of this user on this Redis: those of another platform are not theirs to wind up."""
    platform = hashlib.sha256(redis.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"stoker-journals-{os.getuid()}-{platform}"


if __name__ == "__main__":
    main()
