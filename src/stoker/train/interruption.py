"""Notice, rebalance, SIGTERM -> a wish, which the loop reads at the end of each step and agrees on with all processes.

No torch. A thread hears of signals at once, also while the main thread compiles or waits for other processes and Python
would run no handler; the same thread of one process of each node (LOCAL_RANK 0) watches the instance's metadata,
through `stoker.instance`. Durations are monotonic; a time in a notice that is past is now.
"""

import asyncio
import contextlib
import enum
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType, TracebackType
from typing import Any, NoReturn

from stoker.base.clock import Clock
from stoker.instance.metadata import endpoint
from stoker.instance.notices import Instance, Watcher
from stoker.policy.leaving import Notice, finish_by
from stoker.spec.run import RunSpot
from stoker.train import exits

LEASH = "STOKER_LEASH"
"""Set to `stdin` by `launching`: the end of stdin means that the launcher is gone, and this process ends, too."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# For the last words of a process that ends at once: whoever holds a lock that they need will not give it back.
_LAST_WORDS_S = 2.0


class Wish(enum.IntEnum):
    """What this process wishes for; of all processes' wishes the highest is done."""

    GO_ON = 0
    SAVE = 1
    """Save, and go on (rebalance)."""
    STOP = 2
    """Save, and end as preempted."""


@dataclass(frozen=True)
class Why:
    wish: Wish
    reason: str
    """For people and the record: "spot notice: terminate at 12:00:00Z", "SIGTERM"."""
    deadline: float | None
    """By `clock.monotonic()`, when the save has to be durable; None: nobody said."""
    at: float
    """When it was noticed, by `clock.monotonic()`."""


def of_notice(notice: Notice, *, now: float, monotonic: float, reserve_s: float) -> Why:
    """What a notice that EC2 gave is a reason for. `now`: seconds since the epoch, as are the notice's."""
    if notice.action == "rebalance":
        return Why(Wish.SAVE, "rebalance recommended", None, monotonic)
    deadline = monotonic + (finish_by(notice, now=now, reserve_s=reserve_s) - now)
    when = "" if notice.at is None else f" at {_clock_time(notice.at)}"
    return Why(Wish.STOP, f"spot notice: {notice.action}{when}", deadline, monotonic)


