"""One gateway from its parts: what runs beside its routes, and how it ends."""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable, StokerError
from stoker.engine.client import EngineClient
from stoker.gateway import app, retention
from stoker.gateway.auth import Authenticator
from stoker.gateway.commitments import Commitments
from stoker.gateway.fleet import Fleet
from stoker.gateway.inference import Inference
from stoker.gateway.measures import Measures
from stoker.gateway.metering import Meter
from stoker.gateway.services import Services
from stoker.gateway.settling import Settler
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.policy.routing import table_of
from stoker.queue import Queue, Registry, Replica
from stoker.spec import Platform, ServerEngine
from stoker.telemetry.metrics import Metrics
from stoker.web.client import Timeouts
from stoker.web.server import serve

_log = logs.get(__name__)

# Running answers may take this long to end once the gateway is told to stop; the supervisor gives 10 s for everything.
GRACE_S = 4.0


@dataclass(frozen=True, slots=True)
class Gateway:
    services: Services
    fleet: Fleet
    meter: Meter
    settler: Settler
    commitments: Commitments

    @classmethod
    def of(cls, platform: Platform, *, queue: Queue, registry: Registry, store: Store, clock: Clock) -> "Gateway":
        fleet = Fleet(registry, frozenset(platform.llm.models), connector(platform), clock)
        measures = Measures(Metrics())
        meter = Meter(queue, measures, clock)
        commitments = Commitments()
        settler = Settler(queue, Ledger(store), f"gateway-{uuid.uuid4().hex}", clock)
        keys, tenants = KeyStore(store, clock), TenantStore(store, clock)
        tenants.ensure(platform.tenants)
        services = Services(
            platform=platform,
            table=table_of(platform),
            auth=Authenticator(keys, clock),
            fleet=fleet,
            inference=Inference(fleet, queue, meter, clock, commitments),
            queue=queue,
            keys=keys,
            tenants=tenants,
            ledger=Ledger(store),
            settler=settler,
            measures=measures,
            clock=clock,
            started_at=clock.now(),
        )
        return cls(services, fleet, meter, settler, commitments)

    async def run(
        self,
        listening: socket.socket,
        stop: asyncio.Event,
        *,
        on_ready: Callable[[], None] = lambda: None,
        grace_s: float = GRACE_S,
    ) -> None:
        """Until `stop` is set, and then until what runs has ended and what it used is written down.

        Raises what went wrong in one of the parts beside the routes, since without it the gateway is none.
        """
        services = self.services
        beside = [
            asyncio.create_task(part)
            for part in (
                self.fleet.watch(),
                self.meter.flush_forever(),
                self.settler.settle_forever(),
                retention.prune_forever(services.ledger, services.platform.ledger.retention_days, services.clock),
            )
        ]
        serving = asyncio.create_task(
            serve(app.create(self.services), listening, stop, on_ready=on_ready, grace_s=grace_s)
        )
        try:
            await asyncio.wait({serving, *beside}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            await asyncio.wait({serving})
            for task in beside:
                task.cancel()
            ends = await asyncio.gather(serving, *beside, return_exceptions=True)
            await self.commitments.settled()
            await self._write_down()
            await self.fleet.aclose()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _write_down(self) -> None:
        """What the last answers left behind. What is in Redis and not in the ledger then waits for the next start."""
        try:
            await self.meter.flush()
            await self.settler.settle_all()
        except QueueUnavailable as error:
            _log.warning("Redis is away at the end", error=error.message, waiting=len(self.meter.unsent))
        except StokerError as error:
            _log.warning("usage stays in Redis", error=error.message)
        if self.meter.unsent:
            # Nobody but this process knows of them. Should Redis have some of them after all, the ledger takes one.
            await asyncio.to_thread(self.services.ledger.append, self.meter.unsent)


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
