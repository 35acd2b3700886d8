"""One gateway from its parts: what runs beside its routes, and how it ends."""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from stoker.aws.cloudwatch import Metrics as CloudWatchMetrics
from stoker.aws.cloudwatch_names import TOKENS
from stoker.aws.sqs import SqsQueue
from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.base.ids import ModelName
from stoker.base.process import CLOUDWATCH_ENV
from stoker.engine.client import EngineClient
from stoker.gateway import app, budget_levels, cold_starts, openai, retention, spending
from stoker.gateway.admission import Admission
from stoker.gateway.agents import AgentsService
from stoker.gateway.alerts import Alerts
from stoker.gateway.ask import Patience
from stoker.gateway.audited import Changes
from stoker.gateway.auth import Authenticator
from stoker.gateway.batch_driver import Drivers
from stoker.gateway.callbacks import Callbacks
from stoker.gateway.cloudwatch import CloudWatch, Figures
from stoker.gateway.commitments import Commitments
from stoker.gateway.cost_reports import CostReports
from stoker.gateway.fleet import Fleet
from stoker.gateway.forwarding import Forwarder
from stoker.gateway.inference import Inference
from stoker.gateway.limits import TermsOfCallers
from stoker.gateway.measures import Measures
from stoker.gateway.owner import Life
from stoker.gateway.queue_clock import QueueClock
from stoker.gateway.rebuild import Rebuild
from stoker.gateway.reconciler import Reconciler
from stoker.gateway.services import Services
from stoker.gateway.sessions import Sessions
from stoker.gateway.settling import Settler
from stoker.meter.alerts import AlertStore
from stoker.meter.audit import AuditTrail
from stoker.meter.batches import BatchStore
from stoker.meter.files import FileStore
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives
from stoker.meter.store import Store
from stoker.meter.tenants import TenantStore
from stoker.policy.routing import table_of
from stoker.queue import BudgetStore, Depth, Queue, Registry, Replica
from stoker.spec import Platform, ServerEngine, engine_key
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.spans import Tracing
from stoker.web.client import Timeouts
from stoker.web.server import serve

_log = logs.get(__name__)

# Running answers may take this long to end once the gateway is told to stop; the supervisor gives 10 s for everything.
GRACE_S = 4.0
# And this long, to be written down: what was stopped is asked for at its engine, for half a second at most.
WRITE_DOWN_S = 1.2


