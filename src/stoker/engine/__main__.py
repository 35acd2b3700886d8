"""`python -m stoker.engine`: one process, one model, the OpenAI API on one port; with $STOKER_ENGINE_KEY, for those who
send it.

Its manners towards its supervisor are those of base/process.py.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.base import logs, process
from stoker.base.clock import SystemClock
from stoker.base.errors import InvalidInput, StokerError

if TYPE_CHECKING:
    from stoker.engine.loop import StepLoop

TASKS = ("general", "code", "vision")
GRACE_S = 8.0
"""What running requests get to finish after SIGTERM; `stoker up` stops everything within 10 s."""
CLOSE_S = 0.3
"""For the last points and the last spans, each: `stoker up` kills an engine a second after it was asked to leave."""

WAITING_PER_RUNNING = 8
"""A queue of more would only hold what the platform's own queue holds better."""


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stoker.engine", description="The embedded engine of Stoker.")
    parser.add_argument("--model", required=True, metavar="NAME", help="the name that requests call it by")
    parser.add_argument("--task", choices=TASKS, default="general", help="vision takes images (default: general)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (default)")
    parser.add_argument("--context", type=int, default=4096, metavar="TOKENS", help="prompt and answer together")
    parser.add_argument("--max-running", type=int, default=8, metavar="N", help="requests in the batch at once")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="default: those that come with the package")
    parser.add_argument("--digest", metavar="HEX", help="refuse weights that have another digest")
    parser.add_argument("--leash", action="store_true", help="end when stdin does")
    arguments = parser.parse_args(argv)
    for name in ("context", "max_running"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; it has to be at least 1")
    return arguments


async def _serve(arguments: argparse.Namespace) -> None:
    from stoker.engine import app
    from stoker.engine.loop import StepLoop
    from stoker.engine.parsing import Served
    from stoker.engine.runner import Runner
    from stoker.engine.scheduler import Limits
    from stoker.nn import bundle as bundles
    from stoker.registry import weights
    from stoker.telemetry.metrics import Metrics
    from stoker.telemetry.otlp_metrics import sending
    from stoker.telemetry.traces import traces_from, tracing_from
    from stoker.web import server

    stop = process.stop_event(leash=arguments.leash)
    listening = server.bind(arguments.host, arguments.port)
    clock = SystemClock()
    listening_at = clock.now()
    folder = arguments.weights or bundles.default_folder()
    if arguments.digest is not None:
        weights.check(folder, arguments.digest)
    bundle = bundles.load(folder)
    if arguments.task == "vision" and bundle.projector is None:
        raise InvalidInput("these weights have no image projector; --task vision needs one", param="--weights")
    loaded_at = clock.now()
    limits = Limits(arguments.max_running, arguments.max_running * WAITING_PER_RUNNING)
    runner = Runner(bundle, arguments.model, arguments.context, limits, clock, Metrics())
    if runner.context < arguments.context:
        logs.get(__name__).warning("context is the model's", asked=arguments.context, tokens=runner.context)
    loop = StepLoop(runner, clock)
    loop.start()
    draining = asyncio.create_task(_drain_at(stop, loop))
    digest = arguments.digest or weights.digest_of(folder)[0]
    served = Served(bundle, arguments.model, arguments.task, runner.context, digest)
    port = listening.getsockname()[1]
    traces = traces_from(os.environ, "stoker-engine")
    tracing = tracing_from(traces, os.environ)
    try:
        async with sending(runner.metrics.metrics, "stoker-engine", refresh=runner.metrics.text, close_s=CLOSE_S):
            await server.serve(
                app.build(loop, served, clock, key=os.environ.get(process.ENGINE_KEY), tracing=tracing),
                listening,
                stop,
                on_ready=lambda: process.say_ready(
                    url=f"http://{arguments.host}:{port}",
                    model=arguments.model,
                    listening_at=listening_at,
                    loaded_at=loaded_at,
                ),
                grace_s=GRACE_S,
            )
    finally:
        draining.cancel()
        loop.stop()
        if traces is not None:
            await asyncio.to_thread(traces.close, CLOSE_S)


async def _drain_at(stop: asyncio.Event, loop: "StepLoop") -> None:
    await stop.wait()
    loop.drain()


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    logs.configure("engine")
    # One thread for matrix products: the matrices are small, and every engine of a machine is a process of its own.
    # numpy reads this when it is imported, which `_serve` does.
    for variable in ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):  # Linux; Apple's own library on macOS
        os.environ.setdefault(variable, "1")
    try:
        asyncio.run(_serve(arguments))
    except StokerError as error:
        logs.get(__name__).error(
            "engine cannot start", model=arguments.model, code=error.code, reason=error.message, hint=error.hint
        )
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
