"""Hard budgets, explored to the last state, and that the exploration finds what is broken on purpose.

The rules of the model are what a process must do (`Rules`): without any one of them money is lost, or held for ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from budget_model import SMALL, check, tokens
from exploration import Problem
from world_parts import Call, Faults, Job, Redis, Rules, Scenario

from stoker.policy.budgets import Ask
from stoker.queue.books import Books, Owner
from stoker.queue.budgets import Settlement

KEY = "key:x:tokens:total"


@pytest.mark.parametrize("scenario", SMALL, ids=[scenario.name for scenario in SMALL])
def test_nothing_is_overspent_and_everything_comes_to_an_end(scenario: Scenario) -> None:
    report = check(scenario)

    assert report.problem is None, str(report.problem)
    assert report.is_complete
    assert report.settled > 0


def found(scenario: Scenario) -> Problem:
    problem = check(scenario, most_states=40_000).problem
    assert problem is not None, "the exploration found nothing"
    return problem


def alone(*jobs: Job, limit: int = 2, **changes: Any) -> Scenario:
    return Scenario("alone", (tokens(limit),), jobs or (Job(0, 1),), processes=1, outcomes="ends", **changes)


# --- books that are wrong -------------------------------------------------------------------------------------------


class HeldIsForgotten(Books):
    """Leases as if tasks held nothing."""

    def lease(self, now: float, owner: str, asks: Sequence[Ask]) -> Any:
        held = {name: sums.held for name, sums in self.counters.items()}
        for name in held:
            self.counters[name].held = 0
        answer = super().lease(now, owner, asks)
        for name, amount in held.items():
            self.counters[name].held = amount
        return answer


class NobodyIsAsked(Books):
    """Lets a task wait for what others hold and does not ask them."""

    def want(self, now: float, counters: Sequence[str]) -> None:
        pass


class SettledTwice(Books):
    """Forgets which reservations it has settled."""

    def settle(self, now: float, owner: str, items: Sequence[Settlement], append_usage: Callable[[str], None]) -> Any:
        if owner in self.owners:
            self.owners[owner].settled.clear()
        return super().settle(now, owner, items, append_usage)


class CountedHereAndThere(Books):
    """Adds what a record came to also to the counters that its settlement has an entry for."""

    def _without_entry(self, scopes: Sequence[str], entries: Sequence[str]) -> list[str]:
        return super()._without_entry(scopes, ())


class GenerousToTheDead(Books):
    """Frees what a dead owner had in flight too."""

    def _keep_only(self, now: float, owner: Owner, open: Any) -> None:
        super()._keep_only(now, owner, ())


class LateRenewalsCount(Redis):
    """Does what a renewal gives back, also when it arrives after it was made again and forgotten."""

    def _renew(self, call: Call) -> Any:
        self.calls_from[call.owner] = 0
        answer = super()._renew(call)
        self.calls_from[call.owner] = call.args[2]
        return answer


class GivenBackTwice(Redis):
    """After it has lost everything, does what its owner has given back before it stated what it holds."""

    def _enter(self, call: Call) -> Any:
        watermark, holding, _, settled = call.args
        return super()._enter(call._replace(args=(watermark, holding, 0, settled)))


class LeasedTwice(Redis):
    """Takes a lease that is made again for another one."""

    def _lease(self, call: Call) -> Any:
        self._answers(call.owner).pop(call.number, None)
        return super()._lease(call)


def test_a_lease_that_ignores_what_tasks_hold() -> None:
    problem = found(alone(Job(0, 1, is_task=True), Job(0, 1), limit=1, books=HeldIsForgotten))

    assert problem.why == f"{KEY}: spent 0 + leased 1 + held 1 is more than 1"


def test_a_task_that_waits_for_what_nobody_gives_back() -> None:
    """Nothing is overspent; but it dies of a budget that has room."""
    problem = found(replace(SMALL[-1], books=NobodyIsAsked))

    assert problem.why == "another attempt of task 0 fits and is not made: spent 1 + leased 1 + held 0"
    assert problem.trace[-1] == "the worker of task 0 vanishes after 0 tokens"


def test_a_settlement_that_counts_twice() -> None:
    problem = found(alone(books=SettledTwice, faults=Faults(repeats=1)))

    assert problem.why == "the ledger has job 0 twice"
    assert problem.trace[-2:] == (
        "the answer is lost and the call made again: the settlement of a0's 1",
        "Redis does the settlement of a0's 1",
    )


def test_a_settlement_that_counts_by_its_entry_and_by_its_scope() -> None:
    problem = found(alone(books=CountedHereAndThere))

    assert problem.why == f"{KEY}: 2 are spent; the ledger says 1"


def test_a_dead_owner_whose_reservations_are_freed() -> None:
    problem = found(alone(books=GenerousToTheDead, faults=Faults(crashes=1)))

    assert problem.why == f"{KEY}: up to 1 will have been spent, and it knows of spent 0 + leased 0 + held 0"


def test_a_renewal_that_arrives_late_and_gives_back_again() -> None:
    problem = found(alone(redis=LateRenewalsCount, faults=Faults(lost=1), leased=(2,), is_wanted=True))

    assert problem.why == f"{KEY}: up to 1 will have been spent, and it knows of spent 0 + leased 0 + held 0"
    assert "Redis does, late, a0's renewal (gives back 1 of key:x:tokens:total)" in problem.trace


def test_a_part_that_is_given_back_before_and_after_redis_lost_everything() -> None:
    problem = found(alone(redis=GivenBackTwice, faults=Faults(wipes=1), leased=(2,), is_wanted=True))

    assert problem.why == f"{KEY}: up to 1 will have been spent, and it knows of spent 0 + leased 0 + held 0"


def test_a_lease_that_is_granted_twice_is_held_for_nobody() -> None:
    """Nothing is overspent; but what nobody knows of is refused to those whom it would fit."""
    problem = found(alone(Job(0, 1), Job(0, 1), redis=LeasedTwice, faults=Faults(repeats=1), checks_admission=True))

    assert problem.why == "request 1 fits and is not admitted: spent 0 + leased 2 + held 0"


# --- processes that do not keep the rules ---------------------------------------------------------------------------

LOST = "and it knows of spent 0 + leased 0 + held 0"

RESET = next(each for each in SMALL if each.name == "a limit is taken away and set again")

BROKEN_RULES = [
    ("journal_first", alone(faults=Faults(crashes=1)), f"up to 1 will have been spent, {LOST}"),
    (
        "journal_the_end",
        alone(Job(0, 2), Job(0, 2), faults=Faults(crashes=1), leased=(2,)),
        "spent 0 + leased 4 + held 0 is more than 2",
    ),
    ("forget_when_confirmed", alone(faults=Faults(crashes=1)), f"up to 1 will have been spent, {LOST}"),
    (
        "state_pending",
        alone(Job(0, 1), Job(0, 1), faults=Faults(wipes=1)),
        "up to 1 will have been spent, and Redis does not know it",
    ),
    ("ask_ledger", alone(faults=Faults(wipes=1)), "2 are spent; the ledger says 1"),
    ("state_the_dead", alone(faults=Faults(wipes=1, crashes=1)), "from here nothing leads to an end"),
    (
        "wait_to_open",
        Scenario("two", (tokens(2),), (Job(0, 1), Job(1, 1)), Faults(wipes=1), outcomes="ends", leased=(2,)),
        "up to 1 will have been spent, and Redis does not know it",
    ),
    ("ledger_first", alone(faults=Faults(wipes=1)), "1 were produced; the ledger knows of 0"),
    (
        "settle_unclear_submits",
        alone(Job(0, 1, is_task=True), Job(0, 1), limit=1, faults=Faults(lost=1)),
        "up to 2 will have been spent of 1",
    ),
    ("count_without_journal", alone(faults=Faults(nodes=1)), f"up to 1 will have been spent, {LOST}"),
    ("count_what_runs", alone(faults=Faults(crashes=1)), f"up to 1 will have been spent, {LOST}"),
    ("settle_the_open", alone(faults=Faults(crashes=1)), "from here nothing leads to an end"),
    ("name_the_scopes", RESET, f"up to 1 will have been spent, {LOST}"),
    ("open_first", RESET, f"up to 1 will have been spent, {LOST}"),
    (
        "give_back_wanted",
        replace(SMALL[0], jobs=(Job(0, 1), Job(1, 1)), leased=(2,)),
        "request 1 fits and is not admitted",
    ),
]


@pytest.mark.parametrize(("rule", "scenario", "why"), BROKEN_RULES, ids=[rule for rule, _, _ in BROKEN_RULES])
def test_each_rule_of_a_process_is_needed(rule: str, scenario: Scenario, why: str) -> None:
    problem = found(replace(scenario, rules=replace(Rules(), **{rule: False})))

    assert why in problem.why, str(problem)


def test_every_rule_has_a_case() -> None:
    assert sorted(rule for rule, _, _ in BROKEN_RULES) == sorted(Rules.__slots__)


def test_a_trace_is_the_shortest_and_in_words() -> None:
    problem = found(replace(alone(faults=Faults(nodes=1), leased=(1,)), rules=Rules(count_without_journal=False)))

    assert str(problem) == (
        f"{KEY}: up to 1 will have been spent, {LOST}\n"
        "   1. process a0 admits request 0, or asks for what is missing\n"
        "   2. process a0 sends request 0\n"
        "   3. an engine begins request 0\n"
        "   4. process a0 is lost with its machine\n"
        "   5. the lease of a0 runs out\n"
        "   6. reconciler r0 takes a0 over, without a journal\n"
        "   7. Redis does for reconciler r0 take over a0\n"
        "   8. the answer arrives to reconciler r0: take over a0\n"
        "   9. reconciler r0 winds up a0\n"
        "  10. Redis does for reconciler r0 the winding up of a0, 0 in flight"
    )
