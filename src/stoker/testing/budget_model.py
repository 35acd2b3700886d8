"""Hard budgets as a model that can be explored to its last state: gateway processes, Redis, engines and reconcilers.

The rules of money are the real ones: `Slices` in each process, `Books` for Redis, `TaskMoney` for tasks. What is
modelled is what lies between them: calls that are sent, done and answered as three steps, lost, made twice or done late;
processes that die between any two steps; their journals; engines; and a Redis that loses everything. `docs/proofs.md`
says what follows. Run by `make prove-budgets` and by `tests/queue/test_budget_model.py`.

Time stands still at `NOW`. That a lease or a wait is over is a step of its own, so any order of such ends is explored.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import (
    Amounts,
    Ask,
    Counter,
    Limit,
    Need,
    Part,
    Plan,
    Reservation,
    Shortfall,
    Slices,
    Spent,
    Unit,
    _Slice,
    returns_slots,
)
from stoker.queue.books import Books, Owner, Sums
from stoker.queue.budgets import Gone, Hold, InFlightPart, Leased, NotBegun, NotOpen, Renewed, Settlement
from stoker.queue.holds import TaskMoney
from stoker.queue.redis_budgets import _Calls
from stoker.testing.exploration import Move

NOW = 1000.0
TTL_S = 10.0
WAIT_S = 60.0
MOST_ATTEMPTS = 2

# --- what is to be explored -----------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One request or task: whose process it comes to, the most tokens that it (an attempt of it) can cost, and the
    counters that it falls under, by their place among the limits of the scenario."""

    process: int
    bound: int
    counters: tuple[int, ...] = (0,)
    is_task: bool = False


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each may happen."""

    crashes: int = 0
    """A process is killed. Its journal stays."""
    nodes: int = 0
    """A process is lost with its machine, and the journal with it."""
    expiries: int = 0
    """A living process is taken for dead: it did not renew in time, or its calls did not arrive."""
    lost: int = 0
    """A caller gives a call up, before Redis has done it or after. In the former case it may still arrive."""
    repeats: int = 0
    """An answer is lost on the way and the connection makes the call again by itself."""
    reconcilers: int = 0
    """A reconciler dies, or takes longer than its lease of the dead owner."""
    wipes: int = 0
    """Redis loses all that it knows."""
    workers: int = 0
    """A worker vanishes in the middle of a task."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a process has to do beyond calling `Slices` and the store, for the promises to hold. Each is followed here;
    without any one of them a test finds how money is lost."""

    journal_first: bool = True
    """The journal's line is written before the request goes out."""
    journal_the_end: bool = True
    """What a request came to is written into the journal before the rest of its reservation is used again or given
    back: from then on the slice does not hold the whole of it any more."""
    forget_when_confirmed: bool = True
    """The journal's line is crossed out when Redis has confirmed the settlement, not when the answer has ended."""
    state_pending: bool = True
    """Who enters again states also what it has settled and Redis has not confirmed."""
    ask_ledger: bool = True
    """Who enters again says which of its settlements the ledger has: Redis had done them before it lost everything."""
    state_the_dead: bool = True
    """After Redis has lost everything, what dead processes had in flight is stated by who has their journals."""
    wait_to_open: bool = True
    """Books that were lost are opened only when all the living and the journals of the dead were stated."""
    ledger_first: bool = True
    """What Redis can lose, the ledger has: a wipe takes no usage record with it."""
    settle_unclear_submits: bool = True
    """A reservation whose submission got no answer is settled in Redis with nothing; only what that answers says
    whether it is the process' again or the task's."""
    give_back_wanted: bool = True
    """What others wait for is given back with the renewal after the one that said so."""
    count_without_journal: bool = True
    """Without a dead owner's journal the whole slice counts as spent (forfeit(None))."""
    count_what_runs: bool = True
    """A reconciler settles what may still run, or arrive at an engine, with the whole reservation."""
    settle_the_open: bool = True
    """A reconciler settles what it has stated as open."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`most_faults` of all kinds together. `is_far`: a reconciler may be on another machine, without the journal of a
    process that was killed there. `forgets_wanted`: what is wanted is so for some time only. `clients_go_away`: before
    their requests are sent. `outcomes`: requests end with any number of tokens, or with none or all. `leased`: what the
    processes hold of the first counter at the start. `is_wanted`: they have heard that others wait for it. `checks_admission`: nothing that fits is refused for long."""

    name: str
    limits: tuple[Limit, ...]
    jobs: tuple[Job, ...]
    faults: Faults = Faults()
    most_faults: int = 2
    processes: int = 2
    reconcilers: int = 1
    is_far: bool = False
    forgets_wanted: bool = False
    clients_go_away: bool = False
    outcomes: Literal["all", "ends"] = "all"
    leased: tuple[int, ...] = ()
    is_wanted: bool = False
    checks_admission: bool = False
    rules: Rules = Rules()
    books: type[Books] = Books
    redis: "type[Redis] | None" = None


