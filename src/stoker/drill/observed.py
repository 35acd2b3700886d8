"""What a drill has seen, as plain data: the load that it sent, what died, and what the platform wrote down.

`load`, `watching` and `collecting` fill it in; `verdicts` judges it. Times are seconds of one monotonic clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stoker.meter.usage import UsageRecord

Target = Literal["worker", "engine", "gateway", "redis", "spot"]
TARGETS: tuple[Target, ...] = ("worker", "engine", "gateway", "redis")
"""What can be killed; `spot` is a machine that is taken away, with a notice before."""

Kind = Literal["task", "stream", "resumable", "chat"]
End = Literal["open", "done", "dead", "cancelled", "lost", "cut", "refused"]
"""How a piece of load ended for its client: with an answer; as a task that was given up, or that somebody cancelled, or
that the platform does not know; with a connection that broke off or an answer that ended in an error; with an error
before the answer. `open`: not within the time of the drill."""


@dataclass
class Try:
    """One HTTP request that begins work. `request_id` is None when the platform was never heard to say it."""

    request_id: str | None = None
    outcome: Literal["open", "done", "refused", "unreachable", "cut"] = "open"
    status: int | None = None
    code: str | None = None


@dataclass
class Ask:
    """One piece of load. Its run (`X-Run-Id`) is in its usage records and its task, and nobody else has it."""

    number: int
    kind: Kind
    run: str
    prompt: str
    begun: str = ""
    """The answer's beginning, with which it is to go on."""
    max_tokens: int | None = None
    """Fewer than the load has."""
    began_at: float | None = None
    ended_at: float | None = None
    end: End = "open"
    tries: list[Try] = field(default_factory=list)
    task_id: str | None = None
    """Of a task; and of a resumable stream, which is one."""
    answer: str | None = None
    told: int | None = None
    """Tokens, prompt and answer together, that its client was told that it came to."""
    told_generated: int = 0
    """The answer's part of them."""

    def was_open_at(self, at: float, *, within_s: float = 0.0) -> bool:
        """At that time, or at one up to so much later."""
        has_begun = self.began_at is not None and self.began_at <= at + within_s
        return has_begun and (self.ended_at is None or self.ended_at >= at)


@dataclass(frozen=True)
class SeenTask:
    """A task as the platform has it in the end."""

    id: str
    run: str | None
    state: str
    failures: tuple[str, ...] = ()
    """Why attempts failed."""
    error: str | None = None
    answer: str | None = None
    worker: str | None = None


@dataclass
class Kill:
    """One SIGKILL. `open_asks` and `running_tasks` are of the drill's own load, in that moment; the latter on this very
    replica, where it was a worker's or an engine's."""

    name: str
    pid: int
    at: float
    open_asks: int
    running_tasks: int | None = None
    back_at: float | None = None
    """When a process of this name was ready again."""
    is_replaced: bool = False
    """Nobody needs this name any more (the autoscaler), and another process does the same."""


@dataclass
class Notice:
    """A spot notice to one worker, when so many of the drill's own load were open. `out_at`: when the gateway first did
    not send it anything any more."""

    worker: str
    replica: str
    given_at: float
    ends_at: float
    out_at: float | None = None
    open_asks: int = 0


def was_hit(ask: Ask, kills: Sequence[Kill], notice: Notice | None) -> bool:
    """Open when something died, or while there was a notice: only of that can another replica have gone on."""
    is_noticed = notice is not None and ask.was_open_at(
        notice.given_at, within_s=max(0.0, notice.ends_at - notice.given_at)
    )
    return is_noticed or any(ask.was_open_at(kill.at) for kill in kills)


@dataclass(frozen=True)
class Budget:
    """Tokens of the drill's own key, when all was over. `left` is what its last answer said, from the books in Redis;
    `spent` is the ledger's sum; `reserved` is what is still set aside for somebody, who gives it back when idle."""

    limit: int
    left: int | None
    spent: int
    reserved: int


@dataclass(frozen=True)
class Limits:
    """`stall_s`: how long nothing may end or be said, beside the time that who was killed was away."""

    restart_s: float
    stall_s: float


@dataclass
class Observed:
    target: Target
    limits: Limits
    asks: Sequence[Ask] = ()
    extra: Sequence[Ask] = ()
    """What was asked in the calm afterwards, with the same key: to compare answers, and to be told what is left."""
    kills: Sequence[Kill] = ()
    notice: Notice | None = None
    began_at: float = 0.0
    ended_at: float = 0.0
    """Of the load: from its first request to the end of its last."""
    beats: Sequence[float] = ()
    """When something of the load ended or said a token."""
    tasks: Mapping[str, SeenTask] = field(default_factory=dict)
    """By id: those that clients were told of, as far as the platform knows them, and whatever is under their runs."""
    records: Sequence[UsageRecord] = ()
    """All of the drill's key."""
    budget: Budget | None = None
    calm: Mapping[int, str] = field(default_factory=dict)
    """What the same prompt is answered when nothing dies, by the number of the ask."""
    seams: Mapping[int, int] = field(default_factory=dict)
    """Of these, by number: after how many tokens another replica went on with the answer, as the one in the calm was
    made to do, too."""
    generated: int | None = None
    """Tokens that the engines say they have generated meanwhile, whoever asked; None where they do not say."""
    away_s: Mapping[str, float] = field(default_factory=dict)
    """For how long each process was not ready."""
    goes_on: bool = True
    """Whether the model's engines go on with an answer that was handed back, so that none of it is paid twice."""
    trouble: str | None = None
    """Why what the platform wrote down could not be read; then only the load itself can be judged."""
