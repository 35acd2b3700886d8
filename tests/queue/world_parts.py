"""What the model of hard budgets is made of: a scenario to explore, Redis behind calls that go astray, and what a
process and a reconciler know. `budget_world` makes it move.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Limit, Part, Reservation, Slices, _Slice
from stoker.queue.books import Books, Opened, Owner, Sums
from stoker.queue.budgets import Gone, Leased, NotBegun, Opening, Renewed, Settlement
from stoker.queue.holds import TaskMoney
from stoker.queue.redis_budgets import _Calls

NOW = 4_102_444_800.0  # the year 2100: Redis forgets by its own clock, which has not reached that
TTL_S = 10.0
WAIT_S = 60.0
MOST_ATTEMPTS = 2

# --- what is to be explored ------------------------------------------------------------------------------------------


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
    name_the_scopes: bool = True
    """A settlement, and a task, names the scopes that its record counts in, whatever limits there were when it came."""
    open_first: bool = True
    """A counter is opened before the ledger is asked what it begins with."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`most_faults` of all kinds together. `jobs` come to their processes at any time, or never."""

    name: str
    limits: tuple[Limit, ...]
    jobs: tuple[Job, ...]
    faults: Faults = Faults()
    most_faults: int = 2
    processes: int = 2
    reconcilers: int = 1
    is_far: bool = False
    """A reconciler may be on another machine, without the journal of a process that was killed there."""
    forgets_wanted: bool = False
    """What is wanted is so for some time only."""
    clients_go_away: bool = False
    """Clients go away before their requests are sent, and requests reach no engine."""
    limit_changes: int = 0
    """How often any limit is taken away, or set."""
    unset: tuple[int, ...] = ()
    """The limits that are not set at the start, by their place."""
    begins_slowly: bool = False
    """Anything may happen between opening a counter, asking the ledger, and beginning it."""
    outcomes: Literal["all", "ends"] = "all"
    """Requests end with any number of tokens, or with none or all."""
    leased: tuple[int, ...] = ()
    """What each process holds of the first counter at the start."""
    is_wanted: bool = False
    """At the start the processes have heard that others wait for the first counter."""
    checks_admission: bool = False
    """Check also that nothing that fits is refused for longer than one renewal."""
    rules: Rules = Rules()
    books: type[Books] = Books
    redis: "type[Redis] | None" = None


# --- Redis -----------------------------------------------------------------------------------------------------------

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
    state: Literal["queued", "running", "waits", "ended"] = "queued"
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
        watermark, holding, number, settled = call.args
        is_new = call.owner not in self.books.owners
        answer = self.books.enter(NOW, call.owner, TTL_S, watermark, holding, settled)
        if is_new and answer is None:
            self._raise_calls_from(call.owner, number)  # what it called before is void: it states what it holds
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
        job, hold, scopes = call.args
        if job in self.tasks:  # the same submission again
            return None
        why = self.books.take_hold(NOW, hold)
        if why is None:
            self.tasks[job] = Task(TaskMoney(self.books, hold.parts, hold.parts, scopes=scopes))
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
    """A usage record: what a job cost, or (job -1) what of a counter was in a slice that counts as spent. As text it
    has the tokens where the books look for them."""

    job: int
    counter: str
    tokens: int

    def __str__(self) -> str:
        return f'{self.job} {self.counter} "completion_tokens":{self.tokens}'

    @classmethod
    def of(cls, text: str) -> "Record":
        job, counter, tokens = text.split(" ")
        return cls(int(job), counter, int(tokens.partition(":")[2]))


# --- a process and a reconciler --------------------------------------------------------------------------------------

NOT_YET = object()


@dataclass(slots=True)
class Out:
    """A call whose answer somebody waits for."""

    call: Call
    answer: Any = NOT_YET

    @property
    def is_done(self) -> bool:
        return self.answer is not NOT_YET


@dataclass(slots=True)
class Mine:
    """What a process knows of itself under one name. By job: `reserved`, and `pending`, which is settled here and not
    in Redis yet."""

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
    # Counters that it is beginning: since when, and what the ledger said (None: it was not asked yet).
    beginning: dict[str, tuple[Opening | None, int | None]] = field(default_factory=dict)

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


