"""`python -m stoker.gateway`: wires the gateway's parts together and serves until it is told to stop."""

import argparse
import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.engine.client import EngineClient
from stoker.gateway import app
from stoker.gateway.auth import Authenticator
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import Inference
from stoker.gateway.measures import Measures
from stoker.gateway.metering import Meter
from stoker.gateway.services import Services
from stoker.gateway.settling import Settler
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.policy.routing import table_of
from stoker.queue import QueueSettings, RedisQueue, RedisRegistry, Replica
from stoker.spec import Platform, ServerEngine, load
from stoker.telemetry.metrics import Metrics
from stoker.web.client import Timeouts
from stoker.web.server import bind, serve

_log = logs.get(__name__)

# Running answers may take this long to end once the gateway is told to stop; the supervisor gives 10 s for everything.
GRACE_S = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="stoker.gateway", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", default=os.environ.get("STOKER_REDIS_URL"), help="default: $STOKER_REDIS_URL")
    parser.add_argument("--ledger", default=os.environ.get("STOKER_LEDGER_URL"), help="default: $STOKER_LEDGER_URL")
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    options = parser.parse_args()
    if not options.redis or not options.ledger:
        parser.error("--redis and --ledger are needed, or $STOKER_REDIS_URL and $STOKER_LEDGER_URL")
    logs.configure("gateway")
    try:
        asyncio.run(run(options))
    except StokerError as error:
        _log.error("gateway cannot run", error=error.message, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    stop = process.stop_event(leash=options.leash)
    platform = load(options.spec)
    listening = bind(options.host, options.port)
    clock = SystemClock()
    store = Store(options.ledger)
    queue = RedisQueue(options.redis, settings=QueueSettings.of(platform.queue))
    registry = RedisRegistry(options.redis)
    fleet = Fleet(registry, connector(platform), clock)
    measures = Measures(Metrics())
    meter = Meter(queue, measures, clock)
    settler = Settler(queue, Ledger(store), f"gateway-{uuid.uuid4().hex}", clock)
    services = Services(
        platform=platform,
        table=table_of(platform),
        auth=Authenticator(KeyStore(store), clock),
        fleet=fleet,
        inference=Inference(fleet, queue, meter, clock),
        queue=queue,
        ledger=Ledger(store),
        settler=settler,
        measures=measures,
        clock=clock,
        started_at=clock.now(),
    )
    beside = [asyncio.create_task(work) for work in (fleet.watch(), meter.flush_forever(), settler.settle_forever())]
    url = "http://{}:{}".format(*listening.getsockname()[:2])
    try:
        await serve(app.create(services), listening, stop, on_ready=lambda: process.say_ready(url=url), grace_s=GRACE_S)
        # What the last answers left behind; what does not get there now is in Redis and waits for the next start.
        with contextlib.suppress(StokerError):
            await meter.flush()
            await settler.settle_all()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await fleet.aclose()
        await queue.aclose()
        await registry.aclose()
        store.close()


def connector(platform: Platform) -> Callable[[Replica], EngineClient]:
    """How to reach a replica: the engine's own key and name of the model are in the spec, its address in Redis."""
    limits = platform.gateway.timeouts
    timeouts = Timeouts(connect_s=limits.connect_seconds, read_s=limits.first_token_seconds)

    def connect(replica: Replica) -> EngineClient:
        engine = platform.llm.models[replica.model].engine
        if isinstance(engine, ServerEngine):
            key = os.environ.get(engine.api_key_env) if engine.api_key_env else None
            return EngineClient(replica.url, model=engine.model or replica.model, key=key, timeouts=timeouts)
        return EngineClient(replica.url, model=replica.model, timeouts=timeouts)

    return connect


if __name__ == "__main__":
    main()
