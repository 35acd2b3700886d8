"""The thread in which the engine computes, and the way in and out of it.

`submit` and `Ticket` belong to the event loop of the HTTP server; the thread takes what was submitted before each
step, so a request joins the running batch at the next one, and a cancelled one has left it by then.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import EngineUnavailable
from stoker.engine.embedder import Embedding
from stoker.engine.runner import Runner, Told
from stoker.engine.sequences import Generation, Listener, Progress, Running, Work

_log = logs.get(__name__)


class Ticket:
    """One submitted request, seen from the event loop."""

    work: Work

    def __init__(self, loop: "StepLoop", *, is_streamed: bool) -> None:
        """A request that is not streamed is woken once, when it has ended: to wake costs as much as a token does."""
        self._loop = loop
        self._is_streamed = is_streamed
        self._arrived: deque[Progress] = deque()
        self._news = asyncio.Event()

    async def progress(self) -> AsyncIterator[Progress]:
        """What happens to the request, steps that came faster than they were read joined, up to the last one.

        Raises the error that ended it.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            # The thread may add at any time: one that comes now is read now, and its wake-up finds nothing.
            parts = [self._arrived.popleft() for _ in range(len(self._arrived))]
            if not parts:
                continue
            joined = _joined(parts)
            if joined.error is not None:
                raise joined.error
            yield joined
            if joined.is_last:
                return

    def cancel(self) -> None:
        """The answer is not wanted any more. Harmless when it has ended."""
        self._loop.cancel(self.work)

    @property
    def prompt_tokens(self) -> int:
        return self.work.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        return self.work.completion_tokens

    @property
    def has_ended(self) -> bool:
        return self.work.is_cancelled

    def take(self, progress: Progress) -> bool:
        self._arrived.append(progress)
        return self._is_streamed or progress.is_last

    def wake(self) -> None:
        self._news.set()


def _joined(parts: Sequence[Progress]) -> Progress:
    last = parts[-1]
    text = last.text if len(parts) == 1 else "".join(part.text for part in parts)
    return Progress(text, last.tokens, last.finish_reason, last.error)


class StepLoop:
    def __init__(self, runner: Runner, clock: Clock) -> None:
        """Make it inside the running event loop to which it answers."""
        self.runner = runner
        self.clock = clock
        self._events = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._inbox: deque[Work] = deque()
        self._open = 0
        """Requests submitted and not ended; read and written under `_changed`."""
        self._is_stopping = False
        self._is_draining = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_serving(self) -> bool:
        return self._thread.is_alive() and not self._is_draining

    def submit(self, generation: Generation, *, is_streamed: bool) -> Ticket:
        """Raises EngineUnavailable when the engine is leaving, or as many requests wait as may wait."""
        bundle, ticket = self.runner.bundle, Ticket(self, is_streamed=is_streamed)
        now = self.clock.monotonic()
        ticket.work = Running(generation, bundle.tokenizer, bundle.config.vocab_size, ticket, now)
        self._take(ticket)
        return ticket

    def submit_texts(self, texts: Sequence[Sequence[int]]) -> tuple[Ticket, Embedding]:
        """Texts to embed, none of them empty or longer than the context. The vectors are in the second one when the
        first has ended. Raises what `submit` raises."""
        ticket = Ticket(self, is_streamed=False)
        ticket.work = embedding = Embedding(texts, ticket, self.clock.monotonic())
        self._take(ticket)
        return ticket, embedding

    def _take(self, ticket: Ticket) -> None:
        limits = self.runner.limits
        with self._changed:
            if not self.is_serving:
                raise EngineUnavailable("this engine is stopping and takes no new requests", code="engine_stopping")
            if self._open >= limits.max_running + limits.max_waiting:
                raise EngineUnavailable(
                    f"{limits.max_running} requests run and {limits.max_waiting} wait, which is all that may",
                    hint="try again, or add a replica",
                    code="engine_full",
                )
            self._open += 1
            self._inbox.append(ticket.work)
            self._changed.notify()

    def cancel(self, work: Work) -> None:
        with self._changed:
            if not work.is_cancelled:
                work.is_cancelled = True
                self._open -= 1
                self._changed.notify()

    def drain(self) -> None:
        """Take no new requests; those that run or wait go on."""
        with self._changed:
            self._is_draining = True

    def stop(self) -> None:
        """End the thread after its current step. Requests that still run get no further progress."""
        with self._changed:
            self._is_draining = self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._take_inbox():
            try:
                told = self.runner.step()
            except Exception as exc:  # a fault of the batch itself: nobody may wait for a thread that has died
                _log.error("engine failed", exc_info=exc)
                told = self.runner.fail_all()
            if told:
                self._tell(told)

    def _take_inbox(self) -> bool:
        """Wait until there is something to do; False when it is to stop."""
        with self._changed:
            while not (self._inbox or not self.runner.is_idle or self._is_stopping):
                self._changed.wait()
            while self._inbox:
                self.runner.add(self._inbox.popleft())
            return not self._is_stopping

    def _tell(self, told: Told) -> None:
        with self._changed:
            # A request that was cancelled during the step was counted out by `cancel`.
            self._open -= sum(1 for sequence, progress in told if progress.is_last and not sequence.is_cancelled)
            for sequence, progress in told:
                if progress.is_last:
                    sequence.is_cancelled = True
        woken = [sequence.listener for sequence, progress in told if sequence.listener.take(progress)]
        if not woken:
            return
        try:
            self._events.call_soon_threadsafe(_wake, woken)
        except RuntimeError:
            _log.info("the event loop has ended before its requests", requests=len(woken))


def _wake(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.wake()
