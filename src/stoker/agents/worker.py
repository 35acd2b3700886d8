"""`python -m stoker.agents.worker`: takes steps of agents' runs, until it is told to stop."""

import argparse
import asyncio
import os
import sys
import uuid
from functools import partial
from pathlib import Path
from random import Random

from stoker.agents import probes, savers
from stoker.agents.context import Parts
from stoker.agents.loop import Worker
from stoker.agents.metrics import StepMetrics
from stoker.agents.model import Gateway
from stoker.agents.retention import EVERY_S, Retention
from stoker.agents.settings import Settings
from stoker.agents.steps import Stepper
from stoker.agents.store import Store
from stoker.agents.tools import threads
from stoker.agents.tools.toolbox import Toolbox
from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.instance.notices import watcher
from stoker.policy.retry import delay_s
from stoker.queue import QueueSettings, RedisQueue
from stoker.spec import load
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import sending
from stoker.web import server

_log = logs.get(__name__)

GRACE_S = 2.0


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stoker.agents.worker", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--name", required=True, help="the name of this worker, unique in the platform")
    parser.add_argument(
        "--folder", type=Path, required=True, help="where files of runs, and checkpoints of SQLite, lie"
    )
    parser.add_argument("--base", type=Path, help="where relative paths of agents begin; default: the spec's folder")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds for running steps after a stop")
    parser.add_argument("--metadata-file", type=Path, help="as that of stoker.worker")
    parser.add_argument("--health-port", type=int, help="answer /health and /metrics there, as a cluster asks for them")
    parser.add_argument("--health-host", default="0.0.0.0")  # noqa: S104 - of its pod
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    return parser.parse_args(argv)


def main() -> None:
    options = arguments()
    logs.configure(options.name)
    try:
        server.run(run(options))
    except StokerError as error:
        _log.error("agent worker cannot run", error=error.in_log, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    # Nodes that are no coroutines run here; those that never return are in nobody's way, and end with the process.
    asyncio.get_running_loop().set_default_executor(threads.Daemons())
    stop, retire = process.stop_event(leash=options.leash), process.retire_event()
    platform, settings, clock = load(options.spec), Settings.of(os.environ, gateway=True), SystemClock()
    base = options.base or options.spec.absolute().parent
    queue = RedisQueue(settings.redis_url, settings=QueueSettings.of(platform.queue))
    store, gateway = Store(settings.database_url), Gateway(settings.gateway_url, clock)
    toolbox = Toolbox(platform.agents, base=base, folder=options.folder / "runs", environ=os.environ)
    metrics = StepMetrics(Metrics())
    notices = watcher(platform.spot, options.metadata_file, os.environ, clock)
    try:
        async with (
            probes.answering(metrics.metrics, options.health_port, options.health_host) as url,
            sending(metrics.metrics, "stoker-agent-worker"),
            savers.opened(settings.database_url, options.folder) as heads,
        ):
            parts = Parts(
                platform, store, queue, gateway, toolbox, clock, settings.secret, options.folder, options.name
            )
            stepper = Stepper(parts, heads, base)
            days, runs = platform.agents.retention_days, options.folder / "runs"
            retention = Retention(store, heads, queue, clock, runs, days, f"{options.name}-{uuid.uuid4().hex}")
            worker = Worker(
                name=options.name,
                stepper=stepper,
                queue=queue,
                clock=clock,
                room=platform.agents.workers.steps_at_once,
                lease_s=platform.agents.workers.lease_seconds or platform.queue.lease_seconds,
                grace_s=options.grace,
                delay_s=partial(
                    _delay_s, platform.queue.retry_base_seconds, platform.queue.retry_cap_seconds, Random()
                ),
                metrics=metrics,
                watcher=notices,
                chores=[(EVERY_S, retention.forget)],
                on_ready=lambda: process.say_ready(worker=options.name, url=url),
            )
            try:
                await worker.run(stop, retire)
            finally:
                await stepper.aclose()
    finally:
        if notices is not None:
            notices.close()
        await toolbox.aclose()
        await gateway.aclose()
        await queue.aclose()
        await asyncio.to_thread(store.close)


def _delay_s(base_s: float, cap_s: float, random: Random, attempt: int) -> float:
    return delay_s(attempt, base_s=base_s, cap_s=cap_s, random=random)


if __name__ == "__main__":
    main()
