"""When a run has to stop, so that the checkpoint it stops with is still paid for. No torch."""

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.spec.run import Run, RunBudget
from stoker.train.accounting import Launch, summary
from stoker.train.live import Live

SAVES = 1.2
"""A save is taken to last so many times what was seen: it may be slower than the last one."""
_RECENT = 20
"""Steps, of which the middle one is what a step takes."""


def must_stop(
    budget: RunBudget,
    *,
    spent_usd: float | None,
    usd_per_hour: float | None,
    spent_s: float,
    step_s: float,
    save_s: float,
    another: str = "another step and a checkpoint",
) -> str | None:
    """At the end of a step: why the run has to stop now, or None when one more step and then a save (`another`, in
    words) are within the budget. `spent`: by all launches of the run; `usd_per_hour`: of its nodes now."""
    ahead_s = step_s + SAVES * save_s
    if budget.usd is not None and spent_usd is not None:
        limit = float(budget.usd)
        if spent_usd + (usd_per_hour or 0.0) * ahead_s / 3600.0 > limit:
            return f"${spent_usd:.4f} of ${limit:.4f} are spent; {another} would be more"
    if budget.hours is not None and spent_s + ahead_s > budget.hours * 3600.0:
        return f"{spent_s / 3600:.2f} of {budget.hours:g} hours are over; {another} would be more"
    return None


def cannot_begin(run: Run, records: Iterable[Mapping[str, Any]], *, now: float) -> str | None:
    """Before a launch, by the run's record: why the budget does not allow it, or None. What a launch has to pay for
    before it has done anything is the shortest start that a launch of this run had, a step and a save. The first launch
    always begins: nobody knows yet what it will cost. Without a budget nothing is read."""
    if run.budget == RunBudget():
        return None
    said = summary(records, now=now)
    starts = [
        each.seconds.get("start", 0.0) + each.seconds.get("restore", 0.0)
        for each in said.lives
        if each.to_step > each.from_step
    ]
    steps = [*said.step_seconds.values()][-_RECENT:]
    return must_stop(
        run.budget,
        spent_usd=said.usd,
        usd_per_hour=_usd_per_hour(run, said.lives[-1]) if said.lives else None,
        spent_s=sum(said.seconds.values()),
        step_s=min(starts, default=0.0) + (median(steps) if steps else 0.0),
        save_s=said.saves[-1].seconds if said.saves else 0.0,
        another="a start, a step and a checkpoint",
    )


def _usd_per_hour(run: Run, last: Launch) -> float | None:
    """What the run file says, which may be new, or what the nodes of the last launch cost."""
    if run.prices.usd_per_hour is not None:
        return run.nodes * float(run.prices.usd_per_hour)
    prices = [each.get("usd_per_hour") for each in last.nodes]
    known = [float(each) for each in prices if each is not None]
    return sum(known) if known else None


class BudgetWatch:
    """Call it at the end of each step (`loop.Parts.is_spent`): whether the run has to stop. `save_s`: how long a save
    takes, as far as is known. Raises InvalidInput for a budget in dollars on machines without a price."""

    def __init__(self, budget: RunBudget, live: Live, *, save_s: Callable[[], float]) -> None:
        if budget.usd is not None and live.usd_per_hour is None:
            raise InvalidInput(
                "budget.usd is set, and what the machine costs is not known",
                param="budget.usd",
                hint="set prices.instanceType or prices.usdPerHour, or limit budget.hours",
            )
        self._budget, self._live, self._save_s = budget, live, save_s
        self.why: str | None = None
        """Once it has to stop."""

    def __call__(self) -> bool:
        if self.why is None:
            self.why = must_stop(
                self._budget,
                spent_usd=self._live.usd,
                usd_per_hour=self._live.usd_per_hour,
                spent_s=self._live.seconds,
                step_s=self._live.step_s,
                save_s=self._save_s(),
            )
        return self.why is not None
