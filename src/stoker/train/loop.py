"""The steps of a run, from the one that a checkpoint names to the last.

Each step: the gradient of its passes, summed over processes; one exchange of losses and flags; the update; what is due
at its end (`boundaries`). All randomness of a pass is derived from (seed, step, number of the pass), so that a step
that is done again, by whom and after whatever, is the same step.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stoker.base.clock import Clock
from stoker.base.errors import TimedOut
from stoker.registry.runs import Crash
from stoker.spec import Run
from stoker.train import exits
from stoker.train.boundaries import Flag, Next, after_step
from stoker.train.gradients import Gradients, cut
from stoker.train.interruption import Interruption, Wish
from stoker.train.interval import Interval
from stoker.train.live import Live
from stoker.train.losses import Loss
from stoker.train.model import TorchRows, rows_on
from stoker.train.optimizer import Adam, rate_at
from stoker.train.record import Writer
from stoker.train.saving import Saved, Saver
from stoker.train.source import Pass, Source, Step, nothing_like
from stoker.train.world import World

MOMENTS = ("restore", "pass", "update", "snapshot", "validate")
"""Moments of training at which dying matters, beside those of a commit."""


SAVE_S = 1800.0
"""After which a save that nobody waits for has failed; the next one is tried."""


_TAKEN_OVER = "another launch of this run has taken over; nothing more was written"


def nowhere(moment: str) -> None:
    """Dies at no moment."""


@dataclass
class Parts:
    """What a run is made of, as `starting` puts it together."""

    run: Run
    world: World
    module: nn.Module
    loss: Loss
    adam: Adam
    gradients: Gradients
    source: Source
    validation: Source | None
    saver: Saver
    record: Writer
    interruption: Interruption
    clock: Clock
    interval: Interval
    live: Live | None = None
    """Process 0: what the run has come to."""
    is_spent: Callable[[], bool] = lambda: False
    """Process 0: whether the budget is spent."""
    tell: Callable[[str], None] = lambda text: None
    """For people."""
    told: Callable[["Done"], None] = lambda done: None
    """After each step, for whoever looks on."""
    saved: Callable[[Saved], None] = lambda saved: None
    """Process 0, after each save that ended, for whoever looks on."""
    facts: dict[str, object] = field(default_factory=dict)
    """What a checkpoint's state says beside the step: digests, processes."""
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around each forward pass."""
    crash: Crash = nowhere
    is_random: bool = False
    """Whether passes draw random numbers (dropout)."""
    is_sharded: bool = False


@dataclass(frozen=True)
class Done:
    """A step that was done. `number` counts from 1."""

    number: int
    loss: float
    rate: float
    norm: float
    tokens: int
    seconds: float
    data_s: float
    stall_s: float


class Loop:
    """`step`: how many steps are done. `tokens`: trained on so far, all launches of the run together."""

    def __init__(self, parts: Parts, *, step: int, tokens: int) -> None:
        self._parts = parts
        self._step, self._tokens = step, tokens
        self._saved = step
        parts.saver.waiting = self._say_when_late

    def run(self) -> tuple[int, str]:
        """To the end, or until something ends it: an exit code and why."""
        parts = self._parts
        following = parts.source.following(self._step, rank=parts.world.rank, world=parts.world.size)
        try:
            if self._step >= parts.source.steps:
                return self._act(Next(validate=parts.validation is not None, end=exits.COMPLETED))
            while True:
                done, said = self._do(following)
                if not (math.isfinite(done.loss) and math.isfinite(done.norm)):
                    why = self._diverged(done)
                    code, more = self._finish(exits.DIVERGED)
                    return code, why if code == exits.DIVERGED else more
                code, why = self._act(
                    after_step(
                        said,
                        step=self._step,
                        steps=parts.source.steps,
                        saved=self._saved,
                        validates=parts.validation is not None,
                        validate_every=parts.run.validate_every,
                    )
                )
                if code >= 0:
                    return code, why
        finally:
            close = getattr(following, "close", None)
            if close is not None:
                close()

    # --- a step -----------------------------------------------------------------------------------------------------

    def _do(self, following: Iterator[Step]) -> tuple[Done, frozenset[Flag]]:
        parts, clock = self._parts, self._parts.clock
        begun_at = clock.monotonic()
        step = next(following)
        data_s = clock.monotonic() - begun_at
        parts.gradients.begin()
        losses = [self._pass(step, each) for each in step.passes]
        if parts.is_sharded and len(step.passes) < step.passes_at_most:
            self._keep_company(step)
        parts.gradients.finish()
        norm = float(parts.gradients.norm())
        # Before what no process gets through without the others: whoever ends at once now leaves none with a step done.
        parts.interruption.nothing_unsaved(False)
        loss, said = self._agree(step, losses)
        rate = rate_at(parts.run.optimizer, step.number, parts.source.steps)
        stall_s = parts.saver.before_update()
        if math.isfinite(loss) and math.isfinite(norm):
            parts.crash("update")
            parts.adam.step(rate, times=cut(norm, parts.run.optimizer.clip))
            self._step, self._tokens = self._step + 1, self._tokens + step.tokens
        done = Done(step.number + 1, loss, rate, norm, step.tokens, clock.monotonic() - begun_at, data_s, stall_s)
        if parts.world.leads and self._step > step.number:
            self._note(done, step)
        return done, said

    def _pass(self, step: Step, each: Pass) -> Tensor:
        parts = self._parts
        if parts.is_random:
            torch.manual_seed(derived(parts.run.seed, step.number, each.number))
        parts.crash("pass")
        with parts.computing():
            loss = parts.loss(parts.module, rows_on(each.rows, parts.world.device))
        (loss / step.weight).backward()
        parts.gradients.passed()
        return loss.detach()

    def _keep_company(self, step: Step) -> None:
        """With FSDP every process has to go through as many passes as any other."""
        parts = self._parts
        empty = self._nothing(step)
        for _ in range(step.passes_at_most - len(step.passes)):
            with parts.computing():
                loss = parts.loss(parts.module, empty)
            loss.backward()

    def _nothing(self, step: Step) -> TorchRows:
        rows = step.passes[-1].rows if step.passes else self._parts.source.step(0).passes[0].rows
        return rows_on(nothing_like(rows), self._parts.world.device)

    def _agree(self, step: Step, losses: list[Tensor]) -> tuple[float, frozenset[Flag]]:
        """The loss of the step and what any process says: one sum over processes. Each slot of a loss is filled by one
        process alone, and they are added up in the order of the passes, so that the loss does not depend on who has
        which."""
        parts = self._parts
        if parts.world.size == 1:
            return _added([float(loss) for loss in losses]) / step.weight, frozenset(self._flags(step.number + 1))
        slots = max((each.number for each in step.passes), default=-1) + 1
        slots = max(slots, parts.run.batch.rows // parts.run.batch.micro_rows)
        words = torch.zeros(slots + len(Flag), dtype=torch.float64)
        if losses:
            words[torch.tensor([each.number for each in step.passes])] = torch.stack(losses).double().cpu()
        for flag in self._flags(step.number + 1):
            words[slots + flag] = 1.0
        parts.world.sum(words)
        said = words.tolist()
        return _added(said[:slots]) / step.weight, frozenset(flag for flag in Flag if said[slots + flag] > 0)

    def _flags(self, number: int) -> Iterator[Flag]:
        parts = self._parts
        wish = parts.interruption.wish
        if wish == Wish.STOP:
            yield Flag.STOP
        elif wish == Wish.SAVE:
            yield Flag.SAVE
        if parts.saver.is_busy:
            yield Flag.BUSY
        if parts.saver.is_fenced:
            yield Flag.FENCED
        if parts.world.leads:
            if parts.interval.is_over(number):
                yield Flag.DUE
            if parts.is_spent():
                yield Flag.SPENT

    def _note(self, done: Done, step: Step) -> None:
        self._parts.record.add(
            "step",
            self._parts.clock.now(),
            step=done.number,
            loss=done.loss,
            tokens=done.tokens,
            rate=done.rate,
            norm=done.norm,
            seconds=round(done.seconds, 6),
            data_s=round(done.data_s, 6),
            stall_s=round(done.stall_s, 6),
            samples=digest_of(step.samples),
        )
        self._note_saves()
        self._say_when_late()
        self._parts.told(done)

    def _say_when_late(self) -> None:
        late = self._parts.interval.late(self._step)
        if late is not None and self._parts.world.leads:
            self._parts.tell(f"warning: {late}")

    def _diverged(self, done: Done) -> str:
        return (
            f"step {done.number}: the loss is {done.loss}, the norm of the gradient {done.norm}; nothing of this step "
            "was kept. A lower optimizer.learningRate, or optimizer.clip, may help"
        )

    # --- its end ----------------------------------------------------------------------------------------------------

    def _act(self, then: Next) -> tuple[int, str]:
        """A code below 0: it goes on."""
        parts = self._parts
        loss = None
        if then.validate:
            loss, is_stopped = self._validate()
            if is_stopped and then.end is None:
                then = Next(save="preempted" if self._step > self._saved else None, end=exits.PREEMPTED)
        if then.save is not None:
            timeout_s = self._patience_s() if then.end is not None else SAVE_S
            state = {**parts.facts, "step": self._step, "tokens": self._tokens}
            parts.crash("snapshot")
            try:
                parts.saver.begin(self._step, state, why=then.save, loss=loss, timeout_s=timeout_s)
                self._saved = self._step
                parts.interval.begin(self._step)
            except TimedOut as error:
                return self._ended(then.end, f"; {error}")
            if then.save == "rebalance":
                parts.interruption.done(Wish.SAVE)
        if then.end is None:
            return -1, ""
        return self._finish(then.end)

    def _finish(self, code: int) -> tuple[int, str]:
        parts = self._parts
        if code == exits.FENCED:
            return code, _TAKEN_OVER
        try:
            parts.saver.finish(self._patience_s())
        except TimedOut as error:
            return self._ended(code, f"; {error}")
        failed = self._note_saves()
        if parts.world.first_word("fenced" if parts.saver.is_fenced else None) is not None:
            return exits.FENCED, _TAKEN_OVER
        if failed and code == exits.COMPLETED:
            return exits.FAILED, f"the last checkpoint could not be written: {failed}"
        parts.interruption.nothing_unsaved(not failed)
        return self._ended(code, f"; the last checkpoint could not be written: {failed}" if failed else "")

    def _ended(self, code: int | None, more: str) -> tuple[int, str]:
        why = self._parts.interruption.why
        words = {
            exits.COMPLETED: f"{self._step} step{'s' * (self._step != 1)}",
            exits.PREEMPTED: why.reason if why is not None else "another process was told to stop",
            exits.BUDGET_SPENT: "the budget is spent",
        }
        return exits.FAILED if code is None else code, words.get(code or 0, "") + more

    def _patience_s(self) -> float:
        """How long a save may take that training waits for."""
        why = self._parts.interruption.why
        if why is None or why.wish != Wish.STOP:
            return SAVE_S
        if why.deadline is None:
            return self._parts.run.spot.grace_seconds
        return max(1.0, why.deadline - self._parts.clock.monotonic())

    def _note_saves(self) -> str | None:
        """Into the record; what went wrong last, if something did."""
        error = None
        for saved in self._parts.saver.results():
            error = saved.error
            if error is None:
                self._parts.interval.took(saved.stall_s)
                self._parts.interval.durable(saved.step)
                if self._parts.live is not None:
                    self._parts.live.saved()
            if not self._parts.world.leads:
                continue
            self._parts.saved(saved)
            if saved.error is None:
                self._parts.record.add(
                    "save",
                    self._parts.clock.now(),
                    step=saved.step,
                    name=saved.name,
                    stall_s=round(saved.stall_s, 6),
                    seconds=round(saved.seconds, 6),
                    bytes=saved.size_bytes,
                    why=saved.why,
                )
            else:
                self._parts.tell(f"warning: checkpoint {saved.name} was not kept: {saved.error}")
                self._parts.record.add(
                    "save_failed", self._parts.clock.now(), step=saved.step, name=saved.name, why=saved.error
                )
        return error

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, bool]:
        """The loss on the validation data, and whether a stop came first (then there is none)."""
        parts = self._parts
        assert parts.validation is not None  # noqa: S101 - asked for only where there is one
        begun_at = parts.clock.monotonic()
        parts.module.eval()
        total = weight = 0.0
        try:
            for number in range(parts.validation.steps):
                parts.crash("validate")
                step = parts.validation.step(number, rank=parts.world.rank, world=parts.world.size)
                with parts.computing():
                    losses = [parts.loss(parts.module, rows_on(each.rows, parts.world.device)) for each in step.passes]
                    if parts.is_sharded:
                        for _ in range(step.passes_at_most - len(step.passes)):
                            parts.loss(parts.module, self._nothing(step))
                mean, said = self._agree(step, losses)
                if Flag.STOP in said:
                    return None, True
                total, weight = total + mean * step.weight, weight + step.weight
        finally:
            parts.module.train()
        loss = total / weight
        if parts.world.leads:
            seconds = round(parts.clock.monotonic() - begun_at, 6)
            if parts.live is not None:
                parts.live.validated(loss)
            parts.record.add("validate", parts.clock.now(), step=self._step, loss=loss, seconds=seconds)
        return loss, False


def _added(losses: list[float]) -> float:
    """One after the other. Python's own sum is more exact from 3.12 on, and so it would be another one."""
    total = 0.0
    for loss in losses:
        total += loss
    return total


def derived(seed: int, *parts: int) -> int:
    """A seed of its own for each purpose."""
    text = ",".join(str(each) for each in (seed, *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def digest_of(samples: tuple[int, ...]) -> str:
    """Of the examples of a step, in order."""
    return hashlib.sha256(",".join(map(str, samples)).encode()).hexdigest()[:16]