# --- Redis ------------------------------------------------------------------------------------------------------------

Kind = Literal["enter", "renew", "lease", "settle", "leave", "submit", "take over", "forfeit"]


class Call(NamedTuple):
    """A script with its arguments. `number`: of this call among its owner's (0: it has none)."""

    kind: Kind
    owner: str
    number: int
    args: tuple[Any, ...]


@dataclass(slots=True)
class Task:
    """A task in Redis, and what engines have produced for it."""

    money: TaskMoney
    state: Literal["queued", "running", "ended"] = "queued"
    attempts: int = 0


@dataclass(slots=True)
class Redis:
    """The books and the tasks, behind calls that may be made twice, given up and arrive late. The numbers of calls are
    what `lua/budget_lease.lua`, `budget_renew.lua` and `budget_enter.lua` do around what `Books` does; a test plays
    walks through this model on a real Redis to hold the two together."""

    books: Books
    answers: dict[str, dict[int, tuple[Part, ...] | None]] = field(default_factory=dict)  # None: void
    calls_from: dict[str, int] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    # Usage records: job (None: of a slice that counts as spent), what it cost of each counter.
    stream: list["Record"] = field(default_factory=list)

    def do(self, call: Call) -> Any:
        step: Callable[[Call], Any] = getattr(self, "_" + call.kind.replace(" ", "_"))
        return step(call)

    def _enter(self, call: Call) -> NotBegun | Gone | None:
        watermark, holding, void, settled = call.args
        is_new = call.owner not in self.books.owners
        answer = self.books.enter(NOW, call.owner, TTL_S, watermark, holding, settled)
        if is_new and answer is None:
            self._answers(call.owner).update(dict.fromkeys(void))
        return answer

    def _renew(self, call: Call) -> Renewed:
        watermark, given_up, calls_from, given_back = call.args
        found = self.books.owners.get(call.owner)
        if found is None or found.state == "gone":
            return Renewed("unknown" if found is None else "gone", ())
        answers, back = self._answers(call.owner), []
        for number in given_up:
            back += [answers.get(number) or ()]
            answers[number] = None
        for number, parts in given_back:
            if number >= self.calls_from.get(call.owner, 0) and number not in answers:
                answers[number] = None
                back.append(parts)
        self._raise_calls_from(call.owner, calls_from)
        return self.books.renew(NOW, call.owner, TTL_S, watermark, [part for parts in back for part in parts])

    def _raise_calls_from(self, owner: str, number: int) -> None:
        self.calls_from[owner] = number = max(number, self.calls_from.get(owner, 0))
        self.answers[owner] = {each: parts for each, parts in self._answers(owner).items() if each >= number}

    def _lease(self, call: Call) -> Any:
        found, answers = self.books.owners.get(call.owner), self._answers(call.owner)
        if found is None or found.state == "gone":
            return Gone("unknown" if found is None else "gone")
        if call.number < self.calls_from.get(call.owner, 0):
            return Gone("gone")
        if call.number in answers:
            before = answers[call.number]
            return Gone("gone") if before is None else Leased(tuple(part.amount for part in before))
        answer = self.books.lease(NOW, call.owner, call.args)
        if isinstance(answer, Leased):
            named = zip(call.args, answer.granted, strict=True)
            answers[call.number] = tuple(Part(ask.counter, amount) for ask, amount in named)
        return answer

    def _settle(self, call: Call) -> list[bool] | Gone:
        return self.books.settle(NOW, call.owner, call.args, self._append)

    def _leave(self, call: Call) -> bool:
        return self.books.leave(call.owner, NOW)

    def _submit(self, call: Call) -> str | None:
        job, hold = call.args
        if job in self.tasks:  # the same submission again
            return None
        why = self.books.take_hold(NOW, hold)
        if why is None:
            self.tasks[job] = Task(TaskMoney(self.books, hold.parts, hold.parts))
        return why

    def _take_over(self, call: Call) -> tuple[Part, ...] | None:
        by, is_proved_dead = call.args
        parts = self.books.take_over(NOW, call.owner, by, TTL_S, is_proved_dead=is_proved_dead)
        return None if parts is None else tuple(parts)

    def _forfeit(self, call: Call) -> bool:
        by, open_, usage = call.args
        return self.books.forfeit(NOW, call.owner, by, open_, usage, self._append)

    def _answers(self, owner: str) -> dict[int, tuple[Part, ...] | None]:
        return self.answers.setdefault(owner, {})

    def _append(self, usage: str) -> None:
        self.stream.append(Record.of(usage))


