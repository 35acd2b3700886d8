"""SIGTERM to `stoker train`, from its first moment to its last. It is there before all that takes time to import.

It is no handler of asyncio's: those end with their loop, and for a moment the signal would end the process.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Held:
    """SIGTERM is remembered, and ends nothing by itself."""

    def __init__(self) -> None:
        self._came = False
        self._tell: Callable[[], object] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        is_first, self._came = not self._came, True
        if is_first and self._tell is not None:
            self._tell()

    @contextmanager
    def told_to(self, tell: Callable[[], object]) -> Iterator[None]:
        """`tell` is called inside, in the main thread, when it comes for the first time; at once where it has come."""
        self._tell = tell
        if self._came:
            tell()
        try:
            yield
        finally:
            self._tell = None


def hold() -> Held:
    """In the main thread. Who holds it already goes on to."""
    before = signal.getsignal(signal.SIGTERM)
    held = before if isinstance(before, Held) else Held()
    signal.signal(signal.SIGTERM, held)
    return held


@contextmanager
def held() -> Iterator[Held]:
    """Afterwards as before."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield hold()
    finally:
        # None: it was not set by Python, and cannot be set again by it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def release() -> None:
    """It ends the process, as it does any other."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ignore() -> None:
    """To the end of the process: Python gives its handlers up before that, and what is ignored stays so."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
