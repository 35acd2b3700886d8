"""What hard budgets promise, checked in every state of `budget_world` that can be reached, and the scenarios that are
explored. `docs/proofs.md` says what follows.

    python tests/queue/budget_model.py            the small ones, which `make test` explores too
    python tests/queue/budget_model.py --large    with more of everything (`make prove-budgets`)
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from budget_world import World
from exploration import Report, explore
from world_parts import MOST_ATTEMPTS, NOW, Faults, Job, Record, Scenario, Stage

from stoker.policy.budgets import Counter, Limit, Need, Scope, ScopeKind, Unit, Window, returns_slots
from stoker.queue.books import Sums


@dataclass(slots=True)
class Model(World):
    """The world with its promises."""

    def broken(self) -> str | None:
        books = self.redis.books
        for place, counter in enumerate(self.counters):
            found = books.counters.get(counter.name)
            worst, late = self._worst(place, counter), self._late(place, counter)
            is_slot = returns_slots(counter.name)
            if worst > counter.limit and not is_slot:
                return f"{counter.name}: up to {worst} will have been spent of {counter.limit}"
            is_open = books.opens_at is not None and books.opens_at <= NOW
            if found is None:
                if is_open and worst > self._in_ledger(counter.name) and not is_slot:
                    return f"{counter.name}: up to {worst} will have been spent, and Redis does not know it"
                continue
            have = found.spent + found.leased + found.held
            if have > counter.limit + late:
                return f"{counter.name}: {sums_of(found)} is more than {counter.limit}"
            leased = sum(owner.slices.get(counter.name, 0) for owner in books.owners.values())
            if leased != found.leased or min(found.leased, found.held, found.spent) < 0:
                return f"{counter.name}: {sums_of(found)}, and the slices sum up to {leased}"
            if is_open and worst + late > have and not is_slot:
                return f"{counter.name}: up to {worst + late} will have been spent, and it knows of {sums_of(found)}"
        recorded = [record.job for record in (*self.ledger, *self.redis.stream) if record.job >= 0]
        twice = [job for job in set(recorded) if recorded.count(job) > 1]
        if twice and not self.was_wiped:
            return f"the ledger has job {twice[0]} twice"
        if self.is_settled and (why := self._unequal()) is not None:
            return why
        if self.scenario.checks_admission:
            return self._refuses_what_fits() or self._ends_what_fits()
        return None

    def _worst(self, place: int, counter: Counter) -> int:
        """What engines have produced, and may yet produce by themselves, of what was reserved under a counter."""
        total = 0
        for job, of in enumerate(self.scenario.jobs):
            if place in self.under[job] and self.engines[job] != "never came":
                running = of.bound if self.engines[job] == "runs" else 0
                total += self.produced[job] + running if counter.unit is Unit.TOKENS else 1
        return total

    def _late(self, place: int, counter: Counter) -> int:
        """What was settled, and has to be in a counter, of what came while its limit was not set."""
        jobs = {
            job for job, of in enumerate(self.scenario.jobs) if place in of.counters and place not in self.under[job]
        }
        recorded = {record.job: record.tokens for record in (*self.ledger, *self.redis.stream)} if jobs else {}
        late = [tokens for job, tokens in recorded.items() if job in jobs]
        return {Unit.TOKENS: sum(late), Unit.REQUESTS: len(late)}.get(counter.unit, 0)

    @property
    def is_settled(self) -> bool:
        return (
            all(process.state != "lives" for process in self.processes)
            and not self.ghosts
            and not self.redis.stream
            and not self.journals
            and "runs" not in self.engines
            and all(owner.is_closed for owner in self.redis.books.owners.values())
            and all(task.state == "ended" for task in self.redis.tasks.values())
            and not any(reconciler.owner or reconciler.out for reconciler in self.reconcilers)
        )

    def _unequal(self) -> str | None:
        """What is wrong at the end: the ledger, the counters and the engines must agree."""
        is_exact = not self.was_wiped and all(owner.fate != "lost" for owner in self.redis.books.owners.values())
        for place, counter in enumerate(self.counters):
            found = self.redis.books.counters.get(counter.name)
            if found is not None and (found.leased or found.held):
                return f"{counter.name}: {sums_of(found)}, although nothing runs"
            in_ledger = self._in_ledger(counter.name)
            if counter.unit is not Unit.CONCURRENT and self._worst(place, counter) > in_ledger:
                return f"{counter.name}: {self._worst(place, counter)} were produced; the ledger knows of {in_ledger}"
            at_most = in_ledger + self.twice[place]
            if found is not None and (found.spent > at_most or (is_exact and found.spent < in_ledger)):
                return f"{counter.name}: {found.spent} are spent; the ledger says {in_ledger}"
        return next(filter(None, map(self._misrecorded, self.ledger)), None)

    def _misrecorded(self, record: Record) -> str | None:
        if record.job < 0:
            return None
        job, of = record.job, self.scenario.jobs[record.job]
        whole = of.bound * MOST_ATTEMPTS if of.is_task else of.bound
        is_possible = record.tokens == self.produced[job] or self.produced[job] < record.tokens <= whole
        # More than the truth only where nobody can tell.
        by_whom = self.scenario.faults.workers if of.is_task else self.stages[job] == Stage.ORPHAN
        if is_possible and (record.tokens == self.produced[job] or by_whom):
            return None
        return f"job {job}: {self.produced[job]} tokens were produced, and the ledger says {record.tokens}"

    # --- nothing that fits is refused for long -----------------------------------------------------------------------

    def _refuses_what_fits(self) -> str | None:
        """Once everything under way is answered: what fits into what is neither spent, nor held, nor reserved, nor the
        slice of somebody dead, is admitted after every living process has renewed once (it gives back at once)."""
        idle = [job for job, stage in enumerate(self.stages) if stage == Stage.IDLE]
        for job in idle:
            world = self.copy()
            place = self.scenario.jobs[job].process
            if not world._come_to_rest() or world.processes[place].state != "lives":
                continue
            if not all(amount <= world._free(counter) for counter, amount in self._needs(job)):
                continue
            if not world._admits(place, job):
                sums = [sums_of(found) for found in world.redis.books.counters.values()]
                return f"request {job} fits and is not admitted: {', '.join(sums)}"
        return None

    def _ends_what_fits(self) -> str | None:
        """The same for another attempt of a task that waits for what others give back."""
        for job, task in self.redis.tasks.items():
            world = self.copy()
            if task.state != "waits" or not world._come_to_rest():
                continue
            if not all(missing <= world._free(counter) for counter, missing in self._missing(job)):
                continue
            world._all_renew()
            world.come_due(job)
            if world.redis.tasks[job].state != "queued":
                sums = [sums_of(found) for found in world.redis.books.counters.values()]
                return f"another attempt of task {job} fits and is not made: {', '.join(sums)}"
        return None

    def _missing(self, job: int) -> list[Need]:
        """What another attempt needs beyond what the task holds."""
        money = self.redis.tasks[job].money
        tokens, held = money.used["completion_tokens"], dict(money.held)
        return [
            (counter, amount + (tokens if counter.unit is Unit.TOKENS else 0) - held[counter.name])
            for counter, amount in self._needs(job)
        ]

    def _come_to_rest(self) -> bool:
        """Answer everything that is under way; False: Redis does not have all the living in its open books."""
        self.ghosts.clear()
        for _ in range(2):
            for place, process in enumerate(self.processes):
                for kind in list(process.outs):
                    if not process.outs[kind].is_done:
                        self.do(place, kind)
                    self.answer(place, kind)
                if process.state == "lives" and process.mine.pending:
                    self.settle(place, process.mine.name)
        living = [process.mine.name for process in self.processes if process.state == "lives"]
        books = self.redis.books
        owners = [books.owners.get(name) for name in living]
        are_alive = all(owner is not None and owner.fate is None and owner.ends_at > NOW for owner in owners)
        return are_alive and books.opens_at is not None and books.opens_at <= NOW

    def _free(self, counter: Counter) -> int:
        found = self.redis.books.counters.get(counter.name)
        if found is None:
            return counter.limit - self._in_ledger(counter.name)
        living = {process.mine.name: process.mine for process in self.processes if process.state == "lives"}
        taken = found.spent + found.held
        for name, owner in self.redis.books.owners.items():
            if name in living:
                slices = living[name].slices._slices
                taken += slices[counter.name].reserved if counter.name in slices else 0
            else:
                taken += owner.slices.get(counter.name, 0)
        return counter.limit - taken

    def _admits(self, place: int, job: int) -> bool:
        if self._asks(place, job):
            return True
        self._all_renew()
        return self._asks(place, job)

    def _asks(self, place: int, job: int) -> bool:
        for _ in range(3):  # a counter may have to be begun first
            self.admit(place, job)
            if self.stages[job] == Stage.RESERVED:
                return True
            self.do(place, "lease")
            self.answer(place, "lease")
        self.admit(place, job)
        return self.stages[job] == Stage.RESERVED

    def _all_renew(self) -> None:
        for each, process in enumerate(self.processes):
            if process.state == "lives":
                self._renews(each)
                self._renews(each)

    def _renews(self, place: int) -> None:
        self.renew(place)
        self.do(place, "renew")
        self.answer(place, "renew")


def sums_of(found: Sums) -> str:
    return f"spent {found.spent} + leased {found.leased} + held {found.held}"


# --- what is explored ------------------------------------------------------------------------------------------


def tokens(amount: int, kind: ScopeKind = "key") -> Limit:
    return Limit(Scope(kind, "x"), Unit.TOKENS, Window.TOTAL, amount)


ONE_AT_ONCE = Limit(Scope("tenant", "x"), Unit.CONCURRENT, Window.TOTAL, 1)

SMALL = (
    Scenario(
        "two processes at the end of a budget",
        (tokens(2),),
        (Job(0, 1), Job(1, 2)),
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario(
        "what others wait for is forgotten",
        (tokens(2),),
        (Job(0, 2),),
        leased=(0, 1),
        forgets_wanted=True,
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario(
        "three counters at once",
        (tokens(2), tokens(2, "tenant"), ONE_AT_ONCE),
        (Job(0, 1, (0, 1, 2)), Job(0, 2, (1, 2))),
        processes=1,
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario("a client goes away", (tokens(2),), (Job(0, 2), Job(0, 1)), processes=1, clients_go_away=True),
    Scenario("a process is killed", (tokens(2),), (Job(0, 1), Job(1, 1)), Faults(crashes=1), 1, leased=(1,)),
    Scenario(
        "a process and reconcilers are killed",
        (tokens(2),),
        (Job(0, 2),),
        Faults(crashes=1, reconcilers=1),
        processes=1,
        reconcilers=2,
        outcomes="ends",
    ),
    Scenario(
        "a machine is lost",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(nodes=1),
        1,
        processes=1,
        leased=(1,),
        outcomes="ends",
    ),
    Scenario("a living process is taken for dead", (tokens(2),), (Job(0, 1),), Faults(expiries=1), 1, processes=1),
    Scenario(
        "calls are lost, late and made twice",
        (tokens(2),),
        (Job(0, 1),),
        Faults(lost=1, repeats=1),
        processes=1,
        leased=(2,),
        is_wanted=True,
    ),
    Scenario("Redis loses everything", (tokens(2),), (Job(0, 1),), Faults(wipes=1, crashes=1), processes=1),
    Scenario(
        "Redis loses everything while parts are given back",
        (tokens(2),),
        (Job(0, 1),),
        Faults(wipes=1),
        1,
        processes=1,
        leased=(2,),
        is_wanted=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is taken away and set again",
        (tokens(2),),
        (Job(0, 1),),
        processes=1,
        limit_changes=2,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is taken away and set again while a task runs",
        (tokens(2),),
        (Job(0, 1, is_task=True),),
        processes=1,
        limit_changes=2,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is set while requests run",
        (tokens(2),),
        (Job(0, 1), Job(1, 1)),
        unset=(0,),
        limit_changes=1,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a task takes its reservation over",
        (tokens(1),),
        (Job(0, 1, is_task=True), Job(0, 1)),
        Faults(lost=1, crashes=1, workers=1),
        1,
        processes=1,
        outcomes="ends",
    ),
    Scenario(
        "another attempt waits for what processes do not use",
        (tokens(2),),
        (Job(0, 1, is_task=True), Job(1, 1)),
        Faults(workers=1),
        1,
        outcomes="ends",
        leased=(1, 1),
        checks_admission=True,
    ),
)

# What `make test` has a smaller form of.
LARGER = (
    Scenario(
        "three counters at once, larger",
        (tokens(2), tokens(2, "tenant"), ONE_AT_ONCE),
        (Job(0, 1, (0, 1, 2)), Job(1, 2, (1, 2))),
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario(
        "a process and reconcilers are killed, larger",
        (tokens(2),),
        (Job(0, 2),),
        Faults(crashes=1, reconcilers=1, lost=1),
        processes=1,
        reconcilers=2,
        outcomes="ends",
    ),
    Scenario("a machine is lost, larger", (tokens(2),), (Job(0, 1), Job(1, 1)), Faults(nodes=1), 1, leased=(1,)),
    Scenario(
        "calls are lost, late and made twice, larger",
        (tokens(2),),
        (Job(0, 1),),
        Faults(lost=2, repeats=1),
        processes=1,
        leased=(2,),
        is_wanted=True,
    ),
    Scenario(
        "a limit is taken away and set again while a task runs, larger",
        (tokens(2),),
        (Job(0, 1), Job(0, 1, is_task=True)),
        processes=1,
        limit_changes=2,
        begins_slowly=True,
        outcomes="ends",
    ),
)

LARGE = (
    *LARGER,
    Scenario(
        "two processes at the end of a budget, and what they wait for is forgotten",
        (tokens(2),),
        (Job(0, 1), Job(1, 2)),
        forgets_wanted=True,
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is taken away and set again, two requests",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        processes=1,
        limit_changes=2,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a task takes its reservation over beside a request that fits, too",
        (tokens(2),),
        (Job(0, 1, is_task=True), Job(0, 1)),
        Faults(lost=1, crashes=1, workers=1),
        1,
        processes=1,
        outcomes="ends",
    ),
    Scenario(
        "two processes, three requests",
        (tokens(2),),
        (Job(0, 1), Job(1, 1), Job(1, 1)),
        leased=(1, 1),
        checks_admission=True,
        outcomes="ends",
    ),
    Scenario("a process of two is killed", (tokens(3),), (Job(0, 2), Job(1, 2)), Faults(crashes=2), leased=(2,)),
    Scenario(
        "a process with two requests and a reconciler are killed",
        (tokens(2),),
        (Job(0, 2), Job(0, 2)),
        Faults(crashes=1, reconcilers=1, lost=1),
        processes=1,
        outcomes="ends",
        leased=(2,),
    ),
    Scenario(
        "two reconcilers, one of them on another machine",
        (tokens(2),),
        (Job(0, 1),),
        Faults(crashes=1, reconcilers=1),
        processes=1,
        reconcilers=2,
        is_far=True,
    ),
    Scenario(
        "one of two processes is taken for dead",
        (tokens(2),),
        (Job(0, 1), Job(1, 1)),
        Faults(expiries=1),
        1,
        outcomes="ends",
        leased=(1,),
    ),
    Scenario(
        "calls of two requests are lost, late and made twice",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(lost=1, repeats=1),
        processes=1,
        leased=(1,),
        is_wanted=True,
        outcomes="ends",
    ),
    Scenario(
        "a call of two processes is lost, late or made twice",
        (tokens(2),),
        (Job(0, 1), Job(1, 1)),
        Faults(lost=1, repeats=1),
        1,
        leased=(2,),
        is_wanted=True,
        outcomes="ends",
    ),
    Scenario(
        "Redis loses everything after a call was lost",
        (tokens(2),),
        (Job(0, 1),),
        Faults(wipes=1, lost=1),
        processes=1,
        leased=(2,),
        is_wanted=True,
        outcomes="ends",
    ),
    Scenario(
        "Redis loses everything, two requests",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(wipes=1),
        1,
        processes=1,
        outcomes="ends",
    ),
    Scenario(
        "Redis loses everything, two processes",
        (tokens(2),),
        (Job(0, 1), Job(1, 1)),
        Faults(wipes=1),
        1,
        leased=(1, 1),
        outcomes="ends",
    ),
    Scenario(
        "a task and a request, two processes",
        (tokens(3),),
        (Job(0, 1, is_task=True), Job(1, 2)),
        Faults(lost=1, crashes=1, workers=1),
        1,
        outcomes="ends",
        leased=(1,),
    ),
    Scenario(
        "another attempt waits, and a process is killed",
        (tokens(2),),
        (Job(0, 1, is_task=True), Job(1, 1)),
        Faults(crashes=1, workers=1),
        outcomes="ends",
        leased=(1, 1),
        checks_admission=True,
    ),
    Scenario(
        "a limit is taken away and set again, two processes",
        (tokens(2),),
        (Job(0, 1), Job(1, 1)),
        limit_changes=2,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is set, and a process is killed",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(crashes=1),
        1,
        processes=1,
        unset=(0,),
        limit_changes=1,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is set, and a call is lost, late or made twice",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(lost=1, repeats=1),
        1,
        processes=1,
        unset=(0,),
        limit_changes=1,
        begins_slowly=True,
        outcomes="ends",
    ),
    Scenario(
        "a limit is set, and Redis loses everything",
        (tokens(2),),
        (Job(0, 1), Job(0, 1)),
        Faults(wipes=1),
        1,
        processes=1,
        unset=(0,),
        limit_changes=1,
        begins_slowly=True,
        outcomes="ends",
    ),
)


def check(scenario: Scenario, *, most_states: int | None = None) -> Report:
    return explore(Model.of(scenario), most_states=most_states)


def main(args: Sequence[str]) -> int:
    """Explore, one line for each scenario. `args`: `--large`, and how the names of those to explore begin."""
    wanted = [word for word in args if word != "--large"]
    chosen = (*SMALL, *LARGE) if "--large" in args else SMALL
    states = transitions = failures = 0
    for scenario in chosen:
        if wanted and not scenario.name.startswith(tuple(wanted)):
            continue
        began = time.process_time()
        report = check(scenario)
        states, transitions = states + report.states, transitions + report.transitions
        failures += report.problem is not None
        seconds = time.process_time() - began
        sys.stdout.write(
            f"{report.states:9,} states {report.transitions:10,} transitions {report.settled:5,} ends "
            f"{report.depth:3} deep {seconds:6.1f} s  {scenario.name}\n"
        )
        if report.problem is not None:
            sys.stdout.write(f"{report.problem}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{states:9,} states {transitions:10,} transitions, {failures} broken\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
