"""What is done in the background holds nobody up, fails nobody, and is bounded."""

import threading
from collections.abc import Callable, Sequence

import pytest

from stoker.base import background
from stoker.base.background import Background
from stoker.base.errors import Unavailable


def test_items_are_done_in_their_order_some_at_once() -> None:
    begun, go, done = threading.Event(), threading.Event(), list[list[int]]()

    def do(items: Sequence[int]) -> None:
        done.append(list(items))
        begun.set()
        go.wait(30)

    behind = Background("test", do, most_at_once=3)
    behind.add(0)
    assert begun.wait(30)
    for number in range(1, 6):
        behind.add(number)
    go.set()
    behind.close(30)

    assert done == [[0], [1, 2, 3], [4, 5]]
    behind.add(9)
    assert done == [[0], [1, 2, 3], [4, 5]]


def test_what_fails_is_tried_again_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told, tried, works = [], list[list[int]](), threading.Event()
    monkeypatch.setattr(background._log, "warning", lambda *_, **fields: told.append(fields["why"]))

    def do(items: Sequence[int]) -> None:
        tried.append(list(items))
        if len(tried) <= 3:
            raise Unavailable("away")
        works.set()

    behind = Background("test", do, pause_s=0.0)
    behind.add(1)
    assert works.wait(30)
    behind.close(30)

    assert tried == [[1]] * 4
    assert told == ["away"]


def test_the_oldest_are_dropped_when_too_many_wait() -> None:
    begun, go, done = threading.Event(), threading.Event(), list[int]()

    def do(items: Sequence[int]) -> None:
        begun.set()
        go.wait(30)
        if len(done) < 1 and items == [0]:
            done.append(-1)
            raise Unavailable("away")
        done.extend(items)

    behind = Background("test", do, most_waiting=4, pause_s=0.0)
    behind.add(0)
    assert begun.wait(30)
    for number in range(1, 7):
        behind.add(number)
    go.set()
    behind.close(30)

    assert behind.dropped == 3  # 1 and 2, and 0, which failed and had no room any more
    assert done == [-1, 3, 4, 5, 6]


def test_it_lingers_until_there_are_enough() -> None:
    enough, lingers, done = threading.Event(), threading.Event(), list[list[int]]()

    def do(items: Sequence[int]) -> None:
        done.append(list(items))
        enough.set()

    behind = Background("test", do, most_at_once=3, linger_s=600.0)
    wait_for = behind._changed.wait_for

    def seen(holds: Callable[[], object], timeout: float | None = None) -> object:
        if timeout is not None:
            lingers.set()  # it has the lock until it waits, so whoever adds now finds it waiting
        return wait_for(holds, timeout)

    behind._changed.wait_for = seen  # type: ignore[method-assign, assignment]
    behind.add(0)
    assert lingers.wait(30)
    behind.add(1)
    assert done == []
    behind.add(2)
    assert enough.wait(30)
    assert done == [[0, 1, 2]]
    behind.close(30)


def test_what_fails_once_it_is_closing_is_given_up() -> None:
    tried = list[list[int]]()
    begun, go = threading.Event(), threading.Event()

    def do(items: Sequence[int]) -> None:
        tried.append(list(items))
        begun.set()
        go.wait(30)
        raise Unavailable("away")

    behind = Background("test", do, pause_s=600.0)
    behind.add(1)
    assert begun.wait(30)
    behind.close(0.0)
    go.set()
    behind.close(30)

    assert tried == [[1], [1]]


def test_closing_does_not_wait_for_what_does_not_end() -> None:
    begun, go = threading.Event(), threading.Event()

    def do(_: Sequence[int]) -> None:
        begun.set()
        go.wait(30)

    behind = Background("test", do)
    behind.add(1)
    assert begun.wait(30)

    behind.close(0.0)

    go.set()
    behind.close(30)


def test_a_background_that_nothing_is_given_starts_no_thread() -> None:
    before = threading.active_count()
    Background[int]("test", lambda _: None).close()

    assert threading.active_count() == before


def test_a_mistake_costs_its_items_and_not_those_that_come_after(monkeypatch: pytest.MonkeyPatch) -> None:
    told, done = [], list[int]()
    monkeypatch.setattr(background._log, "exception", lambda *_, **fields: told.append(fields["dropped"]))

    def do(items: Sequence[int]) -> None:
        if items == [0]:
            raise ValueError("nobody thought of it")
        done.extend(items)

    behind = Background("test", do, most_at_once=1)
    for number in range(3):
        behind.add(number)
    behind.close(30)
    assert (done, told, behind.dropped) == ([1, 2], [1], 1)


def test_what_is_dropped_is_counted_by_its_size() -> None:
    """Where there is no room for it, where it failed and has no room any more, and where it met a mistake."""
    begun, go = threading.Event(), threading.Event()

    def do(items: Sequence[int]) -> None:
        begun.set()
        go.wait(30)
        if items == [1000]:
            raise Unavailable("away")
        if 1 in items:
            raise ValueError("nobody thought of it")

    behind = Background("test", do, most_waiting=2, pause_s=0.0, size=lambda item: item)
    behind.add(1000)
    assert begun.wait(30)
    for number in (100, 10, 1):
        behind.add(number)
    go.set()
    behind.close(30)
    assert behind.dropped == 1111
