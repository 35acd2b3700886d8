"""`python -m stoker.worker`: one worker beside one engine, until it is told to stop."""

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path
from random import Random

from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import InvalidInput, StokerError
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.instance.notices import watcher
from stoker.queue import QueueSettings, RedisQueue, RedisRegistry
from stoker.spec import EMBEDDED, ServerEngine, engine_key, load
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import sending
from stoker.telemetry.traces import traces_from, tracing_from
from stoker.web.client import Timeouts
from stoker.worker.loop import Worker
from stoker.worker.metrics import WorkerMetrics
from stoker.worker.runner import Runner, Settings

_log = logs.get(__name__)

# The supervisor gives everything 10 s; in a cluster the pod's grace is longer and the worker's own comes with it.
GRACE_S = 2.0


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stoker.worker", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="platform.yaml")
    parser.add_argument("--model", required=True, help="a model of the spec")
    parser.add_argument("--replica", required=True, help="the name of this engine and worker, unique in the platform")
    parser.add_argument("--engine-url", required=True)
    parser.add_argument("--redis", default=os.environ.get("STOKER_REDIS_URL"), help="default: $STOKER_REDIS_URL")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds for running tasks after a stop")
    parser.add_argument(
        "--metadata-file",
        type=Path,
        help="holds, while it exists, the URL of an instance metadata service; looked at instead of the instance's own",
    )
    parser.add_argument("--metrics-port", type=int, help="answer /metrics there; 0 takes a free port")
    parser.add_argument("--metrics-host", default="0.0.0.0")  # noqa: S104 - of its pod
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    options = parser.parse_args(argv)
    if not options.redis:
        parser.error("--redis is needed, or $STOKER_REDIS_URL")
    return options


def main() -> None:
    options = arguments()
    logs.configure(f"worker-{options.replica}")
    try:
        asyncio.run(run(options))
    except StokerError as error:
        _log.error("worker cannot run", error=error.in_log, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    stop, retire = process.stop_event(leash=options.leash), process.retire_event()
    platform = load(options.spec)
    if options.model not in platform.llm.models:
        raise InvalidInput(f"--model is {options.model!r}; the models are: {', '.join(platform.llm.models)}")
    model = platform.llm.models[options.model]
    clock = SystemClock()
    queue = RedisQueue(options.redis, settings=QueueSettings.of(platform.queue))
    registry = RedisRegistry(options.redis)
    server = model.engine if isinstance(model.engine, ServerEngine) else None
    engine = EngineClient(
        options.engine_url,
        model=(server.model if server else None) or options.model,
        key=engine_key(platform, options.model, os.environ),
        name=f"replica {options.replica}",
        timeouts=Timeouts(platform.gateway.timeouts.connect_seconds, read_s=model.limits.timeout_seconds),
    )
    settings = Settings(
        model=options.model,
        replica=options.replica,
        prices=model.prices,
        lease_s=platform.queue.lease_seconds,
        retry_base_s=platform.queue.retry_base_seconds,
        retry_cap_s=platform.queue.retry_cap_seconds,
        timeout_s=model.limits.timeout_seconds,
        continuous_usage=model.engine == EMBEDDED,
        goes_on=server.continues if server else True,
    )
    metrics = Metrics()
    traces = traces_from(os.environ, "stoker-worker")
    tracing = tracing_from(traces, os.environ)
    notices = watcher(platform.spot, options.metadata_file, os.environ, clock)
    serving = contextlib.AsyncExitStack()
    url = await serving.enter_async_context(metrics.served(options.metrics_port, options.metrics_host))
    await serving.enter_async_context(sending(metrics, "stoker-worker"))
    worker = Worker(
        name=options.replica,
        model=ModelName(options.model),
        capacity=model.limits.concurrency,
        url=options.engine_url,
        engine=engine,
        queue=queue,
        registry=registry,
        runner=Runner(
            settings,
            engine,
            queue,
            clock,
            Random(),
            started_at=clock.now(),
            tracing=tracing,
            metrics=WorkerMetrics(metrics, options.model),
        ),
        clock=clock,
        lease_s=settings.lease_s,
        grace_s=options.grace,
        watcher=notices,
        on_ready=lambda: process.say_ready(replica=options.replica, url=url),
    )
    try:
        await worker.run(stop, retire)
    finally:
        await serving.aclose()
        if notices is not None:
            notices.close()
        if traces is not None:
            await asyncio.to_thread(traces.close, 1.0)
        await engine.close()
        await queue.aclose()
        await registry.aclose()


if __name__ == "__main__":
    main()