class Record(NamedTuple):
    """A usage record: what a job cost, or (job -1) what of a counter was in a slice that counts as spent."""

    job: int
    counter: str
    tokens: int

    def __str__(self) -> str:
        return f"{self.job} {self.counter} {self.tokens}"

    @classmethod
    def of(cls, text: str) -> "Record":
        job, counter, tokens = text.split(" ")
        return cls(int(job), counter, int(tokens))


# --- a process and a reconciler -----------------------------------------------------------------------------------------

_NOT_YET = object()


@dataclass(slots=True)
class Out:
    """A call whose answer somebody waits for."""

    call: Call
    answer: Any = _NOT_YET

    @property
    def is_done(self) -> bool:
        return self.answer is not _NOT_YET


@dataclass(slots=True)
class Mine:
    """What a process knows of itself under one name. `reserved` and `pending` (settled here, not in Redis yet) by job."""

    name: str
    slices: Slices = field(default_factory=Slices)
    calls: _Calls = field(default_factory=_Calls)
    reserved: dict[int, Reservation] = field(default_factory=dict)
    pending: dict[int, Settlement] = field(default_factory=dict)
    is_known: bool = True  # Redis has it, as far as it has heard


@dataclass(slots=True)
class Process:
    """`mines`: under the names that it had, the current one last."""

    mines: list[Mine]
    state: Literal["lives", "dead", "left"] = "lives"
    outs: dict[str, Out] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()

    @property
    def mine(self) -> Mine:
        return self.mines[-1]

    def of(self, owner: str) -> Mine:
        return next(mine for mine in self.mines if mine.name == owner)


@dataclass(slots=True)
class Reconciler:
    """`owner`: whom it winds up; `has_journal`: with its journal, whose lock it has."""

    name: str
    owner: str = ""
    has_journal: bool = False
    next: Literal["", "settle ended", "forfeit", "settle open"] = ""
    out: Out | None = None

    def rest(self) -> None:
        self.owner, self.has_journal, self.next, self.out = "", False, "", None


class Written(NamedTuple):
    """What a journal says of a reservation. `tokens`: what it came to, once it has ended."""

    job: int
    tokens: int | None = None


class Stage:
    """Where a job is, as its process sees it."""

    IDLE = "idle"
    RESERVED = "reserved"
    SENT = "sent"  # it may be on its way to an engine
    PENDING = "settled, not confirmed"
    UNCLEAR = "submitted, no answer"
    HELD = "held by its task"
    DONE = "done"
    ORPHAN = "sent by a process that died"


