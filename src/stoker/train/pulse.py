"""Signs of life in a run's record, so that the end of a process that was killed is known to some seconds; and in S3, so
that what a long interval between checkpoints cost is known at all."""

import threading
from types import TracebackType

from stoker.base.clock import Clock
from stoker.train.record import Writer

ALIVE_S = 5.0
SEND_S = 60.0


class Pulse:
    """Use as a context, within which the record is open. A thread sends the record at once and every `send_s`, and adds
    a line every `alive_s`."""

    def __init__(self, record: Writer, clock: Clock, *, alive_s: float = ALIVE_S, send_s: float = SEND_S) -> None:
        self._record, self._clock, self._alive_s, self._send_s = record, clock, alive_s, send_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """Does not wait for a store that is away."""
        self._over.set()

    def _beat(self) -> None:
        self._record.send()
        sent_at = self._clock.monotonic()
        while not self._over.wait(self._alive_s):
            self._record.add("alive", self._clock.now())
            if self._clock.monotonic() - sent_at >= self._send_s:
                self._record.send()
                sent_at = self._clock.monotonic()
