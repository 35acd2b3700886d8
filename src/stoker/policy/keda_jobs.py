"""How many Jobs KEDA makes of a ScaledJob at one poll.

In the order of upstream (kedacore/keda, pkg/scaling/scaledjob and pkg/scaling/executor/scale_jobs.go): what the active
triggers ask for, put together, and what is running already. Amounts of triggers in thousandths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

Calculation = Literal["max", "min", "avg", "sum"]
Kind = Literal["default", "custom", "accurate", "eager"]


@dataclass(frozen=True, slots=True)
class Queue:
    """What one trigger read. One that is not active does not count."""

    length: int
    target: int
    is_active: bool = True

    def __post_init__(self) -> None:
        if self.target <= 0:
            raise ValueError(f"a queue has the target {self.target}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Strategy:
    """`deduction` and `running_percent` are of `custom` alone: so many fewer, and that share of those that run."""

    kind: Kind = "default"
    deduction: int = 0
    running_percent: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class ScaledJob:
    minimum: int = 0
    maximum: int = 100
    calculation: Calculation = "max"
    strategy: Strategy = Strategy()

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum {self.minimum} and maximum {self.maximum} leave no number of Jobs")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`jobs`: how many at once are wanted for all queues; `queued`: how many messages there are, and more Jobs than
    messages are never made."""

    jobs: int
    queued: int


def wanted(job: ScaledJob, queues: Sequence[Queue]) -> Wanted:
    """Of all triggers together."""
    active = [each for each in queues if each.is_active]
    if not active:
        return Wanted(0, 0)
    each_wants = [
        (min(Fraction(one.length, one.target), Fraction(job.maximum)), Fraction(one.length, 1000)) for one in active
    ]
    match job.calculation:
        case "max":
            most, length = max(each_wants, key=lambda pair: pair[0])
        case "min":
            most, length = min(each_wants, key=lambda pair: pair[0])
        case "avg":
            most = sum((pair[0] for pair in each_wants), Fraction(0)) / len(active)
            length = sum((pair[1] for pair in each_wants), Fraction(0)) / len(active)
        case "sum":
            most = sum((pair[0] for pair in each_wants), Fraction(0))
            length = sum((pair[1] for pair in each_wants), Fraction(0))
    return Wanted(ceil(min(most, Fraction(job.maximum))), ceil(length))


def created(job: ScaledJob, queues: Sequence[Queue], running: int, pending: int = 0) -> int:
    """How many are made now. `running`: neither complete nor failed; `pending`: of these, those without a pod that runs
    or has succeeded."""
    if running < job.minimum:
        return job.minimum - running
    asked = wanted(job, queues)
    number, most = _by_strategy(job, asked, running - job.minimum, pending)
    return min(most, max(0, number))


def _by_strategy(job: ScaledJob, asked: Wanted, running: int, pending: int) -> tuple[int, int]:
    """How many, and how many at most."""
    match job.strategy.kind:
        case "default":
            return asked.jobs - running, asked.queued
        case "custom":
            taken = int(running * job.strategy.running_percent)
            return min(asked.jobs - job.strategy.deduction - taken, job.maximum), asked.queued
        case "accurate":
            if asked.jobs + running - pending > job.maximum:
                return job.maximum - running, asked.queued
            return asked.jobs - pending, asked.queued
        case "eager":
            return min(job.maximum - running - pending, asked.jobs), job.maximum
