"""The verdict: named checks over what was seen, each with what it found. Pure: the same observations, the same words.

What is promised, and compared with what, is docs/drills.md.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.drill.observed import Ask, End, Kind, Observed, SeenTask, Target
from stoker.meter.usage import UsageRecord

Json = dict[str, Any]

# What may break off when that is killed: a line that somebody held to it, and that cannot be taken up again. Nothing
# else may fail, and this only if it was open in the moment of the kill.
_MAY_BREAK: Mapping[Target, frozenset[Kind]] = {
    "gateway": frozenset({"chat", "stream"}),
    "engine": frozenset({"stream"}),
    "spot": frozenset({"stream"}),  # that began on this machine, and outlasts the notice
}
# The signal is sent, and the system still takes connections for who is dying.
_DYING_S = 0.5
# So many of a kind are named in words; all are counted.
_NAMED = 3


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    said: str


@dataclass(frozen=True)
class Verdict:
    checks: Sequence[Check]
    evidence: Json = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_json(self, **more: object) -> Json:
        checks = [{"name": check.name, "ok": check.ok, "said": check.said} for check in self.checks]
        return {"verdict": "pass" if self.passed else "fail", "evidence": self.evidence, "checks": checks, **more}


def judge(seen: Observed) -> Verdict:
    facts = _Facts(seen)
    checks = [facts.under_load(), facts.requests(), facts.restarted(), facts.stall()]
    if seen.notice is not None:
        checks.append(facts.left_in_time())
    if seen.trouble is None:
        checks += [facts.nothing_lost(), facts.all_done(), facts.exactly_once(), facts.answers(), facts.budget()]
        if seen.notice is not None:
            checks.append(facts.no_failed_attempts())
    else:
        checks.append(Check("platform", ok=False, said=f"it does not say what became of the load: {seen.trouble}"))
    return Verdict(checks, facts.evidence())


class _Facts:
    """The figures of one drill, and the checks over them."""

    def __init__(self, seen: Observed) -> None:
        self.seen = seen
        self.tasks = [ask for ask in seen.asks if ask.kind == "task"]
        self.records: dict[str, list[UsageRecord]] = defaultdict(list)
        for record in seen.records:
            self.records[record.run or ""].append(record)
        self.states = Counter(_state(ask, seen.tasks) for ask in self.tasks)

    # --- did it hit anything, and who came back ---------------------------------------------------------------------

    def under_load(self) -> Check:
        kills = self.seen.kills
        if not kills:
            return Check("under load", ok=False, said="nothing was killed")
        notice = self.seen.notice
        # What runs elsewhere by the time the machine goes is what a notice is for.
        least = notice.open_asks if notice else min(kill.open_asks for kill in kills)
        when = " at the notice" if notice else ""
        said = f"{_listed(kill.name for kill in kills)} killed; {least} of the load were open{when}"
        if not least:
            return Check("under load", ok=False, said=f"{said}, so it proves nothing: give it more --tasks")
        return Check("under load", ok=True, said=said)

    def restarted(self) -> Check:
        limit_s = self.seen.limits.restart_s
        gone = [kill.name for kill in self.seen.kills if kill.back_at is None]
        took = [(kill.name, kill.back_at - kill.at) for kill in self.seen.kills if kill.back_at is not None]
        late = [f"{name} came back after {seconds:.1f} s" for name, seconds in took if seconds > limit_s]
        if gone or late:
            said = "; ".join([*(f"{name} is not back" for name in gone), *late])
            return Check("restarted", ok=False, said=f"{said}; {limit_s:g} s are allowed")
        said = f"ready again after {max((seconds for _, seconds in took), default=0.0):.1f} s"
        replaced = _listed(kill.name for kill in self.seen.kills if kill.is_replaced)
        return Check("restarted", ok=True, said=f"{said}; another took the place of {replaced}" if replaced else said)

    def stall(self) -> Check:
        # While the only one of its kind is away, and a supervisor waits longer each time, nobody can do its work.
        away_s = max((kill.back_at - kill.at for kill in self.seen.kills if kill.back_at is not None), default=0.0)
        limit_s, longest_s = self.seen.limits.stall_s + away_s, self.longest_stall_s
        said = f"longest time without an end or a token {longest_s:.1f} s"
        next_s = self.first_end_after_kill_s
        said += "; nothing ended after the kill" if next_s is None else f"; first end {next_s:.1f} s after the kill"
        is_ok = longest_s <= limit_s
        return Check("stall", ok=is_ok, said=said if is_ok else f"{said}; {limit_s:.1f} s are allowed")

    # --- requests ---------------------------------------------------------------------------------------------------

    def requests(self) -> Check:
        """Of everything that is no task; and of tasks whether they were taken."""
        bad, broken = [], 0
        for ask in self.seen.asks:
            if ask.kind == "task" and ask.task_id is not None:
                continue
            if ask.end == "cut" and self._may_have_broken(ask):
                broken += 1
            elif ask.end != "done":
                bad.append(_failure(ask))
        asked_again = sum(self.refused.values())
        if bad:
            return Check("requests", ok=False, said=f"{len(bad)} failed: {_listed(bad)}")
        lines = sum(1 for ask in self.seen.asks if ask.kind != "task")
        said = f"{lines - broken} of {lines} answered"
        said += f", {broken} cut off with the {self.seen.target}, as they may be" if broken else ""
        said += f"; asked again {asked_again} times ({_counted(self.refused)})" if asked_again else ""
        return Check("requests", ok=True, said=said)

    def _may_have_broken(self, ask: Ask) -> bool:
        may = ask.kind in _MAY_BREAK.get(self.seen.target, frozenset())
        return may and any(ask.was_open_at(kill.at, within_s=_DYING_S) for kill in self.seen.kills)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def nothing_lost(self) -> Check:
        """submitted = done + dead + pending. Done without a result is lost, too."""
        submitted = sum(1 for ask in self.tasks if ask.task_id is not None)
        states = Counter({state: n for state, n in self.states.items() if state != "never taken"})
        parts = {name: states.pop(name, 0) for name in ("done", "dead", "pending")}
        said = f"{submitted} submitted = " + " + ".join(f"{count} {name}" for name, count in parts.items())
        if states:
            return Check("nothing lost", ok=False, said=f"{said}; and {_counted(states)}")
        return Check("nothing lost", ok=submitted == sum(parts.values()), said=said)

    def all_done(self) -> Check:
        left = [(ask, _state(ask, self.seen.tasks)) for ask in self.tasks]
        left = [(ask, state) for ask, state in left if state in ("dead", "pending")]
        if not left:
            return Check("all done", ok=True, said=f"{self.states['done']} tasks done, none dead, none pending")
        words = [f"{ask.task_id} is {self._why(ask, state)}" for ask, state in left]
        return Check("all done", ok=False, said=f"{len(left)} tasks are not done: {_listed(words)}")

    def _why(self, ask: Ask, state: str) -> str:
        task = self.seen.tasks[str(ask.task_id)]
        if state == "dead":
            return f"dead: {task.error or (task.failures or ('no cause is known',))[-1]}"
        return f"{task.state} still" + (f" at {task.worker}" if task.worker else "")

    def no_failed_attempts(self) -> Check:
        failed = [f"{task.id}: {task.failures[-1]}" for task in self._own_tasks() if task.failures]
        if failed:
            return Check("no failed attempts", ok=False, said=f"{len(failed)} tasks had one: {_listed(failed)}")
        return Check("no failed attempts", ok=True, said="whatever ran there was finished or handed back")

    def _own_tasks(self) -> list[SeenTask]:
        ids = {ask.task_id for ask in self.seen.asks}
        return [task for task in self.seen.tasks.values() if task.id in ids]

    # --- once -------------------------------------------------------------------------------------------------------

    def exactly_once(self) -> Check:
        faults = [fault for ask in (*self.seen.asks, *self.seen.extra) for fault in self._faults(ask)]
        known = {ask.run for ask in (*self.seen.asks, *self.seen.extra)}
        faults += [
            f"{record.id} is of no request of the drill" for record in self.seen.records if record.run not in known
        ]
        if faults:
            return Check("exactly once", ok=False, said=f"{len(faults)} times not: {_listed(faults)}")
        said = f"0 duplicates: {len(self.seen.records)} usage records, each of one request or task"
        return Check("exactly once", ok=True, said=said)

    def _faults(self, ask: Ask) -> list[str]:
        records = self.records.get(ask.run, [])
        if ask.kind in ("task", "resumable"):
            return [*self._faults_of_task(ask, records), *self._changed(ask)]
        return _faults_of_request(ask, records)

    def _faults_of_task(self, ask: Ask, records: Sequence[UsageRecord]) -> list[str]:
        """One task for each run, and one record for each task that ended."""
        others = [task.id for task in self.seen.tasks.values() if task.run == ask.run and task.id != ask.task_id]
        faults = [f"{one} is a second task of {ask.run}" for one in others]
        if ask.task_id is None:
            return faults
        ended = ask.end in ("done", "dead", "cancelled")
        own = [record for record in records if record.id == ask.task_id]
        if ended and not own:
            faults.append(f"{ask.task_id} has no usage record")
        return faults + [f"{record.id} is a second record of {ask.task_id}" for record in records if record not in own]

    def _changed(self, ask: Ask) -> list[str]:
        task = self.seen.tasks.get(ask.task_id or "")
        if task is None or ask.end != "done" or task.answer is None or ask.answer is None:
            return []
        return [] if task.answer == ask.answer else [f"{task.id} has another result than its client was told"]

    # --- answers ----------------------------------------------------------------------------------------------------

    def answers(self) -> Check:
        by_number = {ask.number: ask for ask in self.seen.asks}
        wrong = [
            f"{ask.kind} {ask.task_id or ask.run} says {_short(ask.answer)}, in the calm {_short(calm)}"
            for ask, calm in ((by_number[number], text) for number, text in self.seen.calm.items())
            if ask.answer != calm
        ]
        empty = [ask.task_id or ask.run for ask in self.seen.asks if ask.end == "done" and not ask.answer]
        wrong += [f"{one} is done and says nothing" for one in empty]
        compared = len(self.seen.calm)
        if wrong:
            return Check("answers", ok=False, said=f"{len(wrong)} wrong of {compared} compared: {_listed(wrong)}")
        different = len({ask.answer for ask in self.seen.asks if ask.answer is not None})
        said = f"{compared} compared with the calm, all the same; {different} different ones in all"
        if self.seen.seams:
            said += f"; {len(self.seen.seams)} as a replica says it in the calm that goes on with its beginning"
        return Check("answers", ok=True, said=said if compared else "not compared")

    # --- money ------------------------------------------------------------------------------------------------------

    def budget(self) -> Check:
        """The books in Redis, the ledger's sum and its records say one number, nothing is set aside any more, and
        clients were told the same: to the token where one attempt was enough, and never more."""
        budget = self.seen.budget
        if budget is None:
            return Check("budget", ok=False, said="what is left of it is not known")
        billed = self.billed
        faults = []
        if budget.spent != billed:
            faults.append(f"the ledger's sum is {budget.spent}")
        if budget.left is None or budget.limit - budget.left != billed:
            left = (
                "nobody says what is left" if budget.left is None else f"{budget.limit - budget.left} are taken of it"
            )
            faults.append(f"of the budget: {left}")
        if budget.reserved:
            faults.append(f"{budget.reserved} are set aside for nobody")
        faults += self._wrongly_billed()
        if faults:
            return Check("budget", ok=False, said=f"usage records have {billed} tokens, but {_listed(faults)}")
        said = f"{billed} tokens in its books, in the ledger and in {len(self.seen.records)} records; {self.told} told"
        return Check("budget", ok=True, said=said)

    def _wrongly_billed(self) -> list[str]:
        found = []
        for ask in (*self.seen.asks, *self.seen.extra):
            record = self._record_of(ask)
            if record is None or ask.told is None or ask.end != "done":
                continue
            billed = _tokens(record)
            if billed < ask.told or (billed > ask.told and not self._may_cost_more(ask, record)):
                found.append(f"{record.id} was billed {billed} and told {ask.told}")
        return found

    def _record_of(self, ask: Ask) -> UsageRecord | None:
        """That of the answer."""
        id = ask.task_id or next((tried.request_id for tried in ask.tries if tried.outcome == "done"), None)
        return next((record for record in self.records.get(ask.run, []) if record.id == id), None)

    def _may_cost_more(self, ask: Ask, record: UsageRecord) -> bool:
        """Attempts that were given up are paid for, and the client was told of the last one. What was handed back
        counts as no attempt; it is gone on with, and paid once, where the engine can do that."""
        return record.attempts > 1 or (self.seen.target == "spot" and not self.seen.goes_on)

    # --- the notice -------------------------------------------------------------------------------------------------

    def left_in_time(self) -> Check:
        notice = self.seen.notice
        assert notice is not None  # noqa: S101 - asked for by `judge`, where there is one
        given_s = notice.ends_at - notice.given_at
        if notice.out_at is None or notice.out_at > notice.ends_at:
            said = f"{notice.replica} was still sent requests at the end of its notice of {given_s:g} s"
            return Check("left in time", ok=False, said=said)
        said = f"{notice.replica} was sent nothing more {notice.out_at - notice.given_at:.1f} s after its notice"
        return Check("left in time", ok=True, said=f"{said}, which gave it {given_s:g} s")

    # --- figures ----------------------------------------------------------------------------------------------------

    @property
    def billed(self) -> int:
        return sum(_tokens(record) for record in self.seen.records)

    @property
    def told(self) -> int:
        return sum(ask.told or 0 for ask in (*self.seen.asks, *self.seen.extra))

    @property
    def recomputed(self) -> int | None:
        """Tokens that engines generated and no client was told of: what attempts that were given up had come to."""
        if self.seen.generated is None:
            return None
        told = sum(ask.told_generated for ask in (*self.seen.asks, *self.seen.extra))
        return max(0, self.seen.generated - told)

    @property
    def refused(self) -> Counter[str]:
        """What was told to ask again, or was cut off: by status and code."""
        return Counter(
            f"{tried.status} {tried.code}" if tried.status else str(tried.code)
            for ask in self.seen.asks
            for tried in ask.tries
            if tried.outcome in ("refused", "unreachable")
        )

    @property
    def longest_stall_s(self) -> float:
        times = [self.seen.began_at, *sorted(self.seen.beats), self.seen.ended_at]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)

    @property
    def first_end_after_kill_s(self) -> float | None:
        """The longest, of several kills."""
        ends = [ask.ended_at for ask in self.seen.asks if ask.ended_at is not None]
        after = [[end - kill.at for end in ends if end > kill.at] for kill in self.seen.kills]
        return max((min(each) for each in after if each), default=None)

    def _counts(self) -> Json:
        """None where the platform did not say it."""
        if self.seen.trouble is not None:
            return dict.fromkeys(("done", "dead", "pending", "lost", "duplicates"))
        return {
            "done": self.states["done"],
            "dead": self.states["dead"],
            "pending": self.states["pending"],
            "lost": self.states["lost"] + self.states["done without a result"],
            "duplicates": sum(len(self._faults(ask)) for ask in (*self.seen.asks, *self.seen.extra)),
        }

    def evidence(self) -> Json:
        seen = self.seen
        failures = [task for task in self._own_tasks() if task.failures]
        ends = {
            kind: Counter(ask.end for ask in seen.asks if ask.kind == kind) for kind in ("chat", "stream", "resumable")
        }
        return {
            "target": seen.target,
            "killed": [
                {
                    "process": kill.name,
                    "pid": kill.pid,
                    "open": kill.open_asks,
                    "running_tasks": kill.running_tasks,
                    "back_after_s": None if kill.back_at is None else round(kill.back_at - kill.at, 3),
                }
                for kill in seen.kills
            ],
            "submitted": sum(1 for ask in self.tasks if ask.task_id is not None),
            **self._counts(),
            "tasks_with_failed_attempts": len(failures),
            "requests": {kind: dict(sorted(counts.items())) for kind, counts in ends.items()},
            "asked_again": dict(sorted(self.refused.items())),
            "answers_compared": len(seen.calm),
            "answers_gone_on_with": {self.seen.asks[number].task_id: at for number, at in seen.seams.items()},
            "tokens": {
                "told": self.told,
                "billed": self.billed,
                "billed_not_told": self.billed - self.told,
                "generated": seen.generated,
                "recomputed": self.recomputed,
            },
            "budget": None
            if seen.budget is None
            else {
                "limit": seen.budget.limit,
                "left": seen.budget.left,
                "spent": seen.budget.spent,
                "reserved": seen.budget.reserved,
            },
            "longest_stall_s": round(self.longest_stall_s, 3),
            "first_end_after_kill_s": _rounded(self.first_end_after_kill_s),
            "away_s": {name: round(seconds, 1) for name, seconds in sorted(seen.away_s.items()) if seconds > 0},
            "left_registry_after_s": None
            if seen.notice is None or seen.notice.out_at is None
            else round(seen.notice.out_at - seen.notice.given_at, 3),
            "seconds": round(seen.ended_at - seen.began_at, 3),
        }


def _state(ask: Ask, tasks: Mapping[str, SeenTask]) -> str:
    """done, dead, pending, and what is none of them in words. As the platform says it in the end; but what its client
    was told stays told."""
    if ask.task_id is None:
        return "never taken"
    task = tasks.get(ask.task_id)
    if task is None:
        return "lost"
    if task.state == "done":
        return "done" if task.answer is not None or ask.answer is not None else "done without a result"
    if ask.end == "done":
        return f"told done and {task.state}"
    if task.state in ("dead", "forwarded", "dropped"):
        return "dead"
    return task.state if task.state == "cancelled" else "pending"


def _faults_of_request(ask: Ask, records: Sequence[UsageRecord]) -> list[str]:
    """One record for each answer; for a try that did not end well, one or none. A try that was cut off before it was
    told its id may have left one that nobody can name."""
    by_id = Counter(record.id for record in records)
    faults = [f"{id} has {count} records" for id, count in by_id.items() if count > 1]
    named = {tried.request_id: tried for tried in ask.tries if tried.request_id is not None}
    faults += [
        f"{id} has no usage record" for id, tried in named.items() if tried.outcome == "done" and id not in by_id
    ]
    # An attempt that an engine took and lost has a record of its own: `<id>.<attempt>`, which is not `done`.
    strangers = [
        record.id
        for record in records
        if record.id not in named and not (record.id.partition(".")[0] in named and record.status != "done")
    ]
    unnamed = sum(1 for tried in ask.tries if tried.outcome in ("cut", "refused") and tried.request_id is None)
    return faults + [f"{id} is one record too many of {ask.run}" for id in strangers[unnamed:]]


def _failure(ask: Ask) -> str:
    last = ask.tries[-1] if ask.tries else None
    status = f" {last.status}" if last is not None and last.status else ""
    code = f" {last.code}" if last is not None and last.code else ""
    end: End | str = "not answered in time" if ask.end == "open" else ask.end
    return f"{ask.kind} {ask.task_id or ask.run} was {end}{status}{code}"


def _tokens(record: UsageRecord) -> int:
    return record.prompt_tokens + record.completion_tokens


def _listed(words: Iterable[str]) -> str:
    given = list(words)
    more = f", and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    return ", ".join(given[:_NAMED]) + more


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _short(text: str | None) -> str:
    return "nothing" if text is None else repr(text if len(text) <= 40 else text[:40] + "...")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