# --- copies and keys -------------------------------------------------------------------------------------------------


def copy_of_redis(redis: Redis) -> Redis:
    books = copy_of_books(redis.books)
    return type(redis)(
        books=books,
        answers={owner: dict(answers) for owner, answers in redis.answers.items()},
        calls_from=dict(redis.calls_from),
        tasks={
            job: Task(
                TaskMoney(books, task.money.one, task.money.held, dict(task.money.used), task.money.scopes),
                task.state,
                task.attempts,
            )
            for job, task in redis.tasks.items()
        },
        stream=list(redis.stream),
    )


def copy_of_books(books: Books) -> Books:
    return type(books)(
        counters={name: Sums(s.spent, s.leased, s.held, s.limit, s.expires_at) for name, s in books.counters.items()},
        opened={name: Opened(o.at_ms, o.late, o.expires_at) for name, o in books.opened.items()},
        newest={scope: dict(fields) for scope, fields in books.newest.items()},
        owners={name: copy_of_owner(owner) for name, owner in books.owners.items()},
        wanted=dict(books.wanted),
        opens_at=books.opens_at,
    )


def copy_of_owner(owner: Owner) -> Owner:
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


def copy_of_process(process: Process) -> Process:
    return Process(
        [copy_of_mine(mine) for mine in process.mines],
        process.state,
        {kind: Out(out.call, out.answer) for kind, out in process.outs.items()},
        process.wanted,
        dict(process.beginning),
    )


def copy_of_out(out: Out | None) -> Out | None:
    return None if out is None else Out(out.call, out.answer)


def copy_of_mine(mine: Mine) -> Mine:
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


def key_of_owner(owner: Owner, numbers: Iterable[int]) -> Hashable:
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


def key_of_task(task: Task) -> Hashable:
    return (task.state, task.attempts, task.money.held, task.money.used["completion_tokens"])


def key_of_process(process: Process, ranks: dict[tuple[str, int], int]) -> Hashable:
    return (
        process.state,
        process.wanted,
        tuple(sorted(process.beginning.items())),
        tuple((kind, key_of_out(out, ranks)) for kind, out in sorted(process.outs.items())),
        tuple(key_of_mine(mine, ranks) for mine in process.mines),
    )


def key_of_mine(mine: Mine, ranks: dict[tuple[str, int], int]) -> Hashable:
    slices = mine.slices
    return (
        mine.is_known,
        slices._next,
        tuple(slices._unconfirmed),
        tuple(
            (name, held.unused, held.reserved)
            for name, held in sorted(slices._slices.items())
            if held.unused or held.reserved
        ),
        tuple((job, each.number) for job, each in mine.reserved.items()),
        tuple((job, item.number) for job, item in mine.pending.items()),
        tuple(sorted(ranks[mine.name, number] for number in mine.calls.given_up)),
        tuple(sorted((ranks[mine.name, number], tuple(parts)) for number, parts in mine.calls.given_back.items())),
    )


def key_of_out(out: Out | None, ranks: dict[tuple[str, int], int]) -> Hashable:
    if out is None:
        return None
    answer = out.answer if out.is_done else "not yet"
    return (ranked(out.call, ranks), repr(answer))


def ranked(call: Call, ranks: dict[tuple[str, int], int]) -> Hashable:
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
        watermark, holding, number, settled = call.args
        return (call.kind, owner, watermark, holding, ranks[owner, number], settled)
    return call


def numbers_of_reservations(call: Call) -> set[int]:
    if call.kind == "settle":
        return {item.number for item in call.args}
    if call.kind == "submit":
        return {call.args[1].number}
    if call.kind == "enter":
        return set(call.args[3])
    return {each.number for each in call.args[1] or ()} if call.kind == "forfeit" else set()


def numbers_of_calls(call: Call) -> set[int]:
    if call.kind == "lease":
        return {call.number}
    if call.kind == "renew":
        return {*call.args[1], call.args[2], *(number for number, _ in call.args[3])}
    return {call.args[2]} if call.kind == "enter" else set()


def usage_of(tokens: int) -> UsageRecord:
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


def in_words(call: Call) -> str:
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
