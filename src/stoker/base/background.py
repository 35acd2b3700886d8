"""Work that must not hold up whoever causes it, and must not fail it: a bounded queue and one thread.

For what is nice to have (metrics of a run): when the other side is away, items wait, and the oldest are dropped when
there are too many. What has to arrive is not for this.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from stoker.base import logs
from stoker.base.errors import StokerError

T = TypeVar("T")
_log = logs.get("background")


class Background(Generic[T]):
    """Hand items to `do` in a thread, in their order, some at once. `do` raises StokerError when it did not work: then
    they are tried again after `pause_s`, and the log says it once. Anything else that it raises is a mistake of ours:
    these items are dropped, the log has it, and the next are done. The thread begins with the first item.
    `linger_s`: it waits so long for more to come with the first, or until there are as many as it takes at once.
    `size`: what an item counts for in `dropped`."""

    def __init__(
        self,
        name: str,
        do: Callable[[Sequence[T]], None],
        *,
        most_waiting: int = 10_000,
        most_at_once: int = 1000,
        pause_s: float = 10.0,
        linger_s: float = 0.0,
        size: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._name, self._do, self._size = name, do, size
        self._most_at_once, self._pause_s, self._linger_s = most_at_once, pause_s, linger_s
        self._waiting: deque[T] = deque(maxlen=most_waiting)
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_failing = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, item: T) -> None:
        """Never waits. After `close` it does nothing."""
        with self._changed:
            if self._is_closing:
                return
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += self._size(self._waiting[0])
            self._waiting.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            if len(self._waiting) in (1, self._most_at_once):  # else the thread is awake, lingers, or pauses
                self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """What waits is tried once more, for so long at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                if self._linger_s:
                    self._changed.wait_for(
                        lambda: self._is_closing or len(self._waiting) >= self._most_at_once, self._linger_s
                    )
                is_last_try = self._is_closing
                items = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most_at_once))]
            try:
                self._do(items)
            except StokerError as error:
                self._failed(error)
                with self._changed:
                    if is_last_try:
                        return
                    self._put_back(items)
                    self._changed.wait_for(lambda: self._is_closing, self._pause_s)
            except Exception:
                dropped = sum(map(self._size, items))
                self.dropped += dropped
                _log.exception("background_broke", name=self._name, dropped=dropped)
            else:
                self._is_failing = False

    def _failed(self, error: StokerError) -> None:
        if not self._is_failing:
            self._is_failing = True
            _log.warning("background_failed", name=self._name, why=error.in_log)

    def _put_back(self, items: Sequence[T]) -> None:
        """Those that there is no room for are the oldest."""
        room = (self._waiting.maxlen or 0) - len(self._waiting)
        too_many = max(0, len(items) - room)
        self.dropped += sum(map(self._size, items[:too_many]))
        self._waiting.extendleft(reversed(items[too_many:]))