def _clock_time(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "a time that is none"


def weightiest(reasons: list[Why]) -> Why | None:
    """The highest wish; of equal ones that with the earliest deadline, and then what was noticed first."""
    return min(
        reasons,
        key=lambda why: (-why.wish, float("inf") if why.deadline is None else why.deadline, why.at),
        default=None,
    )


class Interruption:
    """Use as a context: handlers and thread are there inside, and as before after it. A second SIGTERM changes nothing;
    SIGINT once is STOP, a second one raises KeyboardInterrupt. Commit the last checkpoint inside: a signal that comes
    later ends the process.

    A notice that is withdrawn takes its wish along, unless `done` has said that it was followed."""

    def __init__(
        self,
        spot: RunSpot,
        *,
        environ: Mapping[str, str],
        clock: Clock,
        tell: Callable[[str], None],
        is_watcher: bool,
        last_words: Callable[[Why], None] | None = None,
    ) -> None:
        """`tell` is called by a thread. `last_words` is called, in another, before the process is ended at once
        (`nothing_unsaved`), and has 2 s. Raises InvalidInput when the environment holds a URL of metadata that is none.
        """
        self._spot = spot
        self._clock = clock
        self._tell = tell
        self._last_words = last_words
        self._watcher = _watcher(spot, environ, clock) if is_watcher else None
        self._is_leashed = environ.get(LEASH) == "stdin"
        # Each is written by one thread, and read by others as it is: there is nothing that a lock would protect.
        self._signalled: Why | None = None
        self._noticed: Why | None = None
        self._recommended: Why | None = None
        self._followed: Why | None = None
        # Recommendations are told from each other by their times.
        self._wished_for: str | None = None
        self._saved_for: str | None = None
        self._is_unsaved = True
        self._has_begun = False
        self._interrupts = 0
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self._told_trouble = False
        self._ending = threading.Lock()

    # --- a context --------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Interruption":
        """In the main thread, since others may not change what a signal does."""
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        self._fd_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._run, name="interruption", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, before in self._before.items():
            # None: it was not set by Python, and cannot be set again by it.
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._writing.close()  # which ends the thread
        self._thread.join()
        self._reading.close()

    # --- for the loop -----------------------------------------------------------------------------------------------

    @property
    def wish(self) -> Wish:
        """Cheap: read every step."""
        why = self.why
        return Wish.GO_ON if why is None else why.wish

    @property
    def why(self) -> Why | None:
        """The reason of the wish."""
        found = (self._signalled, self._followed, self._noticed, self._recommended)
        return weightiest([why for why in found if why is not None])

    def done(self, wish: Wish) -> None:
        """A SAVE was done: it is not wished for any more, until the next rebalance. A STOP was followed: a notice that
        is withdrawn now comes too late."""
        if wish is Wish.SAVE:
            self._saved_for = self._wished_for
            self._recommended = None
        elif wish is Wish.STOP:
            self._followed = self.why

    def nothing_unsaved(self, is_so: bool) -> None:
        """While nothing would be lost (before the first step, while compiling, in evaluation after a save), a STOP that
        comes ends the process at once with exits.PREEMPTED, since nobody may come to the end of a step in time. One
        that came before is left to the loop, which knows what it is about to do; before the first step there is none.
        """
        self._is_unsaved = not is_so
        self._has_begun |= not is_so
        if not self._has_begun and (why := self.why) is not None and why.wish is Wish.STOP:
            self._end(why)

    # --- signals ----------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, whenever Python comes round to it. All else is done by the thread, which hears of it
        through the socket: nothing may be printed here, nor a lock be taken."""
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self._heard(number)

    def _heard(self, number: int) -> bool:
        """Whether that is new."""
        if self._signalled is not None:
            return False
        name = signal.Signals(number).name
        self._signalled = Why(Wish.STOP, name, None, self._clock.monotonic())
        return True

    def _say(self, text: str) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # who listened is gone, and what is to be done is done all the same
            self._tell(text)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        """Until the socket's other end is closed."""
        watching = None if self._watcher is None else asyncio.ensure_future(self._watch(self._watcher))
        if self._is_leashed:
            self._hold_leash()
        told = False
        try:
            while numbers := await asyncio.get_running_loop().sock_recv(self._reading, 64):
                for number in numbers:
                    self._heard(number)  # the handler may not have run yet
                if not told and self._signalled is not None:
                    told = True
                    self._stops(self._signalled)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])

    def _hold_leash(self) -> None:
        loop = asyncio.get_running_loop()

        def readable() -> None:
            with contextlib.suppress(OSError):  # a closed stdin means the same as its end
                if os.read(0, 4096):
                    return
            loop.remove_reader(0)
            _mute()
            if self._signalled is None:
                self._signalled = Why(
                    Wish.STOP,
                    "the launcher is gone",
                    self._clock.monotonic() + self._spot.grace_seconds,
                    self._clock.monotonic(),
                )
            # Nobody is left who would end a process that waits for others for ever.
            loop.call_later(self._spot.grace_seconds, os._exit, exits.FAILED)
            self._stops(self._signalled)

        with contextlib.suppress(OSError, ValueError):  # not something that can be waited for, such as a file
            loop.add_reader(0, readable)

    def _stops(self, why: Why) -> None:
        if self._is_unsaved:
            self._say(f"{why.reason}: a checkpoint is written at the end of this step, and then this ends")
        else:
            self._end(why)

    def _end(self, why: Why) -> NoReturn:
        """At once, from whichever thread. Who comes second waits for the end."""
        self._ending.acquire()
        self._say(f"{why.reason}: nothing is unsaved, so this ends at once")
        if self._last_words is not None:
            speaking = threading.Thread(target=self._last_words, args=(why,), daemon=True)
            speaking.start()
            speaking.join(_LAST_WORDS_S)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # who read it is gone
                stream.flush()
        os._exit(exits.PREEMPTED)

    # --- the instance -----------------------------------------------------------------------------------------------

    async def _watch(self, watcher: Watcher) -> None:
        try:
            while not watcher.is_over:
                notice = await watcher.look()
                self._say_trouble(watcher)
                self._looked(notice, watcher.recommended)
                await self._clock.sleep(watcher.poll_s)
        except Exception as error:  # a fault of ours ends the looking, never the training, and is not kept from anybody
            self._say(f"spot notices are not watched any more: {type(error).__name__}: {error}")
        finally:
            watcher.close()

    def _looked(self, notice: Notice | None, recommended: str | None) -> None:
        if notice is not None and notice.action == "rebalance":
            self._rebalance(notice, recommended)
            notice = None
        else:
            self._wished_for = self._recommended = None
        if notice is None:
            if self._noticed is not None and self._followed is None:
                self._say(f"{self._noticed.reason}: withdrawn, so this goes on")
            self._noticed = None
            return
        why = self._why(notice)
        before, self._noticed = self._noticed, why
        if before is None or before.reason != why.reason:
            self._stops(why)
        else:
            self._noticed = before  # the same: its deadline does not move with the wall clock

    def _rebalance(self, notice: Notice, recommended: str | None) -> None:
        """Once for each recommendation, which is told from others by its time."""
        if recommended in (None, self._saved_for, self._wished_for):
            return
        self._wished_for = recommended
        self._recommended = self._why(notice)
        self._say(f"{self._recommended.reason}: a checkpoint is written at the end of this step")

    def _why(self, notice: Notice) -> Why:
        return of_notice(
            notice,
            now=self._clock.now(),
            monotonic=self._clock.monotonic(),
            reserve_s=self._spot.reserve_seconds,
        )

    def _say_trouble(self, watcher: Watcher) -> None:
        """Once until it is answered again."""
        trouble = watcher.trouble
        if trouble is not None and not self._told_trouble:
            hint = "" if trouble.hint is None else f"; {trouble.hint}"
            self._say(f"spot notices are not seen: {trouble.message}{hint}")
        self._told_trouble = trouble is not None


def _mute() -> None:
    """What this process says went to the launcher: with that gone, each print would fail, and training with it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _watcher(spot: RunSpot, environ: Mapping[str, str], clock: Clock) -> Watcher | None:
    if spot.watch is False or (url := endpoint(environ)) is None:
        return None
    return Watcher(
        Instance(url, clock),
        poll_s=spot.poll_seconds,
        reserve_s=spot.reserve_seconds,
        leaves_on_rebalance=spot.on_rebalance == "save",
        is_sure=spot.watch is True,
    )