@dataclass(frozen=True, slots=True)
class Gateway:
    services: Services
    fleet: Fleet
    life: Life
    admission: Admission
    reconciler: Reconciler
    settler: Settler
    commitments: Commitments
    cloudwatch: CloudWatch | None = None
    """None: nothing is put there."""
    alerts: Alerts | None = None
    """None: nobody is told of budgets."""

    @classmethod
    def of(
        cls,
        platform: Platform,
        *,
        queue: Queue,
        registry: Registry,
        budgets: BudgetStore,
        journals: Path,
        store: Store,
        clock: Clock,
        agents_key: str | None = None,
        agents_url: str | None = None,
        tracing: Tracing | None = None,
    ) -> "Gateway":
        """`journals` is the folder in which the gateways of this machine say what they have in flight. `agents_key` is
        the secret of grants, `agents_url` the agents' service; without both there are no agents here."""
        connect = connector(platform)
        fleet = Fleet(registry, frozenset(platform.llm.models), connect, clock)
        measures = Measures(Metrics())
        commitments = Commitments()
        ledger, lives = Ledger(store), Lives(store)
        settler = Settler(queue, ledger, f"gateway-{uuid.uuid4().hex}", clock)
        keys, tenants = KeyStore(store, clock), TenantStore(store, clock)
        tenants.ensure(platform.tenants)
        rebuild = Rebuild(ledger, settler)
        life = Life(budgets, rebuild, journals, clock)
        admission = Admission(budgets, life, rebuild, measures)
        sessions = Sessions(ledger, clock, idle_s=platform.gateway.sessions.idle_seconds)
        auth = Authenticator(keys, clock, agents_key=agents_key)
        services = Services(
            platform=platform,
            table=table_of(platform),
            auth=auth,
            fleet=fleet,
            inference=Inference(
                fleet, queue, admission, sessions, clock, commitments, Patience.of(platform.gateway.timeouts)
            ),
            terms=TermsOfCallers({name: agent.budgets for name, agent in platform.agents.definitions.items()}),
            queue=queue,
            budgets=budgets,
            keys=keys,
            tenants=tenants,
            files=FileStore(store, clock),
            batches=BatchStore(store, clock),
            changes=Changes(auth, AuditTrail(store, clock)),
            ledger=ledger,
            lives=lives,
            costs=CostReports(ledger, lives, store.url),
            settler=settler,
            measures=measures,
            clock=clock,
            started_at=clock.now(),
            sqs=_sqs(platform),
            agents=AgentsService.at(agents_url, agents_key),
            tracing=tracing,
            alerts=AlertStore(store) if platform.costs.alerts.is_on else None,
        )
        reconciler = Reconciler(life.owner.name, budgets, queue, platform, journals, connect, measures, clock)
        cloudwatch = _cloudwatch(services)
        if cloudwatch is not None:
            settler.counted = cloudwatch.count
        alerts = None
        if services.alerts is not None:
            alerts = Alerts(
                platform,
                store=services.alerts,
                budgets=budgets,
                keys=keys,
                tenants=tenants,
                ledger=ledger,
                clock=clock,
                random=Random(),
            )
            settler.noticed, admission.refused = alerts.notice, alerts.refused
        return cls(services, fleet, life, admission, reconciler, settler, commitments, cloudwatch, alerts)

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
        machines = spending.Gauges(services.measures.metrics)
        if self.cloudwatch is not None:
            self.cloudwatch.usd_per_hour = machines.by_type
        beside = [
            asyncio.create_task(part)
            for part in (
                self.fleet.watch(),
                self.fleet.probe_forever(),
                self.life.renew_forever(),
                self.reconciler.reconcile_forever(),
                self.settler.settle_forever(),
                retention.prune_forever(services.ledger, services.platform.ledger.retention_days, services.clock),
                Callbacks(services.queue, services.tenants, services.clock, Random()).deliver_forever(),
                *self._forwarding(),
                *(() if self.cloudwatch is None else (self.cloudwatch.put_forever(),)),
                *(() if self.alerts is None else (self.alerts.notice_forever(), self.alerts.tell_forever())),
                self._queue_clock().tick_forever(),
                retention.sweep_forever(services.files, services.batches, services.clock),
                Drivers(services, self.life.owner.name).drive_forever(),
                retention.forget_changes_forever(
                    services.changes.trail, services.platform.ledger.audit_days, services.clock
                ),
                spending.look_forever(services.lives, machines.show, services.clock),
                cold_starts.look_forever(
                    services.lives, cold_starts.Gauges(services.measures.metrics).show, services.clock
                ),
                budget_levels.look_forever(
                    services.keys,
                    services.tenants,
                    {name: agent.budgets for name, agent in services.platform.agents.definitions.items()},
                    services.budgets,
                    budget_levels.Gauges(services.measures.metrics).show,
                    services.clock,
                ),
            )
        ]
        # Answers that end wait for it, so it goes on until the last one has.
        settling = asyncio.create_task(self.admission.settle_forever())
        serving = asyncio.create_task(
            serve(
                app.create(self.services),
                listening,
                stop,
                on_ready=on_ready,
                grace_s=grace_s,
                direct=openai.direct(self.services),
                max_message_bytes=self.services.platform.gateway.max_body_bytes,
            )
        )
        try:
            await asyncio.wait({serving, settling, *beside}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            await asyncio.wait({serving})
            for task in beside:
                task.cancel()
            ends = await asyncio.gather(serving, *beside, return_exceptions=True)
            await self._written_down(settling)
            settling.cancel()
            ends += await asyncio.gather(settling, return_exceptions=True)
            await self._leave()
            if self.cloudwatch is not None:
                await asyncio.to_thread(self.cloudwatch.close)
            if self.alerts is not None:
                await self.alerts.aclose()
            await self.fleet.aclose()
            if services.sqs is not None:
                await services.sqs.aclose()
            if services.agents is not None:
                await services.agents.http.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _queue_clock(self) -> QueueClock:
        services = self.services
        models = [ModelName(name) for name in services.platform.llm.models]
        holder = f"gateway-{uuid.uuid4().hex}"
        return QueueClock(services.queue, self.fleet, models, services.clock, holder=holder)

    def _forwarding(self) -> list[Coroutine[Any, Any, None]]:
        """Dead letters to SQS, where there is one."""
        services = self.services
        if services.sqs is None:
            return []
        models = [ModelName(name) for name in services.platform.llm.models]
        holder = f"gateway-{uuid.uuid4().hex}"
        forwarder = Forwarder(services.queue, services.sqs, models, services.clock, Random(), holder=holder)
        return [forwarder.forward_forever()]

    async def _written_down(self, settling: "asyncio.Task[None]") -> None:
        """Returns when every answer has left its record in Redis, or in the journal when Redis is away."""
        last = asyncio.create_task(self.commitments.settled())
        await asyncio.wait({last, settling}, return_when=asyncio.FIRST_COMPLETED, timeout=WRITE_DOWN_S)
        last.cancel()

    async def _leave(self) -> None:
        """What the last answers left behind. What is in Redis and not in the ledger waits for the next start, and what
        only the journal has, for whoever reads it next."""
        try:
            await self.admission.settle_waiting()
            await self.life.leave()
        except StokerError as error:
            _log.warning("Redis is away at the end", error=error.in_log, waiting=len(self.admission.unsent))
            self.life.close()
        try:
            await self.settler.settle_all()
        except StokerError as error:
            _log.warning("usage stays in Redis", error=error.in_log)
        if self.admission.unsent:
            # The journal has them, too, as long as this machine lives. Whoever comes second, the ledger takes one.
            await self.settler.store(self.admission.unsent)


def _sqs(platform: Platform) -> SqsQueue | None:
    if not platform.keda.scalers.sqs:
        return None
    return SqsQueue(platform.queue.dead_letters.sqs_queue, region=platform.global_.cluster.region)


def _cloudwatch(services: Services) -> CloudWatch | None:
    """Raises InvalidInput where metrics are to be put and boto3 is not installed."""
    said = services.platform.global_
    if not (said.observability.enabled and said.observability.cloudwatch):
        return None
    if os.environ.get(CLOUDWATCH_ENV) != "on":
        _log.info("nothing is put into CloudWatch from here", hint=f"{CLOUDWATCH_ENV}=on does it, as in the cluster")
        return None

    async def look() -> tuple[Mapping[str, tuple[Depth, int]], Mapping[str, int]]:
        return await app.depths(services), services.fleet.in_flight()

    return CloudWatch(
        Figures(said.cluster.name, services.platform.llm.models, said.observability.cloudwatch_tenants),
        CloudWatchMetrics(TOKENS, region=said.cluster.region),
        services.clock,
        cluster=said.cluster.name,
        look=look,
    )


def connector(platform: Platform) -> Callable[[Replica], EngineClient]:
    """How to reach a replica: the engine's own key and name of the model are in the spec, its address in Redis. Raises
    InvalidInput at once for a key that is not in the environment."""
    keys = {name: engine_key(platform, name, os.environ) for name in platform.llm.models}
    patience = Patience.of(platform.gateway.timeouts)
    longest_s = max(patience.first_token_s, patience.between_tokens_s)
    timeouts = Timeouts(connect_s=patience.connect_s, read_s=longest_s)

    def connect(replica: Replica) -> EngineClient:
        engine = platform.llm.models[replica.model].engine
        model = (engine.model if isinstance(engine, ServerEngine) else None) or replica.model
        return EngineClient(
            replica.url,
            model=model,
            key=keys[replica.model],
            timeouts=timeouts,
            name=f"replica {replica.id}",
        )

    return connect
