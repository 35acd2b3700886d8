"""`python -m stoker.agents`: the API of agents on one port, until it is told to stop."""

import argparse
import asyncio
import os
import sys
import uuid
from pathlib import Path

from stoker.agents import api
from stoker.agents.exporting import Exporter
from stoker.agents.metrics import ServiceMetrics
from stoker.agents.service import Service
from stoker.agents.settings import Settings
from stoker.agents.store import Store
from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.queue import QueueSettings, RedisQueue
from stoker.spec import load
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import sending
from stoker.telemetry.spans import sampler_of
from stoker.telemetry.traces import traces_from
from stoker.web import server

_log = logs.get(__name__)

GRACE_S = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="stoker.agents", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds for running requests after a stop")
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    options = parser.parse_args()
    logs.configure("agents")
    try:
        server.run(run(options))
    except StokerError as error:
        _log.error("the agents' service cannot run", error=error.in_log, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    stop = process.stop_event(leash=options.leash)
    platform, settings = load(options.spec), Settings.of(os.environ, gateway=False)
    listening = server.bind(options.host, options.port)
    queue = RedisQueue(settings.redis_url, settings=QueueSettings.of(platform.queue, platform.gateway.max_waiting))
    store = Store(settings.database_url)
    service = Service(platform, store, queue, SystemClock())
    holder, traces = f"agents-{uuid.uuid4().hex}", traces_from(os.environ, "stoker-agents")
    looking = [asyncio.create_task(service.look_forever(holder))]
    if traces is not None:
        exporter = Exporter(service, traces.add, sampler_of(os.environ))
        looking.append(asyncio.create_task(exporter.look_forever(holder)))
    metrics = ServiceMetrics(Metrics(), queue)
    try:
        async with sending(metrics.metrics, "stoker-agents", refresh=metrics.refresh):
            await server.serve(
                api.create(service, settings.secret, metrics),
                listening,
                stop,
                on_ready=lambda: process.say_ready(url=server.url_of(listening)),
                grace_s=options.grace,
                max_message_bytes=platform.gateway.max_body_bytes,
            )
    finally:
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        if traces is not None:
            await asyncio.to_thread(traces.close, 2.0)
        await queue.aclose()
        store.close()


if __name__ == "__main__":
    main()
