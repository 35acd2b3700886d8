"""A timer that is put off far more often than it rings."""

import asyncio
import gc
import weakref
from collections.abc import Callable

from stoker.web.alarms import Alarm


class Loop:
    """As much of an event loop as an alarm asks for, with a time that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Callable[[], None]) -> "Timer":
        self.made += 1
        self.timers.append(Timer(self, at, callback))
        return self.timers[-1]

    def pass_until(self, now: float) -> None:
        while due := [timer for timer in self.timers if timer.at <= now]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = first.at
            first.callback()
        self.now = now


class Timer:
    def __init__(self, loop: Loop, at: float, callback: Callable[[], None]) -> None:
        self.loop, self.at, self.callback = loop, at, callback

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.loop.timers.remove(self)


def world() -> tuple[Loop, Alarm, list[float]]:
    loop, rang = Loop(), list[float]()
    return loop, Alarm(loop, lambda: rang.append(loop.now)), rang  # type: ignore[arg-type]


def test_it_rings_once_when_its_time_has_come() -> None:
    loop, alarm, rang = world()
    alarm.set(5.0)
    loop.pass_until(4.9)
    assert rang == []
    loop.pass_until(20.0)
    assert rang == [5.0]


def test_put_off_a_thousand_times_it_asks_the_loop_for_two_timers() -> None:
    loop, alarm, rang = world()
    for number in range(1000):
        loop.pass_until(number / 1000)
        alarm.set(loop.now + 1.0)
    loop.pass_until(3.0)
    assert rang == [1.999]
    assert loop.made == 2  # the one that was set first, and the one that it left when it found nothing due


def test_an_earlier_time_counts_at_once() -> None:
    loop, alarm, rang = world()
    alarm.set(60.0)
    alarm.set(2.0)
    loop.pass_until(100.0)
    assert rang == [2.0]


def test_switched_off_it_is_silent_until_it_is_set_again() -> None:
    loop, alarm, rang = world()
    alarm.set(1.0)
    alarm.off()
    loop.pass_until(2.0)
    assert (rang, loop.timers) == ([], [])
    alarm.set(3.0)
    loop.pass_until(3.0)
    assert rang == [3.0]


async def test_closed_it_holds_on_to_nobody() -> None:
    class Owner:
        def __init__(self) -> None:
            self.alarm = Alarm(asyncio.get_running_loop(), self.ring)
            self.alarm.set(asyncio.get_running_loop().time() + 60.0)

        def ring(self) -> None:
            raise AssertionError("nobody set it to ring now")

    gc.disable()
    try:
        owner = Owner()
        left = weakref.ref(owner)
        owner.alarm.close()
        del owner
        assert left() is None
    finally:
        gc.enable()
