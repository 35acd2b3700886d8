"""Where processes run, and what they take: one core for the gateway under test, another for all that drives it."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

GATEWAY, LOAD = 0, 1


@contextlib.contextmanager
def pinned_to(core: int) -> Iterator[None]:
    """Children that are started inside stay on this core, and so do theirs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Used:
    """CPU seconds: of the process with its children, and of its core whoever used it."""

    mine: float
    core: float

    def __sub__(self, earlier: "Used") -> "Used":
        return Used(self.mine - earlier.mine, self.core - earlier.core)


def used(pid: int, core: int = GATEWAY) -> Used:
    of_core = psutil.cpu_times(percpu=True)[core]
    busy = sum(of_core) - of_core.idle - of_core.iowait - of_core.guest - of_core.guest_nice
    return Used(sum(_cpu_s(each) for each in family(pid)), busy)


def cpu_s(pid: int) -> float:
    return sum(_cpu_s(each) for each in family(pid))


def resident_mb(pid: int) -> float:
    return float(sum(each.memory_info().rss for each in family(pid))) / 1e6


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    # What children that have ended took is in their parent's account.
    return float(times.user + times.system + times.children_user + times.children_system)
