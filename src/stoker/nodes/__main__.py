"""`python -m stoker.nodes`: writes the lives of a cluster's nodes and pods into the ledger, for `stoker cost` and
`stoker starts`. One at a time; another that starts goes on where it was ended."""

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path

from stoker.aws.spot_prices import spot_prices
from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.base.process import say_ready, stop_event
from stoker.kubernetes.cluster import connect, connect_in_pod
from stoker.meter.lives import Lives
from stoker.meter.store import Store
from stoker.nodes.watcher import EVERY_S, Watcher

_log = logs.get("nodes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="stoker.nodes", description=__doc__)
    parser.add_argument(
        "--namespace", action="append", required=True, help="where pods of the platform are; may be said again"
    )
    parser.add_argument("--ledger", default=os.environ.get("STOKER_LEDGER_URL"), help="default: $STOKER_LEDGER_URL")
    parser.add_argument("--kubeconfig", type=Path, help="outside of a cluster; in a pod its ServiceAccount signs in")
    parser.add_argument("--context", default="", help="of the kubeconfig")
    parser.add_argument("--no-prices", action="store_true", help="do not ask EC2 for spot prices")
    parser.add_argument("--leash", action="store_true", help="stop when stdin ends")
    options = parser.parse_args()
    if not options.ledger:
        parser.error("--ledger is needed, or $STOKER_LEDGER_URL")
    logs.configure("nodes")
    try:
        asyncio.run(run(options))
    except StokerError as error:
        _log.error("the watcher of nodes cannot run", error=error.in_log, hint=error.hint)
        sys.exit(error.exit_code)


async def run(options: argparse.Namespace) -> None:
    """Until it is told to stop. A cluster that does not answer, or lets nobody list its nodes, is tried again."""
    stop = stop_event(leash=options.leash)
    cluster = connect(options.kubeconfig, options.context) if options.kubeconfig else connect_in_pod()
    store = await asyncio.to_thread(Store, options.ledger)
    watcher = Watcher(cluster, Lives(store), options.namespace, None if options.no_prices else spot_prices)
    say_ready()
    try:
        await _look_until(stop, watcher)
    finally:
        cluster.close()
        store.close()


async def _look_until(stop: asyncio.Event, watcher: Watcher) -> None:
    clock, is_failing = SystemClock(), False
    while not stop.is_set():
        try:
            await asyncio.to_thread(watcher.look, clock.now())
            is_failing = False
        except StokerError as error:  # rights may come, too
            if not is_failing:
                _log.warning("cannot look now; tries again", error=error.in_log, hint=error.hint)
            is_failing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EVERY_S)


if __name__ == "__main__":
    main()
