"""What it costs to find the replica for a request: `Fleet.choose`, and the bookkeeping of one request around it.

    .venv/bin/python benchmarks/gateway/choose.py [--rounds 20000]

Microseconds of the thread for one call, the fastest of 5 rounds, for several numbers of replicas of the model, beside
as many of another model. `busy` is choose, the request's begin and end, and the news that it was answered.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from stoker.base.clock import SystemClock
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.gateway.fleet import Fleet, Member
from stoker.policy.balance import place_of
from stoker.queue import MemoryRegistry, Replica

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe


def a_fleet(replicas: int) -> Fleet:
    clock = SystemClock()
    fleet = Fleet(MemoryRegistry(), frozenset(("general", "code")), lambda _: cast(EngineClient, None), clock)
    for model in ("general", "code"):
        for number in range(replicas):
            one = Replica(id=f"{model}-{number}", model=ModelName(model), url="", capacity=64, started_at=0.0)
            fleet.members[one.id] = Member(one, cast(EngineClient, None), clock.monotonic(), in_flight=number % 3)
    fleet._index()
    return fleet


def fastest_us(call: Callable[[], object], rounds: int) -> float:
    def once() -> float:
        began = time.thread_time_ns()
        for _ in range(rounds):
            call()
        return (time.thread_time_ns() - began) / 1000 / rounds

    return min(once() for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20_000)
    rounds = parser.parse_args().rounds
    print(describe())
    print(f"{'replicas':>8} {'least busy':>11} {'with a key':>11} {'busy':>8}")
    for replicas in (1, 2, 4, 16, 64):
        fleet = a_fleet(replicas)
        key = place_of("a session")

        def whole(fleet: Fleet = fleet, key: int = key) -> None:
            member = fleet.choose("general", exclude=(), key=key)
            assert member is not None
            with fleet.busy(member):
                fleet.answered(member, 200)

        least = fastest_us(lambda fleet=fleet: fleet.choose("general", exclude=()), rounds // replicas)  # type: ignore[misc]
        keyed = fastest_us(
            lambda fleet=fleet, key=key: fleet.choose("general", exclude=(), key=key), rounds // replicas
        )  # type: ignore[misc]
        print(f"{replicas:>8} {least:>11.2f} {keyed:>11.2f} {fastest_us(whole, rounds // replicas):>8.2f}")


if __name__ == "__main__":
    main()
