"""A drill in which all went well, to be spoiled by tests in one place each."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.drill.observed import Ask, Budget, Kill, Limits, Notice, Observed, SeenTask, Target, Try
from stoker.drill.verdicts import Verdict, judge
from stoker.meter.usage import UsageRecord

LIMIT = 10_000


def record(id: str, run: str, tokens: int = 30, **changes: Any) -> UsageRecord:
    told: dict[str, Any] = {
        "id": id,
        "kind": "request",
        "status": "done",
        "tenant": "drill",
        "key_id": "key_1",
        "model": "general",
        "prompt_tokens": 20,
        "completion_tokens": tokens - 20,
        "nano_usd": 0,
        "started_at": 1.0,
        "ended_at": 2.0,
        "run": run,
    }
    return UsageRecord(**{**told, **changes})


def ask(number: int, kind: Any, **changes: Any) -> Ask:
    """One that was sent at 1 s and answered at 2 s with 20 tokens of prompt and 10 of answer."""
    id = f"req_{number}"
    told: dict[str, Any] = {
        "began_at": 1.0,
        "ended_at": 2.0,
        "end": "done",
        "tries": [Try(request_id=id, outcome="done", status=200)],
        "task_id": id if kind in ("task", "resumable") else None,
        "answer": f"{number} apples",
        "told": 30,
        "told_generated": 10,
    }
    return Ask(number, kind, f"drill_1-{number}", f"Repeat: {number} apples.", **{**told, **changes})


@dataclass
class Story:
    """Two tasks, a chat, a stream and a resumable stream; a worker is killed at 1.5 s, and is back a second later."""

    target: Target = "worker"
    asks: list[Ask] = field(
        default_factory=lambda: [
            *(ask(0, "task"), ask(1, "task"), ask(2, "chat"), ask(3, "stream"), ask(4, "resumable")),
        ]
    )
    extra: list[Ask] = field(default_factory=lambda: [ask(5, "chat", answer="0 apples")])
    tasks: dict[str, SeenTask] = field(
        default_factory=lambda: {
            f"req_{n}": SeenTask(f"req_{n}", f"drill_1-{n}", "done", answer=f"{n} apples", worker="general-1")
            for n in (0, 1, 4)
        }
    )
    records: list[UsageRecord] = field(default_factory=lambda: [record(f"req_{n}", f"drill_1-{n}") for n in range(6)])
    kills: list[Kill] = field(default_factory=lambda: [Kill("worker-general-1", 100, 1.5, 5, 2, back_at=2.5)])
    notice: Notice | None = None
    beats: list[float] = field(default_factory=lambda: [1.2, 2.0])
    calm: dict[int, str] = field(default_factory=lambda: {0: "0 apples", 3: "3 apples"})
    spent: int | None = None
    left: int | None = None
    reserved: int = 0
    generated: int | None = 60
    goes_on: bool = True
    trouble: str | None = None
    seams: dict[int, int] = field(default_factory=dict)

    @property
    def observed(self) -> Observed:
        """Books that agree with the records, unless a test says what they have."""
        billed = sum(one.prompt_tokens + one.completion_tokens for one in self.records)
        return Observed(
            target=self.target,
            limits=Limits(restart_s=30.0, stall_s=10.0),
            asks=self.asks,
            extra=self.extra,
            kills=self.kills,
            notice=self.notice,
            began_at=1.0,
            ended_at=2.0,
            beats=self.beats,
            tasks=self.tasks,
            records=self.records,
            budget=Budget(
                LIMIT,
                left=LIMIT - billed if self.left is None else self.left,
                spent=billed if self.spent is None else self.spent,
                reserved=self.reserved,
            ),
            calm=self.calm,
            generated=self.generated,
            goes_on=self.goes_on,
            trouble=self.trouble,
            seams=self.seams,
        )

    @property
    def verdict(self) -> Verdict:
        return judge(self.observed)

    @property
    def failed(self) -> dict[str, str]:
        """The checks that failed, and what they said."""
        return {check.name: check.said for check in self.verdict.checks if not check.ok}

    def task(self, id: str, **changes: Any) -> None:
        """Let the platform say something else of a task."""
        self.tasks[id] = replace(self.tasks[id], **changes)


class SkippingClock:
    """Time in which nobody waits: a sleep moves it on, and what happens meanwhile is in `at`, by its second."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.at: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += max(0.0, seconds)
        for one in [one for one in self.at if one[0] <= self.time - 1000.0]:
            self.at.remove(one)
            one[1]()
        await asyncio.sleep(0)


@contextmanager
def a_process(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """One that does nothing, until its stdin ends or it is killed, with these words on its command line."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
