"""Hard budgets as a world that moves: gateway processes, Redis, engines and reconcilers, one step at a time.

The rules of money are the real ones: `Slices` in each process, `Books` for Redis, `TaskMoney` for tasks. What is
modelled is what lies between them: calls that are sent, done and answered as three steps, lost, made twice or done
late; processes that die between any two steps; their journals; engines; and a Redis that loses everything.
`budget_model` says what must hold in it.

Time stands still at `NOW`. That a lease or a wait is over is a step of its own, so any order of such ends is explored.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from exploration import Move
from world_parts import (
    IN_PROCESS,
    MOST_ATTEMPTS,
    NOT_YET,
    NOW,
    TTL_S,
    WAIT_S,
    Call,
    Engine,
    Faults,
    Job,
    Mine,
    Out,
    Process,
    Reconciler,
    Record,
    Redis,
    Scenario,
    Stage,
    Written,
    copy_of_out,
    copy_of_process,
    copy_of_redis,
    in_words,
    key_of_out,
    key_of_owner,
    key_of_process,
    key_of_task,
    numbers_of_calls,
    numbers_of_reservations,
    ranked,
    usage_of,
)

from stoker.policy.budgets import (
    Amounts,
    Ask,
    Counter,
    Need,
    Part,
    Plan,
    Reservation,
    Shortfall,
    Spent,
    Unit,
    returns_slots,
)
from stoker.queue import TokenBound
from stoker.queue.budgets import Gone, Hold, InFlightPart, Leased, NotBegun, NotOpen, Opening, Renewed, Settlement


@dataclass(slots=True)
class World:
    """A state. `ghosts`: calls nobody waits for any more, which Redis may still do. `journals`: by owner and number,
    what was written and not crossed out."""

    scenario: Scenario
    counters: tuple[Counter, ...]
    redis: Redis
    processes: list[Process]
    reconcilers: list[Reconciler]
    ghosts: list[Call]
    journals: dict[str, dict[int, Written]]
    stages: list[str]
    engines: list[Engine]
    produced: list[int]
    ledger: list[Record]
    faults: Faults
    faults_left: int
    # By place of the counter: whether its limit is set, and how much of it may be counted twice, since it was settled
    # while the ledger was asked.
    is_set: list[bool]
    twice: list[int]
    changes_left: int
    # By job: the places of the counters of which it has reserved.
    under: list[tuple[int, ...]]
    names: int = 0  # of reconcilers so far
    was_wiped: bool = False

    # --- a state as a value ------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """The books are open, and all processes are in them."""
        books = scenario.books(opens_at=NOW)
        processes = [Process([Mine("abcd"[place] + "0")]) for place in range(scenario.processes)]
        for process in processes:
            books.enter(NOW, process.mine.name, TTL_S, 1, ())
        world = cls(
            scenario=scenario,
            counters=Plan(scenario.limits).at(NOW),
            redis=(scenario.redis or Redis)(books),
            processes=processes,
            reconcilers=[Reconciler(f"r{number}") for number in range(scenario.reconcilers)],
            ghosts=[],
            journals={process.mine.name: {} for process in processes},
            stages=[Stage.IDLE] * len(scenario.jobs),
            engines=["never came"] * len(scenario.jobs),
            produced=[0] * len(scenario.jobs),
            ledger=[],
            faults=scenario.faults,
            faults_left=scenario.most_faults,
            is_set=[place not in scenario.unset for place in range(len(scenario.limits))],
            twice=[0] * len(scenario.limits),
            changes_left=scenario.limit_changes,
            under=[()] * len(scenario.jobs),
            names=scenario.reconcilers,
        )
        for process, amount in zip(processes, scenario.leased, strict=False):
            world._lease_at_start(process.mine, amount)
        return world

    def _lease_at_start(self, mine: Mine, amount: int) -> None:
        counter = self.counters[0]
        asks = (Ask(counter.name, counter.limit, amount, amount),)
        self.redis.books.begin(NOW, counter.name, 0, None)
        self._lease_answered(mine, asks, self.redis.books.lease(NOW, mine.name, asks))
        if self.scenario.is_wanted:
            for process in self.processes:
                process.wanted = (counter.name,)

    def copy(self) -> Self:
        return type(self)(
            scenario=self.scenario,
            counters=self.counters,
            redis=copy_of_redis(self.redis),
            processes=[copy_of_process(each) for each in self.processes],
            reconcilers=[replace(each, out=copy_of_out(each.out)) for each in self.reconcilers],
            ghosts=list(self.ghosts),
            journals={owner: dict(journal) for owner, journal in self.journals.items()},
            stages=list(self.stages),
            engines=list(self.engines),
            produced=list(self.produced),
            ledger=list(self.ledger),
            faults=self.faults,
            faults_left=self.faults_left,
            is_set=list(self.is_set),
            twice=list(self.twice),
            changes_left=self.changes_left,
            under=list(self.under),
            names=self.names,
            was_wiped=self.was_wiped,
        )

    def key(self) -> Hashable:
        ranks, numbers = self._numbers()
        books = self.redis.books
        return (
            tuple(
                (name, sums.spent, sums.leased, sums.held, sums.limit) for name, sums in sorted(books.counters.items())
            ),
            tuple((name, key_of_owner(owner, numbers[name])) for name, owner in sorted(books.owners.items())),
            tuple(sorted(books.wanted)),
            None if books.opens_at is None else books.opens_at <= NOW,
            tuple(
                (ranks[owner, number], owner, parts)
                for owner, answers in sorted(self.redis.answers.items())
                for number, parts in sorted(answers.items())
                if (owner, number) in ranks
            ),
            tuple(
                (owner, sum(name == owner and number < calls_from for name, number in ranks))
                for owner, calls_from in sorted(self.redis.calls_from.items())
            ),
            tuple((job, key_of_task(task)) for job, task in sorted(self.redis.tasks.items())),
            tuple(sorted(self.redis.stream)),
            tuple(key_of_process(process, ranks) for process in self.processes),
            tuple((r.name, r.owner, r.has_journal, r.next, key_of_out(r.out, ranks)) for r in self.reconcilers),
            tuple(sorted(repr(ranked(call, ranks)) for call in self.ghosts)),
            tuple((owner, tuple(sorted(journal.items()))) for owner, journal in sorted(self.journals.items())),
            tuple(self.stages),
            tuple(self.engines),
            tuple(self.produced),
            tuple(sorted(self.ledger)),
            self.faults,
            self.faults_left,
            self.was_wiped,
            tuple((name, opened.at_ms, opened.late) for name, opened in sorted(books.opened.items())),
            tuple(self.is_set),
            tuple(self.twice),
            self.changes_left,
            tuple(self.under),
        )

    def _numbers(self) -> tuple[dict[tuple[str, int], int], defaultdict[str, set[int]]]:
        """Of the numbers of calls that may still be made, each one's place among those of its owner: only their order
        matters. And the numbers of reservations that may still be settled or handed over. What Redis knows of other
        numbers makes no difference any more."""
        calls: defaultdict[str, set[int]] = defaultdict(set)
        reservations: defaultdict[str, set[int]] = defaultdict(set)
        made = list(self.ghosts)
        for process in self.processes:
            made += [out.call for out in process.outs.values()]
            for mine in process.mines:
                calls[mine.name].update(mine.calls.given_up, mine.calls.given_back)
                reservations[mine.name].update(each.number for each in mine.reserved.values())
                reservations[mine.name].update(each.number for each in mine.pending.values())
        made += [each.out.call for each in self.reconcilers if each.out is not None]
        for call in made:
            calls[call.owner].update(numbers_of_calls(call))
            reservations[call.owner].update(numbers_of_reservations(call))
        for owner, journal in self.journals.items():
            reservations[owner].update(journal)
        ranks = {
            (owner, number): place
            for owner, found in calls.items()
            for place, number in enumerate(sorted(found), start=1)
        }
        return ranks, reservations

    # --- what may happen ---------------------------------------------------------------------------------------------

    def moves(self) -> Iterator[Move]:
        for place, process in enumerate(self.processes):
            if process.state == "lives":
                yield from self._moves_of_process(place, process)
            for kind, out in process.outs.items():
                yield from self._moves_of_out(place, kind, out)
        for place, reconciler in enumerate(self.reconcilers):
            yield from self._moves_of_reconciler(place, reconciler)
        for place, call in enumerate(self.ghosts):
            yield Move(f"Redis does, late, {in_words(call)}", "ghost_arrives", (place,))
            yield Move(f"never to arrive: {in_words(call)}", "ghost_vanishes", (place,))
        yield from self._moves_of_engines()
        yield from self._moves_of_time()
        for place, counter in enumerate(self.counters):
            if self.changes_left:
                words = f"the limit of {counter.name} is {'taken away' if self.is_set[place] else 'set'}"
                yield Move(words, "change_limit", (place,), True)
        yield from self._faults()

    def _moves_of_process(self, place: int, process: Process) -> Iterator[Move]:
        mine, who = process.mine, f"process {process.mine.name}"
        if "leave" in process.outs:
            return
        for job, of in enumerate(self.scenario.jobs):
            if of.process == place:
                yield from self._moves_of_job(process, who, job)
        if not mine.is_known and "enter" not in process.outs:
            yield Move(f"{who} states what it holds", "enter", (place,))
        for name, (_, total) in process.beginning.items():
            if total is None:
                yield Move(f"{who} asks the ledger what was spent of {name}", "sum_up", (place, name))
            else:
                yield Move(f"{who} begins {name} with {total}", "begin_counter", (place, name))
        for each in process.mines:
            if each.pending and "settle" not in process.outs:
                yield Move(f"{who} sends the settlements of {each.name}", "settle", (place, each.name))
        if mine.is_known and "renew" not in process.outs and self._is_worth_renewing(process):
            yield Move(f"{who} renews", "renew", (place,))
        if (
            not process.outs
            and not process.beginning
            and not any(
                self.stages[job] in IN_PROCESS for job, of in enumerate(self.scenario.jobs) if of.process == place
            )
        ):
            yield Move(f"{who} leaves", "leave", (place,))

    def _is_worth_renewing(self, process: Process) -> bool:
        """A renewal changes something, or the process would hear something new."""
        mine, found = process.mine, self.redis.books.owners.get(process.mine.name)
        if found is None or found.state == "gone" or found.ends_at <= NOW:
            return True
        wanted = process.wanted + tuple(self.redis.books.wanted)
        calls_from = self.redis.calls_from.get(mine.name, 0)
        late = [number for call in self.ghosts if call.owner == mine.name for number in numbers_of_calls(call)]
        return (
            bool(mine.calls.given_up or mine.calls.given_back)
            or any(number >= calls_from for number in late)
            or mine.slices.watermark > found.watermark
            or any(mine.slices.unused(counter) for counter in wanted)
        )

    def _moves_of_job(self, process: Process, who: str, job: int) -> Iterator[Move]:
        stage, of, rules = self.stages[job], self.scenario.jobs[job], self.scenario.rules
        what = f"{'task' if of.is_task else 'request'} {job}"
        if stage == Stage.IDLE and process.mine.is_known:
            yield Move(f"{who} admits {what}, or asks for what is missing", "admit", (of.process, job))
        elif stage == Stage.RESERVED and of.is_task:
            if f"submit {job}" not in process.outs:
                yield Move(f"{who} submits {what}", "submit", (of.process, job))
        elif stage == Stage.RESERVED:
            yield Move(f"{who} sends {what}", "send", (of.process, job))
            if self.scenario.clients_go_away:
                yield Move(f"the client of {what} goes away before it is sent", "release", (of.process, job))
        elif stage == Stage.SENT:
            if not rules.journal_first and job not in self._journaled():
                yield Move(f"{who} writes {what} into its journal", "write", (of.process, job))
            if self.engines[job] == "ended":
                yield Move(f"{who} hears that {what} has ended", "end", (of.process, job))
            elif self.engines[job] == "never came" and self.scenario.clients_go_away:
                yield Move(f"{who} cannot reach an engine with {what}", "give_up_sending", (of.process, job))
        elif stage == Stage.UNCLEAR and "settle" not in process.outs and process.mine.is_known:
            yield Move(f"{who} settles {what} with nothing, to learn whose it is", "clear_up", (of.process, job))

    def _journaled(self) -> set[int]:
        return {written.job for journal in self.journals.values() for written in journal.values()}

    def _moves_of_out(self, place: int, kind: str, out: Out) -> Iterator[Move]:
        if out.is_done:
            yield Move(f"the answer arrives to {in_words(out.call)}", "answer", (place, kind))
            if self._may("repeats"):
                yield Move(
                    f"the answer is lost and the call made again: {in_words(out.call)}", "repeat", (place, kind), True
                )
        else:
            yield Move(f"Redis does {in_words(out.call)}", "do", (place, kind))
        if self._may("lost"):
            yield Move(f"given up without an answer: {in_words(out.call)}", "lose", (place, kind), True)

    def _moves_of_engines(self) -> Iterator[Move]:
        for job, of in enumerate(self.scenario.jobs):
            task = self.redis.tasks.get(job)
            if of.is_task:
                if task is not None and task.state == "queued":
                    yield Move(f"a worker begins task {job}", "claim", (job,))
                elif task is not None and task.state == "running":
                    for tokens in self._outcomes(of):
                        yield Move(f"task {job} is done with {tokens} tokens", "complete", (job, tokens))
                        if self._may("workers"):
                            words = f"the worker of task {job} vanishes after {tokens} tokens"
                            yield Move(words, "worker_vanishes", (job, tokens), True)
            elif self.engines[job] == "never came" and self.stages[job] in (Stage.SENT, Stage.ORPHAN):
                yield Move(f"an engine begins request {job}", "begin", (job,))
            elif self.engines[job] == "runs":
                for tokens in self._outcomes(of):
                    yield Move(f"the engine ends request {job} with {tokens} tokens", "produce", (job, tokens))

    def _outcomes(self, of: Job) -> Iterable[int]:
        return range(of.bound + 1) if self.scenario.outcomes == "all" else (0, of.bound)

    def _moves_of_time(self) -> Iterator[Move]:
        books = self.redis.books
        for name, owner in books.owners.items():
            if self._is_over(name) and owner.fate is None and owner.ends_at > NOW and self._needs_time(name):
                yield Move(f"the lease of {name} runs out", "expire", (name,))
            working = {reconciler.name for reconciler in self.reconcilers}
            if owner.by_until > NOW and not owner.is_closed and owner.by not in working:
                yield Move(f"the time of {owner.by} with {name} runs out", "expire_take_over", (name,))
        if books.wanted and self.scenario.forgets_wanted:
            yield Move("Redis forgets what is wanted", "forget_wanted")
        if books.opens_at is not None and books.opens_at > NOW and self._may_open():
            yield Move("the wait is over and the books open", "open_books")
        for job, task in self.redis.tasks.items():
            if task.state == "waits":
                yield Move(f"task {job} has waited long enough for what others give back", "come_due", (job,))
        if self.redis.stream:
            yield Move("the ledger takes the usage records", "take_usage")

    def _is_over(self, owner: str) -> bool:
        """Its process has ended, or goes on under another name."""
        return not any(process.state == "lives" and process.mine.name == owner for process in self.processes)

    def _needs_time(self, owner: str) -> bool:
        """Nobody can prove by its journal that it is dead."""
        return owner not in self.journals or self.scenario.is_far

    def _may_open(self) -> bool:
        if not self.scenario.rules.wait_to_open:
            return True
        owners = self.redis.books.owners
        return all(process.state != "lives" or process.mine.name in owners for process in self.processes) and (
            not self.scenario.rules.state_the_dead
            or all(owner in owners or not self._unknown_to_ledger(owner) for owner in self.journals)
        )

    def _faults(self) -> Iterator[Move]:
        for place, process in enumerate(self.processes):
            if process.state != "lives":
                continue
            owner = self.redis.books.owners.get(process.mine.name)
            if self._may("crashes"):
                yield Move(f"process {process.mine.name} is killed", "crash", (place, True), True)
            if self._may("nodes"):
                yield Move(f"process {process.mine.name} is lost with its machine", "crash", (place, False), True)
            if self._may("expiries") and owner is not None and owner.fate is None and owner.ends_at > NOW:
                yield Move(f"{process.mine.name} does not renew in time", "expire_alive", (process.mine.name,), True)
        for place, reconciler in enumerate(self.reconcilers):
            if self._may("reconcilers") and (reconciler.owner or reconciler.out):
                yield Move(f"reconciler {reconciler.name} dies", "kill_reconciler", (place,), True)
                found = self.redis.books.owners.get(reconciler.owner)
                if found is not None and found.by == reconciler.name and found.by_until > NOW:
                    words = f"{reconciler.name} takes too long with {reconciler.owner}"
                    yield Move(words, "outlast", (reconciler.owner,), True)
        if self._may("wipes"):
            yield Move("Redis loses everything", "wipe", (), True)

    def _may(self, kind: str) -> bool:
        return bool(self.faults_left and getattr(self.faults, kind))

    def _count(self, kind: str) -> None:
        self.faults_left -= 1
        self.faults = replace(self.faults, **{kind: getattr(self.faults, kind) - 1})

    # --- a process ---------------------------------------------------------------------------------------------------

    def admit(self, place: int, job: int) -> None:
        process = self.processes[place]
        reserved = process.mine.slices.reserve(self._needs(job))
        if isinstance(reserved, Reservation):
            process.mine.reserved[job] = reserved
            self.under[job] = self._places(job)
            self.stages[job] = Stage.RESERVED
        elif "lease" not in process.outs and not process.beginning:
            calls = process.mine.calls
            number = next(calls.numbers)
            calls.on_their_way.add(number)
            process.outs["lease"] = Out(Call("lease", process.mine.name, number, reserved.asks))

    def _needs(self, job: int) -> list[Need]:
        of = self.scenario.jobs[job]
        amounts = Amounts(1, of.bound, 0, 1)
        return [(self.counters[place], amounts[self.counters[place].place]) for place in self._places(job)]

    def _places(self, job: int) -> tuple[int, ...]:
        """Of the counters of which it reserves, or has reserved."""
        if self.stages[job] != Stage.IDLE:
            return self.under[job]
        return tuple(place for place in self.scenario.jobs[job].counters if self.is_set[place])

    def _scopes(self, job: int) -> tuple[str, ...]:
        """Those of its record."""
        names = (self.counters[place].name for place in self.scenario.jobs[job].counters)
        return (
            tuple({":".join(name.split(":")[:2]): None for name in names})
            if self.scenario.rules.name_the_scopes
            else ()
        )

    def _settlement(self, job: int, number: int, tokens: int, spent: Sequence[Spent]) -> Settlement:
        return Settlement(number, str(Record(job, "", tokens)), spent, self._scopes(job))

    def send(self, place: int, job: int) -> None:
        self.stages[job] = Stage.SENT
        if self.scenario.rules.journal_first:
            self.write(place, job)

    def write(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        self.journals[mine.name][mine.reserved[job].number] = Written(job)

    def _mine_with(self, place: int, job: int) -> Mine:
        """The name under which the process has reserved it."""
        return next(mine for mine in self.processes[place].mines if job in mine.reserved)

    def release(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved.pop(job)
        mine.slices.release(reservation)
        self._cross_out(mine, [reservation.number])
        self.stages[job] = Stage.DONE

    def give_up_sending(self, place: int, job: int) -> None:
        self.release(place, job)

    def _cross_out(self, mine: Mine, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.journals[mine.name].pop(number, None)

    def end(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved.pop(job)
        tokens = self.produced[job]
        spent = mine.slices.settle(reservation, Amounts(1, tokens, 0, 0))
        mine.pending[job] = self._settlement(job, reservation.number, tokens, spent)
        if not self.scenario.rules.forget_when_confirmed:
            self._cross_out(mine, [reservation.number])
        elif self.scenario.rules.journal_the_end:
            self.journals[mine.name][reservation.number] = Written(job, tokens)
        self.stages[job] = Stage.PENDING

    def settle(self, place: int, owner: str) -> None:
        process = self.processes[place]
        process.outs["settle"] = Out(Call("settle", owner, 0, tuple(process.of(owner).pending.values())))

    def renew(self, place: int) -> None:
        process = self.processes[place]
        mine, calls = process.mine, process.mine.calls
        wanted = process.wanted if self.scenario.rules.give_back_wanted else ()
        back = mine.slices.give_back(mine.slices.surplus(NOW, wanted))
        process.wanted = ()
        if back:
            calls.given_back[next(calls.numbers)] = back
        args = (
            mine.slices.watermark,
            tuple(sorted(calls.given_up)),
            calls.lowest(),
            tuple((number, tuple(parts)) for number, parts in calls.given_back.items()),
        )
        process.outs["renew"] = Out(Call("renew", mine.name, 0, args))

    def enter(self, place: int) -> None:
        process = self.processes[place]
        mine, rules = process.mine, self.scenario.rules
        known = self._known_to_ledger() if rules.ask_ledger else set()
        pending = [item for job, item in mine.pending.items() if job not in known] if rules.state_pending else []
        settled = tuple(item.number for job, item in mine.pending.items() if job in known)
        holding = tuple(mine.slices.holding([spent for item in pending for spent in item.spent]))
        args = (mine.slices.watermark, holding, next(mine.calls.numbers), settled)
        process.outs["enter"] = Out(Call("enter", mine.name, 0, args))

    def _known_to_ledger(self) -> set[int]:
        self.take_usage()
        return {record.job for record in self.ledger}

    def leave(self, place: int) -> None:
        self.processes[place].outs["leave"] = Out(Call("leave", self.processes[place].mine.name, 0, ()))

    def submit(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved[job]
        hold = Hold(mine.name, reservation.number, reservation.parts)
        self.processes[place].outs[f"submit {job}"] = Out(Call("submit", mine.name, 0, (job, hold, self._scopes(job))))

    def clear_up(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved[job]
        nothing = tuple(Spent(part.counter, part.amount, 0) for part in reservation.parts)
        item = Settlement(reservation.number, None, nothing)
        self.processes[place].outs["settle"] = Out(Call("settle", mine.name, 0, (item,)))

    # --- calls and their answers -------------------------------------------------------------------------------------

    def do(self, place: int, kind: str) -> None:
        out = self.processes[place].outs[kind]
        out.answer = self._do(out.call)

    def _do(self, call: Call) -> Any:
        answer = self.redis.do(call)
        if self.scenario.rules.ledger_first:
            self.take_usage()
        return answer

    def repeat(self, place: int, kind: str) -> None:
        self._count("repeats")
        self.processes[place].outs[kind].answer = NOT_YET

    def lose(self, place: int, kind: str) -> None:
        self._count("lost")
        out = self.processes[place].outs[kind]
        if not out.is_done:
            self.ghosts.append(out.call)
        self._unanswered(self.processes[place], kind)

    def _unanswered(self, process: Process, kind: str) -> None:
        """QueueUnavailable: nobody knows whether it was done."""
        call = process.outs.pop(kind).call
        mine = process.of(call.owner)
        if call.kind == "lease":
            mine.calls.on_their_way.discard(call.number)
            mine.calls.given_up.add(call.number)
        elif call.kind == "leave":
            self._end_process(self.processes.index(process), "dead")
        elif call.kind == "submit":
            job = call.args[0]
            self.stages[job] = Stage.UNCLEAR
            if not self.scenario.rules.settle_unclear_submits:
                self.release(self.scenario.jobs[job].process, job)

    def answer(self, place: int, kind: str) -> None:
        process = self.processes[place]
        out = process.outs.pop(kind)
        call, answer, mine = out.call, out.answer, process.of(out.call.owner)
        if call.kind == "lease":
            mine.calls.on_their_way.discard(call.number)
        if isinstance(answer, Gone | Renewed) and answer.state != "alive":
            self._not_alive(process, mine, answer.state)
        elif call.kind == "lease":
            self._lease_answered(mine, call.args, answer, process)
        elif call.kind == "renew":
            process.wanted = answer.wanted
            mine.calls.given_up.difference_update(call.args[1])
            for number, _ in call.args[3]:
                mine.calls.given_back.pop(number, None)
        elif call.kind == "enter":
            if isinstance(answer, NotBegun):
                self._begin(answer.counters, process)
            else:
                mine.is_known = True
        elif call.kind == "settle":
            self._settle_answered(mine, call.args, answer)
        elif call.kind == "leave":
            self._end_process(place, "left")
            for each in process.mines:
                self.journals.pop(each.name, None)
        elif call.kind == "submit":
            self._submit_answered(place, call.args[0], answer)

    def _not_alive(self, process: Process, mine: Mine, state: str) -> None:
        if state == "unknown":
            mine.is_known = False
        elif mine is process.mine:
            name = f"{mine.name[0]}{len(process.mines)}"
            process.mines.append(Mine(name, is_known=False))
            process.wanted = ()
            self.journals[name] = {}

    def _lease_answered(self, mine: Mine, asks: Sequence[Ask], answer: Any, process: Process | None = None) -> None:
        if isinstance(answer, Leased):
            by_name = {counter.name: counter for counter in self.counters}
            shortfall = Shortfall(tuple(asks), tuple(by_name[ask.counter] for ask in asks))
            mine.slices.granted(shortfall, answer.granted)
        elif isinstance(answer, NotBegun):
            self._begin(answer.counters, process)
        elif isinstance(answer, NotOpen) and answer.opens_in_s is None:
            self.redis.books.establish(NOW, WAIT_S)

    def _begin(self, names: Iterable[str], process: Process | None = None) -> None:
        """From the ledger, with everything that is on its way there."""
        for name in names:
            opening = self._open(name) if self.scenario.rules.open_first else None
            if process is None or not self.scenario.begins_slowly:
                self.take_usage()
                self._begin_with(name, self._in_ledger(name), opening)
            else:
                process.beginning[name] = opening, None

    def _open(self, name: str) -> Opening | None:
        """After a loss it is later than before."""
        return self.redis.books.open(NOW + self.was_wiped, name)

    def sum_up(self, place: int, name: str) -> None:
        self.take_usage()
        opening, _ = self.processes[place].beginning[name]
        self.processes[place].beginning[name] = opening, self._in_ledger(name)

    def begin_counter(self, place: int, name: str) -> None:
        opening, total = self.processes[place].beginning.pop(name)
        assert total is not None
        self._begin_with(name, total, opening)

    def _begin_with(self, name: str, total: int, opening: Opening | None) -> int | None:
        answer = self.redis.books.begin(NOW, name, total, None, opening)
        if answer is not None and opening is not None:
            place = next(p for p, c in enumerate(self.counters) if c.name == name)
            self.twice[place] = max(self.twice[place], answer - total)
        return answer

    def _in_ledger(self, counter_name: str) -> int:
        place, counter = next((p, c) for p, c in enumerate(self.counters) if c.name == counter_name)
        total = 0
        for record in (*self.ledger, *self.redis.stream):
            if record.job < 0:
                total += record.tokens if record.counter == counter_name else 0
            elif place in self.scenario.jobs[record.job].counters:
                total += {Unit.TOKENS: record.tokens, Unit.REQUESTS: 1}.get(counter.unit, 0)
        return total

    def _settle_answered(self, mine: Mine, items: Sequence[Settlement], answer: Sequence[bool]) -> None:
        for item, was_new in zip(items, answer, strict=True):
            unclear = [job for job, each in mine.reserved.items() if each.number == item.number]
            if item.usage is None and unclear:
                [job] = unclear
                reservation = mine.reserved.pop(job)
                (mine.slices.release if was_new else mine.slices.hand_over)(reservation)
                self.stages[job] = Stage.DONE if was_new else Stage.HELD
        self._confirmed(mine, [item.number for item in items])

    def _confirmed(self, mine: Mine, numbers: Sequence[int]) -> None:
        for job in [job for job, item in mine.pending.items() if item.number in numbers]:
            del mine.pending[job]
            self.stages[job] = Stage.DONE
        mine.slices.confirmed(numbers)
        self._cross_out(mine, numbers)

    def _submit_answered(self, place: int, job: int, why: str | None) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved.pop(job)
        if why is None:
            mine.slices.hand_over(reservation)
            self.stages[job] = Stage.HELD
        else:  # void: of an owner that is gone nothing may be used any more
            mine.slices.release(reservation)
            self.stages[job] = Stage.DONE

    def ghost_arrives(self, place: int) -> None:
        self._do(self.ghosts.pop(place))

    def ghost_vanishes(self, place: int) -> None:
        del self.ghosts[place]

    # --- engines and workers -----------------------------------------------------------------------------------------

    def begin(self, job: int) -> None:
        self.engines[job] = "runs"

    def produce(self, job: int, tokens: int) -> None:
        self.engines[job] = "ended"
        self.produced[job] = tokens

    def claim(self, job: int) -> None:
        self.redis.tasks[job].state = "running"
        self.engines[job] = "runs"

    def complete(self, job: int, tokens: int) -> None:
        self.produced[job] += tokens
        self._end_task(job, tokens)

    def worker_vanishes(self, job: int, tokens: int) -> None:
        self._count("workers")
        self.produced[job] += tokens
        self.engines[job] = "ended"
        task = self.redis.tasks[job]
        task.attempts += 1
        task.money.count_whole_attempt(TokenBound(0, self.scenario.jobs[job].bound, 0), None)
        if task.attempts < MOST_ATTEMPTS:
            self._try_again(job, may_wait=True)
        else:
            self._end_task(job, 0)

    def come_due(self, job: int) -> None:
        self._try_again(job, may_wait=False)

    def _try_again(self, job: int, *, may_wait: bool) -> None:
        task = self.redis.tasks[job]
        unpaid = task.money.hold_for_another(NOW, None)
        if unpaid is None:
            task.state = "queued"
        elif unpaid.wanted and may_wait:
            task.money.wait_for_another(NOW, None, unpaid.wanted)
            task.state = "waits"
        else:
            self._end_task(job, 0)

    def _end_task(self, job: int, tokens: int) -> None:
        task = self.redis.tasks[job]
        total = task.money.total(usage_of(tokens))
        task.money.settle(NOW, total)
        task.state = "ended"
        self.engines[job] = "ended"
        self.redis.stream.append(Record(job, "", total.completion_tokens))
        if self.scenario.rules.ledger_first:
            self.take_usage()

    # --- time --------------------------------------------------------------------------------------------------------

    def expire(self, owner: str) -> None:
        self.redis.books.owners[owner].ends_at = NOW

    def expire_alive(self, owner: str) -> None:
        self._count("expiries")
        self.expire(owner)

    def expire_take_over(self, owner: str) -> None:
        self.redis.books.owners[owner].by_until = NOW

    def outlast(self, owner: str) -> None:
        self._count("reconcilers")
        self.expire_take_over(owner)

    def change_limit(self, place: int) -> None:
        self.is_set[place] = not self.is_set[place]
        self.changes_left -= 1

    def forget_wanted(self) -> None:
        self.redis.books.wanted.clear()

    def open_books(self) -> None:
        self.redis.books.opens_at = NOW

    def take_usage(self) -> None:
        """By its id each record is in the ledger once."""
        for record in self.redis.stream:
            if record.job < 0 or not self.was_wiped or all(record.job != each.job for each in self.ledger):
                self.ledger.append(record)
        self.redis.stream.clear()

    # --- what fails --------------------------------------------------------------------------------------------------

    def crash(self, place: int, journal_stays: bool) -> None:
        self._count("crashes" if journal_stays else "nodes")
        process = self.processes[place]
        self.ghosts += [out.call for out in process.outs.values() if not out.is_done]
        self._end_process(place, "dead")
        if not journal_stays:
            for mine in process.mines:
                self.journals.pop(mine.name, None)

    def _end_process(self, place: int, state: Literal["dead", "left"]) -> None:
        """With it ends all that it knew."""
        process = self.processes[place]
        process.state = state
        process.outs.clear()
        for job, of in enumerate(self.scenario.jobs):
            if of.process == place and self.stages[job] not in (Stage.DONE, Stage.HELD):
                was_sent = self.stages[job] in (Stage.SENT, Stage.PENDING)
                self.stages[job] = Stage.ORPHAN if was_sent else Stage.DONE
        process.mines = [Mine(mine.name) for mine in process.mines]
        process.wanted = ()
        process.beginning.clear()

    def wipe(self) -> None:
        """With it go all connections, so no call from before arrives afterwards."""
        self._count("wipes")
        self.was_wiped = True
        self.redis = type(self.redis)(self.scenario.books())
        self.ghosts.clear()
        for process in self.processes:
            for kind in list(process.outs):
                self._unanswered(process, kind)
        for reconciler in self.reconcilers:
            reconciler.rest()

    # --- reconcilers -------------------------------------------------------------------------------------------------

    def _moves_of_reconciler(self, place: int, reconciler: Reconciler) -> Iterator[Move]:
        out, who = reconciler.out, f"reconciler {reconciler.name}"
        if out is not None:
            if out.is_done:
                yield Move(f"the answer arrives to {who}: {in_words(out.call)}", "reconciler_hears", (place,))
            else:
                yield Move(f"Redis does for {who} {in_words(out.call)}", "reconciler_do", (place,))
            return
        if reconciler.next == "forfeit":
            yield Move(f"{who} winds up {reconciler.owner}", "forfeit", (place,))
        elif reconciler.next == "settle ended":
            words = f"{who} settles what {reconciler.owner} had written down as ended"
            yield Move(words, "settle_journal", (place, True, False))
        elif reconciler.next == "settle open":
            if any(self.engines[each.job] == "ended" for each in self._written(reconciler.owner, has_ended=False)):
                words = f"{who} settles what {reconciler.owner} had in flight: the engine tells what it produced"
                yield Move(words, "settle_journal", (place, False, True))
            words = f"{who} settles what {reconciler.owner} had in flight: nobody can tell what was produced"
            yield Move(words, "settle_journal", (place, False, False))
        else:
            yield from self._moves_of_idle(place, who)

    def _moves_of_idle(self, place: int, who: str) -> Iterator[Move]:
        books = self.redis.books
        dead = set(books.dead_owners(NOW))
        for owner in self._free_journals():
            found = books.owners.get(owner)
            if found is None and self._unknown_to_ledger(owner):
                if self.scenario.rules.state_the_dead and self.was_wiped:
                    yield Move(f"{who} states what the journal of {owner} has in flight", "state_dead", (place, owner))
            elif found is None or found.is_closed:
                yield Move(f"{who} removes the journal of {owner}", "remove_journal", (owner,))
            elif not (found.by and found.by != self.reconcilers[place].name and found.by_until > NOW):
                yield Move(f"{who} takes {owner} over, with its journal", "take_over", (place, owner, True))
        for owner in sorted(dead):
            if owner not in self.journals or not self._is_over(owner) or self.scenario.is_far:
                yield Move(f"{who} takes {owner} over, without a journal", "take_over", (place, owner, False))

    def _free_journals(self) -> list[str]:
        """Those whose lock is free: their process is dead, and no other reconciler has them."""
        taken = {each.owner for each in self.reconcilers if each.owner and each.has_journal}
        names = [mine.name for each in self.processes if each.state != "lives" for mine in each.mines]
        return [name for name in names if name in self.journals and name not in taken]

    def _unknown_to_ledger(self, owner: str) -> list[Written]:
        known = {record.job for record in (*self.ledger, *self.redis.stream)}
        return [written for written in self.journals[owner].values() if written.job not in known]

    def _parts(self, written: Written) -> tuple[Part, ...]:
        """What is set aside for it: the whole reservation, or what it came to."""
        needs = self._needs(written.job)
        if written.tokens is not None:
            actual = Amounts(1, written.tokens, 0, 0)
            needs = [(counter, min(amount, actual[counter.place])) for counter, amount in needs]
        return tuple(Part(counter.name, amount) for counter, amount in needs)

    def take_over(self, place: int, owner: str, has_journal: bool) -> None:
        reconciler = self.reconcilers[place]
        reconciler.owner = owner
        reconciler.has_journal = has_journal
        reconciler.out = Out(Call("take over", owner, 0, (reconciler.name, has_journal)))

    def state_dead(self, place: int, owner: str) -> None:
        reconciler, holding = self.reconcilers[place], defaultdict[str, int](int)
        unknown = self._unknown_to_ledger(owner)
        for written in unknown:
            for counter, amount in self._parts(written):
                holding[counter] += amount
        settled = tuple(number for number, written in self.journals[owner].items() if written not in unknown)
        reconciler.owner, reconciler.has_journal = owner, True
        parts = tuple(Part(*each) for each in holding.items())
        reconciler.out = Out(Call("enter", owner, 0, (1, parts, 1, settled)))

    def remove_journal(self, owner: str) -> None:
        del self.journals[owner]

    def forfeit(self, place: int) -> None:
        reconciler = self.reconcilers[place]
        owner = reconciler.owner
        usage: tuple[str, ...] = ()
        told: tuple[InFlightPart, ...] | None = None
        if reconciler.has_journal:
            told = tuple(
                InFlightPart(number, self._parts(written))
                for number, written in self.journals[owner].items()
                if written.tokens is None
            )
        elif self.scenario.rules.count_without_journal:
            found = self.redis.books.owners.get(owner)
            slices = {} if found is None else found.slices
            usage = tuple(str(Record(-1, name, amount)) for name, amount in slices.items() if not returns_slots(name))
        else:
            told = ()
        reconciler.out = Out(Call("forfeit", owner, 0, (reconciler.name, told, usage)))

    def _written(self, owner: str, *, has_ended: bool) -> list[Written]:
        return [written for written in self.journals[owner].values() if (written.tokens is not None) == has_ended]

    def settle_journal(self, place: int, has_ended: bool, engine_tells: bool) -> None:
        reconciler = self.reconcilers[place]
        items = []
        for number, written in self.journals[reconciler.owner].items():
            if written in self._written(reconciler.owner, has_ended=has_ended):
                tokens = self._produced_by(written, engine_tells)
                actual = Amounts(1, tokens, 0, 0)
                spent = tuple(Spent(c.name, amount, actual[c.place]) for c, amount in self._needs(written.job))
                items.append(self._settlement(written.job, number, tokens, spent))
        reconciler.out = Out(Call("settle", reconciler.owner, 0, tuple(items)))

    def _produced_by(self, written: Written, engine_tells: bool) -> int:
        """By the journal, by the engine, or at most."""
        if written.tokens is not None:
            return written.tokens
        if engine_tells and self.engines[written.job] == "ended":
            return self.produced[written.job]
        if self.engines[written.job] != "ended" and not self.scenario.rules.count_what_runs:
            return 0
        return self.scenario.jobs[written.job].bound

    def reconciler_do(self, place: int) -> None:
        out = self.reconcilers[place].out
        assert out is not None
        out.answer = self._do(out.call)

    def reconciler_hears(self, place: int) -> None:
        reconciler = self.reconcilers[place]
        out, reconciler.out = reconciler.out, None
        assert out is not None
        kind, answer, was, reconciler.next = out.call.kind, out.answer, reconciler.next, ""
        if kind == "take over" and answer is not None:
            has_ended = reconciler.has_journal and self._written(reconciler.owner, has_ended=True)
            reconciler.next = "settle ended" if has_ended else "forfeit"
        elif kind == "settle" and was == "settle ended" and isinstance(answer, list):
            reconciler.next = "forfeit"
        elif kind == "forfeit" and answer and reconciler.has_journal and self._has_open(reconciler.owner):
            reconciler.next = "settle open"
        else:
            if kind == "enter" and isinstance(answer, NotBegun):
                self._begin(answer.counters)
            if reconciler.has_journal and kind in ("forfeit", "settle") and answer and not isinstance(answer, Gone):
                self.remove_journal(reconciler.owner)
            reconciler.rest()

    def _has_open(self, owner: str) -> bool:
        return self.scenario.rules.settle_the_open and bool(self._written(owner, has_ended=False))

    def kill_reconciler(self, place: int) -> None:
        self._count("reconcilers")
        reconciler = self.reconcilers[place]
        if reconciler.out is not None and not reconciler.out.is_done:
            self.ghosts.append(reconciler.out.call)
        self.reconcilers[place] = Reconciler(f"r{self.names}")
        self.names += 1
