"""A run's record says that the run is alive, and is sent, also while nothing else happens."""

import threading
from typing import Any

from stoker.base.clock import SystemClock
from stoker.train.pulse import Pulse
from stoker.train.record import Writer


class Told(Writer):
    """Holds what was done, and says when there is enough of it."""

    def __init__(self, enough: int) -> None:
        self.done: list[str] = []
        self.is_enough = threading.Event()
        self._enough = enough

    def add(self, kind: str, at: float, **fields: Any) -> None:
        self._note(kind)

    def send(self) -> None:
        self._note("sent")

    def _note(self, what: str) -> None:
        self.done.append(what)
        if len(self.done) >= self._enough:
            self.is_enough.set()


def test_it_is_sent_at_once_and_then_as_often_as_is_asked_for() -> None:
    told = Told(enough=5)
    with Pulse(told, SystemClock(), alive_s=0.001, send_s=0.0):
        assert told.is_enough.wait(10)
    assert told.done[:5] == ["sent", "alive", "sent", "alive", "sent"]


def test_between_two_times_it_is_not_sent() -> None:
    told = Told(enough=4)
    with Pulse(told, SystemClock(), alive_s=0.001, send_s=1e9):
        assert told.is_enough.wait(10)
    assert told.done[:4] == ["sent", "alive", "alive", "alive"]