IN_PROCESS = (Stage.RESERVED, Stage.SENT, Stage.PENDING, Stage.UNCLEAR)

Engine = Literal["never came", "runs", "ended"]


# --- everything together --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class World:
    """A state. `ghosts`: calls nobody waits for any more, which Redis may still do. `journals`: by owner and number, what
    was written and not crossed out."""

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
    names: int = 0  # of reconcilers so far
    was_wiped: bool = False

    # --- a state as a value -----------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, scenario: Scenario) -> "World":
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

    def copy(self) -> "World":
        return World(
            scenario=self.scenario,
            counters=self.counters,
            redis=_copy_of_redis(self.redis),
            processes=[_copy_of_process(each) for each in self.processes],
            reconcilers=[replace(each, out=_copy_of_out(each.out)) for each in self.reconcilers],
            ghosts=list(self.ghosts),
            journals={owner: dict(journal) for owner, journal in self.journals.items()},
            stages=list(self.stages),
            engines=list(self.engines),
            produced=list(self.produced),
            ledger=list(self.ledger),
            faults=self.faults,
            faults_left=self.faults_left,
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
            tuple((name, _key_of_owner(owner, numbers[name])) for name, owner in sorted(books.owners.items())),
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
            tuple((job, _key_of_task(task)) for job, task in sorted(self.redis.tasks.items())),
            tuple(sorted(self.redis.stream)),
            tuple(_key_of_process(process, ranks) for process in self.processes),
            tuple((r.name, r.owner, r.has_journal, r.next, _key_of_out(r.out, ranks)) for r in self.reconcilers),
            tuple(sorted((repr(_ranked(call, ranks)) for call in self.ghosts))),
            tuple((owner, tuple(sorted(journal.items()))) for owner, journal in sorted(self.journals.items())),
            tuple(self.stages),
            tuple(self.engines),
            tuple(self.produced),
            tuple(sorted(self.ledger)),
            self.faults,
            self.faults_left,
            self.was_wiped,
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
            calls[call.owner].update(_numbers_of_calls(call))
            reservations[call.owner].update(_numbers_of_reservations(call))
        for owner, journal in self.journals.items():
            reservations[owner].update(journal)
        ranks = {
            (owner, number): place
            for owner, found in calls.items()
            for place, number in enumerate(sorted(found), start=1)
        }
        return ranks, reservations

    # --- what may happen ------------------------------------------------------------------------------------------------

    def moves(self) -> Iterator[Move]:
        for place, process in enumerate(self.processes):
            if process.state == "lives":
                yield from self._moves_of_process(place, process)
            for kind, out in process.outs.items():
                yield from self._moves_of_out(place, kind, out)
        for place, reconciler in enumerate(self.reconcilers):
            yield from self._moves_of_reconciler(place, reconciler)
        for place, call in enumerate(self.ghosts):
            yield Move(f"Redis does, late, {_words(call)}", "ghost_arrives", (place,))
            yield Move(f"never to arrive: {_words(call)}", "ghost_vanishes", (place,))
        yield from self._moves_of_engines()
        yield from self._moves_of_time()
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
        for each in process.mines:
            if each.pending and "settle" not in process.outs:
                yield Move(f"{who} sends the settlements of {each.name}", "settle", (place, each.name))
        if mine.is_known and "renew" not in process.outs and self._is_worth_renewing(process):
            yield Move(f"{who} renews", "renew", (place,))
        if not process.outs and not any(
            self.stages[job] in IN_PROCESS for job, of in enumerate(self.scenario.jobs) if of.process == place
        ):
            yield Move(f"{who} leaves", "leave", (place,))

    def _is_worth_renewing(self, process: Process) -> bool:
        """A renewal changes something, or the process would hear something new."""
        mine, found = process.mine, self.redis.books.owners.get(process.mine.name)
        if found is None or found.state == "gone" or found.ends_at <= NOW:
            return True
        wanted = process.wanted + tuple(self.redis.books.wanted)
        return (
            bool(mine.calls.given_up or mine.calls.given_back)
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
            yield Move(f"the answer arrives to {_words(out.call)}", "answer", (place, kind))
            if self._may("repeats"):
                yield Move(f"the answer is lost and the call made again: {_words(out.call)}", "repeat", (place, kind), True)
        else:
            yield Move(f"Redis does {_words(out.call)}", "do", (place, kind))
        if self._may("lost"):
            yield Move(f"given up without an answer: {_words(out.call)}", "lose", (place, kind), True)

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

    # --- a process ------------------------------------------------------------------------------------------------------

    def admit(self, place: int, job: int) -> None:
        process = self.processes[place]
        reserved = process.mine.slices.reserve(self._needs(job))
        if isinstance(reserved, Reservation):
            process.mine.reserved[job] = reserved
            self.stages[job] = Stage.RESERVED
        elif "lease" not in process.outs:
            calls = process.mine.calls
            number = next(calls.numbers)
            calls.on_their_way.add(number)
            process.outs["lease"] = Out(Call("lease", process.mine.name, number, reserved.asks))

    def _needs(self, job: int) -> list[Need]:
        of = self.scenario.jobs[job]
        amounts = Amounts(1, of.bound, 0, 1)
        return [(self.counters[place], amounts[self.counters[place].place]) for place in of.counters]

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
        mine.pending[job] = Settlement(reservation.number, str(Record(job, "", tokens)), spent)
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
        args = (mine.slices.watermark, holding, tuple(mine.calls.given_back), settled)
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
        self.processes[place].outs[f"submit {job}"] = Out(Call("submit", mine.name, 0, (job, hold)))

    def clear_up(self, place: int, job: int) -> None:
        mine = self._mine_with(place, job)
        reservation = mine.reserved[job]
        nothing = tuple(Spent(part.counter, part.amount, 0) for part in reservation.parts)
        item = Settlement(reservation.number, None, nothing)
        self.processes[place].outs["settle"] = Out(Call("settle", mine.name, 0, (item,)))

    # --- calls and their answers --------------------------------------------------------------------------------------

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
        self.processes[place].outs[kind].answer = _NOT_YET

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
            self._lease_answered(mine, call.args, answer)
        elif call.kind == "renew":
            process.wanted = answer.wanted
            mine.calls.given_up.difference_update(call.args[1])
            for number, _ in call.args[3]:
                mine.calls.given_back.pop(number, None)
        elif call.kind == "enter":
            if isinstance(answer, NotBegun):
                self._begin(answer.counters)
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

    def _lease_answered(self, mine: Mine, asks: Sequence[Ask], answer: Any) -> None:
        if isinstance(answer, Leased):
            by_name = {counter.name: counter for counter in self.counters}
            shortfall = Shortfall(tuple(asks), tuple(by_name[ask.counter] for ask in asks))
            mine.slices.granted(shortfall, answer.granted)
        elif isinstance(answer, NotBegun):
            self._begin(answer.counters)
        elif isinstance(answer, NotOpen) and answer.opens_in_s is None:
            self.redis.books.establish(NOW, WAIT_S)

    def _begin(self, names: Iterable[str]) -> None:
        """From the ledger, with everything that is on its way there."""
        self.take_usage()
        for name in names:
            self.redis.books.begin(NOW, name, self._in_ledger(name), None)

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

    # --- engines and workers --------------------------------------------------------------------------------------------

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
        task.money.count_whole_attempt()
        if task.attempts < MOST_ATTEMPTS and task.money.may_go_on(NOW, None):
            task.state = "queued"
        else:
            self._end_task(job, 0)

    def _end_task(self, job: int, tokens: int) -> None:
        task = self.redis.tasks[job]
        total = task.money.total(_usage(tokens))
        task.money.settle(NOW, total)
        task.state = "ended"
        self.engines[job] = "ended"
        self.redis.stream.append(Record(job, "", total.completion_tokens))
        if self.scenario.rules.ledger_first:
            self.take_usage()

    # --- time -------------------------------------------------------------------------------------------------------------

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

    # --- what fails -------------------------------------------------------------------------------------------------------

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

    # --- reconcilers --------------------------------------------------------------------------------------------------------

    def _moves_of_reconciler(self, place: int, reconciler: Reconciler) -> Iterator[Move]:
        out, who = reconciler.out, f"reconciler {reconciler.name}"
        if out is not None:
            if out.is_done:
                yield Move(f"the answer arrives to {who}: {_words(out.call)}", "reconciler_hears", (place,))
            else:
                yield Move(f"Redis does for {who} {_words(out.call)}", "reconciler_do", (place,))
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
        reconciler.out = Out(Call("enter", owner, 0, (1, parts, (), settled)))

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
                items.append(Settlement(number, str(Record(written.job, "", tokens)), spent))
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
        assert out is not None  # noqa: S101 - the move exists only then
        out.answer = self._do(out.call)

    def reconciler_hears(self, place: int) -> None:
        reconciler = self.reconcilers[place]
        out, reconciler.out = reconciler.out, None
        assert out is not None  # noqa: S101
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

    # --- what must hold -----------------------------------------------------------------------------------------------------

    def broken(self) -> str | None:
        books = self.redis.books
        for place, counter in enumerate(self.counters):
            found = books.counters.get(counter.name)
            worst = self._worst(place, counter)
            is_slot = returns_slots(counter.name)
            if worst > counter.limit and not is_slot:
                return f"{counter.name}: up to {worst} will have been spent of {counter.limit}"
            is_open = books.opens_at is not None and books.opens_at <= NOW
            if found is None:
                if is_open and worst > self._in_ledger(counter.name) and not is_slot:
                    return f"{counter.name}: up to {worst} will have been spent, and Redis does not know it"
                continue
            have = found.spent + found.leased + found.held
            if have > counter.limit:
                return f"{counter.name}: {_sums(found)} is more than {counter.limit}"
            leased = sum(owner.slices.get(counter.name, 0) for owner in books.owners.values())
            if leased != found.leased or min(found.leased, found.held, found.spent) < 0:
                return f"{counter.name}: {_sums(found)}, and the slices sum up to {leased}"
            if is_open and worst > have and not is_slot:
                return f"{counter.name}: up to {worst} will have been spent, and it knows of {_sums(found)}"
        recorded = [record.job for record in (*self.ledger, *self.redis.stream) if record.job >= 0]
        twice = [job for job in set(recorded) if recorded.count(job) > 1]
        if twice and not self.was_wiped:
            return f"the ledger has job {twice[0]} twice"
        if self.is_settled and (why := self._unequal()) is not None:
            return why
        return self._refuses_what_fits() if self.scenario.checks_admission else None

    def _worst(self, place: int, counter: Counter) -> int:
        """What engines have produced, and may yet produce by themselves, under a counter."""
        total = 0
        for job, of in enumerate(self.scenario.jobs):
            if place in of.counters and self.engines[job] != "never came":
                running = of.bound if self.engines[job] == "runs" else 0
                total += self.produced[job] + running if counter.unit is Unit.TOKENS else 1
        return total

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
                return f"{counter.name}: {_sums(found)}, although nothing runs"
            in_ledger = self._in_ledger(counter.name)
            if counter.unit is not Unit.CONCURRENT and self._worst(place, counter) > in_ledger:
                return f"{counter.name}: {self._worst(place, counter)} were produced; the ledger knows of {in_ledger}"
            if found is not None and (found.spent > in_ledger or (is_exact and found.spent != in_ledger)):
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

    def _in_ledger(self, counter_name: str) -> int:
        place, counter = next((p, c) for p, c in enumerate(self.counters) if c.name == counter_name)
        total = 0
        for record in (*self.ledger, *self.redis.stream):
            if record.job < 0:
                total += record.tokens if record.counter == counter_name else 0
            elif place in self.scenario.jobs[record.job].counters:
                total += {Unit.TOKENS: record.tokens, Unit.REQUESTS: 1}.get(counter.unit, 0)
        return total

    # --- nothing that fits is refused for long ---------------------------------------------------------------------------------

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
                sums = [_sums(found) for found in world.redis.books.counters.values()]
                return f"request {job} fits and is not admitted: {', '.join(sums)}"
        return None

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
        for each, process in enumerate(self.processes):
            if process.state == "lives":
                self._renews(each)
                self._renews(each)
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

    def _renews(self, place: int) -> None:
        self.renew(place)
        self.do(place, "renew")
        self.answer(place, "renew")


# --- copies and keys ----------------------------------------------------------------------------------------------------------


def _copy_of_redis(redis: Redis) -> Redis:
    books = _copy_of_books(redis.books)
    return type(redis)(
        books=books,
        answers={owner: dict(answers) for owner, answers in redis.answers.items()},
        calls_from=dict(redis.calls_from),
        tasks={
            job: Task(
                TaskMoney(books, task.money.one, task.money.held, dict(task.money.used)), task.state, task.attempts
            )
            for job, task in redis.tasks.items()
        },
        stream=list(redis.stream),
    )


def _copy_of_books(books: Books) -> Books:
    return type(books)(
        counters={name: Sums(s.spent, s.leased, s.held, s.limit, s.expires_at) for name, s in books.counters.items()},
        owners={name: _copy_of_owner(owner) for name, owner in books.owners.items()},
        wanted=dict(books.wanted),
        opens_at=books.opens_at,
    )


def _copy_of_owner(owner: Owner) -> Owner:
    return Owner(
        owner.ends_at,
        owner.watermark,
        owner.fate,
        owner.by,
        owner.by_until,
        owner.is_closed,
        owner.slices.copy(),
        set(owner.settled),
        set(owner.open),
    )


def _copy_of_process(process: Process) -> Process:
    return Process(
        [_copy_of_mine(mine) for mine in process.mines],
        process.state,
        {kind: Out(out.call, out.answer) for kind, out in process.outs.items()},
        process.wanted,
    )


def _copy_of_out(out: Out | None) -> Out | None:
    return None if out is None else Out(out.call, out.answer)


def _copy_of_mine(mine: Mine) -> Mine:
    slices = Slices()
    slices._next, slices._unconfirmed = mine.slices._next, dict(mine.slices._unconfirmed)
    for name, held in mine.slices._slices.items():
        copied = slices._slices[name] = _Slice(held.counter)
        copied.unused, copied.reserved = held.unused, held.reserved
        copied.used, copied.recent, copied.idle_rounds = held.used, held.recent, held.idle_rounds
    reserved = {
        job: Reservation(each.number, [(slices._slices[held.counter.name], amount) for held, amount in each._taken])
        for job, each in mine.reserved.items()
    }
    calls = mine.calls
    next_number = next(calls.numbers)
    calls.numbers = itertools.count(next_number)
    copied_calls = _Calls(
        itertools.count(next_number), set(calls.on_their_way), set(calls.given_up), dict(calls.given_back)
    )
    return Mine(mine.name, slices, copied_calls, reserved, dict(mine.pending), mine.is_known)


def _key_of_owner(owner: Owner, numbers: Iterable[int]) -> Hashable:
    return (
        owner.ends_at > NOW,
        owner.fate,
        owner.by,
        owner.by_until > NOW,
        owner.is_closed,
        tuple(sorted(owner.slices.items())),
        tuple(number for number in sorted(numbers) if owner.has_settled(number)),
        tuple(sorted(owner.open)),
    )


def _key_of_task(task: Task) -> Hashable:
    return (task.state, task.attempts, task.money.held, task.money.used["completion_tokens"])


def _key_of_process(process: Process, ranks: dict[tuple[str, int], int]) -> Hashable:
    return (
        process.state,
        process.wanted,
        tuple((kind, _key_of_out(out, ranks)) for kind, out in sorted(process.outs.items())),
        tuple(_key_of_mine(mine, ranks) for mine in process.mines),
    )


def _key_of_mine(mine: Mine, ranks: dict[tuple[str, int], int]) -> Hashable:
    slices = mine.slices
    return (
        mine.is_known,
        slices._next,
        tuple(slices._unconfirmed),
        tuple(
            (name, held.unused, held.reserved) for name, held in sorted(slices._slices.items()) if held.unused or held.reserved
        ),
        tuple((job, each.number) for job, each in mine.reserved.items()),
        tuple((job, item.number) for job, item in mine.pending.items()),
        tuple(sorted(ranks[mine.name, number] for number in mine.calls.given_up)),
        tuple(sorted((ranks[mine.name, number], tuple(parts)) for number, parts in mine.calls.given_back.items())),
    )


def _key_of_out(out: Out | None, ranks: dict[tuple[str, int], int]) -> Hashable:
    if out is None:
        return None
    answer = out.answer if out.is_done else "not yet"
    return (_ranked(out.call, ranks), repr(answer))


def _ranked(call: Call, ranks: dict[tuple[str, int], int]) -> Hashable:
    """The call with its numbers as their places among those of its owner."""
    owner = call.owner
    if call.kind == "lease":
        return (call.kind, owner, ranks[owner, call.number], call.args)
    if call.kind == "renew":
        watermark, given_up, calls_from, given_back = call.args
        return (
            call.kind,
            owner,
            watermark,
            tuple(ranks[owner, number] for number in given_up),
            ranks[owner, calls_from],
            tuple((ranks[owner, number], parts) for number, parts in given_back),
        )
    if call.kind == "enter":
        watermark, holding, void, settled = call.args
        return (call.kind, owner, watermark, holding, tuple(ranks[owner, number] for number in void), settled)
    return call


def _numbers_of_reservations(call: Call) -> set[int]:
    if call.kind == "settle":
        return {item.number for item in call.args}
    if call.kind == "submit":
        return {call.args[1].number}
    if call.kind == "enter":
        return set(call.args[3])
    return {each.number for each in call.args[1] or ()} if call.kind == "forfeit" else set()


def _numbers_of_calls(call: Call) -> set[int]:
    if call.kind == "lease":
        return {call.number}
    if call.kind == "renew":
        return {*call.args[1], call.args[2], *(number for number, _ in call.args[3])}
    return set(call.args[2]) if call.kind == "enter" else set()


def _sums(found: Sums) -> str:
    return f"spent {found.spent} + leased {found.leased} + held {found.held}"


def _usage(tokens: int) -> UsageRecord:
    return UsageRecord(
        id="",
        kind="task",
        status="done",
        tenant="",
        key_id="",
        model="",
        prompt_tokens=0,
        completion_tokens=tokens,
        nano_usd=0,
        started_at=NOW,
        ended_at=NOW,
    )


def _words(call: Call) -> str:
    """What a call is about."""
    if call.kind == "lease":
        asks = ", ".join(f"{ask.need} to {ask.want} of {ask.counter}" for ask in call.args)
        return f"{call.owner}'s lease ({asks})"
    if call.kind == "renew":
        back = [f"{amount} of {name}" for _, parts in call.args[3] for name, amount in parts]
        return f"{call.owner}'s renewal" + (f" (gives back {', '.join(back)})" if back else "")
    if call.kind == "settle":
        numbers = ", ".join(str(item.number) for item in call.args)
        return f"the settlement of {call.owner}'s {numbers}"
    if call.kind == "submit":
        return f"{call.owner}'s submission of task {call.args[0]}"
    if call.kind == "enter":
        holding = ", ".join(f"{amount} of {name}" for name, amount in call.args[1])
        return f"{call.owner}'s entering" + (f" (holds {holding})" if holding else "")
    if call.kind == "forfeit":
        open_ = call.args[1]
        return f"the winding up of {call.owner}, " + (
            "without a journal" if open_ is None else f"{len(open_)} in flight"
        )
    return f"{call.kind} {call.owner}"


def fault_names() -> list[str]:
    return [each.name for each in fields(Faults)]
