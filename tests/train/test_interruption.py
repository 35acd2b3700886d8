"""Notices, recommendations and signals become wishes. What says so is real: signals, and HTTP to a fake of IMDS."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from stoker.base.clock import SystemClock
from stoker.policy.leaving import Notice
from stoker.spec.run import RunSpot
from stoker.testing import ManualClock
from stoker.testing.imds import FakeImds
from stoker.train import exits
from stoker.train.interruption import Interruption, Why, Wish, of_notice, weightiest

NOON = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC).timestamp()
QUICK = {"poll_seconds": 0.01}
NOWHERE: Mapping[str, str] = {"AWS_EC2_METADATA_DISABLED": "true"}


class Skewed(SystemClock):
    """The wall clock of this machine is off."""

    def __init__(self, by_s: float) -> None:
        self._by_s = by_s

    def now(self) -> float:
        return time.time() + self._by_s


class Heard:
    """What a run's process says, and a way to wait until it has said something."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._news = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._news:
            self.said.append(text)
            self._news.notify_all()

    def wait(self, part: str) -> str:
        with self._news:
            assert self._news.wait_for(lambda: any(part in text for text in self.said), timeout=20), self.said
            return next(text for text in self.said if part in text)


@contextmanager
def watching(imds: FakeImds, heard: Heard, clock: Any = None, **spot: Any) -> Iterator[Interruption]:
    made = Interruption(
        RunSpot(**{**QUICK, **spot}),
        environ={"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url},
        clock=clock or SystemClock(),
        tell=heard,
        is_watcher=True,
    )
    with made:
        yield made


@contextmanager
def signalled(heard: Heard) -> Iterator[Interruption]:
    made = Interruption(RunSpot(), environ=NOWHERE, clock=SystemClock(), tell=heard, is_watcher=True)
    with made:
        yield made


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    with FakeImds() as made:
        yield made


@pytest.fixture
def heard() -> Heard:
    return Heard()


def looks(imds: FakeImds, more: int) -> None:
    """Wait for so many more looks to end: the last may be under way."""
    least = imds.asked("spot/instance-action") + more + 1
    until(lambda: imds.asked("spot/instance-action") >= least)


def until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends_at
        os.sched_yield()


# --- what a notice means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notice", "reason", "deadline"),
    [
        (Notice("terminate", NOON + 120), "spot notice: terminate at 12:02:00Z", 500 + 110),
        (Notice("stop", NOON + 60), "spot notice: stop at 12:01:00Z", 500 + 50),
        (Notice("stop", NOON + 5), "spot notice: stop at 12:00:05Z", 500),  # less than the reserve
        (Notice("terminate", NOON - 3600), "spot notice: terminate at 11:00:00Z", 500),  # the clock is wrong: now
        (Notice("terminate", None), "spot notice: terminate", 500),  # no readable time
        (Notice("hibernate", NOON + 120), "spot notice: hibernate at 12:02:00Z", 500),  # begins with the notice
        (Notice("terminate", 1e300), "spot notice: terminate at a time that is none", 1e300),
    ],
)
def test_a_deadline_is_monotonic_and_never_past(notice: Notice, reason: str, deadline: float) -> None:
    why = of_notice(notice, now=NOON, monotonic=500.0, reserve_s=10.0)
    assert why == Why(Wish.STOP, reason, pytest.approx(deadline), 500.0)


def test_a_recommendation_is_a_wish_to_save_that_nobody_has_set_a_time_for() -> None:
    why = of_notice(Notice("rebalance"), now=NOON, monotonic=500.0, reserve_s=10.0)
    assert why == Why(Wish.SAVE, "rebalance recommended", None, 500.0)


def test_the_highest_wish_counts_and_of_those_the_earliest_deadline() -> None:
    save = Why(Wish.SAVE, "rebalance recommended", None, 1.0)
    term = Why(Wish.STOP, "SIGTERM", None, 2.0)
    notice = Why(Wish.STOP, "spot notice", 100.0, 3.0)
    assert weightiest([]) is None
    assert weightiest([save, term]) == term
    assert weightiest([save, term, notice]) == notice


# --- the instance -----------------------------------------------------------------------------------------------------


def test_a_notice_is_seen_and_its_deadline_is_ten_seconds_before_the_end(imds: FakeImds, heard: Heard) -> None:
    with watching(imds, heard) as interruption:
        assert (interruption.wish, interruption.why) == (Wish.GO_ON, None)
        began = time.monotonic()
        imds.notice("terminate", in_s=120)
        heard.wait("spot notice: terminate")
        why = interruption.why
        assert why is not None
        assert interruption.wish is Wish.STOP
        # AWS writes whole seconds.
        assert why.deadline is not None
        assert why.deadline - began >= 108.9
        assert why.deadline - why.at <= 110.0
    assert heard.said == [f"{why.reason}: a checkpoint is written at the end of this step, and then this ends"]


@pytest.mark.parametrize("skew_s", [3600.0, 130.0])
def test_a_notice_whose_time_is_past_by_this_clock_means_now(imds: FakeImds, heard: Heard, skew_s: float) -> None:
    with watching(imds, heard, Skewed(skew_s)) as interruption:
        imds.notice("terminate", in_s=120)
        heard.wait("spot notice")
        why = interruption.why
    assert why is not None
    assert why.deadline == why.at


def test_a_notice_that_is_withdrawn_is_no_wish_any_more(imds: FakeImds, heard: Heard) -> None:
    with watching(imds, heard) as interruption:
        imds.notice("stop", in_s=100)
        heard.wait("spot notice: stop")
        imds.withdraw()
        assert heard.wait("withdrawn").endswith("withdrawn, so this goes on")
        until(lambda: interruption.why is None)
        assert interruption.wish is Wish.GO_ON
        imds.notice("hibernate", in_s=0)
        heard.wait("spot notice: hibernate")
        assert interruption.wish is Wish.STOP


def test_a_notice_that_was_followed_cannot_be_withdrawn(imds: FakeImds, heard: Heard) -> None:
    with watching(imds, heard) as interruption:
        imds.notice("terminate", in_s=100)
        heard.wait("spot notice")
        why = interruption.why
        interruption.done(Wish.STOP)
        imds.withdraw()
        looks(imds, 4)
        assert interruption.why == why
    assert len(heard.said) == 1


def test_a_recommendation_is_followed_once_and_a_new_one_again(imds: FakeImds, heard: Heard) -> None:
    path = "events/recommendations/rebalance"
    with watching(imds, heard) as interruption:
        imds.say(path, '{"noticeTime": "2026-01-05T12:00:00Z"}')
        heard.wait("rebalance recommended")
        assert interruption.wish is Wish.SAVE
        interruption.done(Wish.SAVE)
        assert interruption.wish is Wish.GO_ON
        looks(imds, 3)  # it stands there as before
        assert interruption.wish is Wish.GO_ON

        imds.say(path, '{"noticeTime": "2026-01-05T12:30:00Z"}')
        until(lambda: len(heard.said) == 2)
        assert interruption.wish is Wish.SAVE
        imds.notice("terminate")
        heard.wait("spot notice")
        assert interruption.wish is Wish.STOP
    assert heard.said[:2] == ["rebalance recommended: a checkpoint is written at the end of this step"] * 2


def test_a_recommendation_may_be_ignored(imds: FakeImds, heard: Heard) -> None:
    with watching(imds, heard, on_rebalance="ignore") as interruption:
        imds.rebalance()
        looks(imds, 3)
        assert interruption.wish is Wish.GO_ON
    assert heard.said == []


def test_tokens_that_expire_and_a_service_that_fails_for_a_while_hide_no_notice(imds: FakeImds, heard: Heard) -> None:
    with watching(imds, heard, watch=True) as interruption:
        looks(imds, 1)
        imds.expire_tokens()
        imds.fail(500, times=3)
        heard.wait("spot notices are not seen")
        assert interruption.wish is Wish.GO_ON
        imds.notice("terminate")
        heard.wait("spot notice: terminate")


def test_in_a_pod_beyond_the_hop_limit_it_is_said_what_to_do(
    imds: FakeImds, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.instance.metadata.TIMEOUT_S", 0.05)
    imds.tokens_arrive = False
    with watching(imds, heard):
        said = heard.wait("spot notices are not seen")
    assert "took the connection and gave no token; in a container" in said
    assert "httpPutResponseHopLimit to 2" in said
    assert len(heard.said) == 1


def test_where_nobody_is_to_be_asked_nobody_is(imds: FakeImds, heard: Heard) -> None:
    imds.say("instance-life-cycle", "on-demand")
    with watching(imds, heard):
        until(lambda: imds.asked("instance-life-cycle") == 1)
    before = len(imds.requests)
    imds.say("instance-life-cycle", "spot")
    with watching(imds, heard, watch=False):
        pass
    other = Interruption(
        RunSpot(),
        environ={"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url},
        clock=ManualClock(),
        tell=heard,
        is_watcher=False,
    )
    with other:
        assert other.wish is Wish.GO_ON
    assert len(imds.requests) == before
    assert imds.asked("spot/instance-action") == 0


# --- signals ----------------------------------------------------------------------------------------------------------


def test_sigterm_is_a_wish_to_stop_and_a_second_one_changes_nothing(heard: Heard) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signalled(heard) as interruption:
        signal.raise_signal(signal.SIGTERM)
        heard.wait("SIGTERM")
        why = interruption.why
        assert why is not None
        assert (why.wish, why.reason, why.deadline) == (Wish.STOP, "SIGTERM", None)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.why == why
        interruption.done(Wish.SAVE)
        assert interruption.why == why
    assert signal.getsignal(signal.SIGTERM) == before
    assert heard.said == ["SIGTERM: a checkpoint is written at the end of this step, and then this ends"]


def test_ctrl_c_once_is_a_wish_and_twice_is_an_end(heard: Heard) -> None:
    with signalled(heard) as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.wish is Wish.STOP
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [thread.name for thread in threading.enumerate() if thread.name == "interruption"] == []


# --- nothing unsaved: real processes ----------------------------------------------------------------------------------

# What a process of a run does, as far as it matters here. The long hash is outside of Python, as a compiler is.
PROCESS = """
import hashlib, os, sys, time
from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.spec.run import RunSpot
from stoker.train.interruption import Interruption

def last_words(why):
    os.write(1, f"last words: {why.reason}\\n".encode())

logs.configure("rank-0")
spot = RunSpot(poll_seconds=0.05, grace_seconds=0.5)
def tell(text):
    os.write(2, (text + "\\n").encode())
with Interruption(
    spot, environ=os.environ, clock=SystemClock(), tell=tell, is_watcher=True, last_words=last_words
) as interruption:
    interruption.nothing_unsaved("unsaved" not in sys.argv)
    os.write(1, b"ready\\n")
    if "blocked" in sys.argv:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
    while "unsaved" not in sys.argv or not interruption.wish:
        time.sleep(0.005)
    if "hang" in sys.argv:
        time.sleep(60)
    os.write(1, f"saves: {interruption.why.reason}\\n".encode())
    interruption.nothing_unsaved(True)
    os.write(1, b"saved\\n")
    sys.exit(75)
"""


@contextmanager
def a_process(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **NOWHERE, **environ},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.stderr.read() if process.stderr else None
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_sigterm_ends_a_process_at_once_that_has_nothing_unsaved() -> None:
    with a_process() as process:
        process.send_signal(signal.SIGTERM)
        assert end_of(process) == (
            exits.PREEMPTED,
            "last words: SIGTERM\n",
            "SIGTERM: nothing is unsaved, so this ends at once\n",
        )


def test_so_it_does_while_the_main_thread_is_outside_of_python() -> None:
    """As in a first compile, or in a wait for other processes: Python's own handler would run minutes later."""
    with a_process("blocked") as process:
        process.send_signal(signal.SIGTERM)
        assert end_of(process)[0] == exits.PREEMPTED


def test_with_something_unsaved_it_is_left_to_the_end_of_the_step() -> None:
    with a_process("unsaved") as process:
        process.send_signal(signal.SIGTERM)
        code, out, err = end_of(process)
    assert (code, out) == (exits.PREEMPTED, "saves: SIGTERM\nsaved\n")
    assert err in ("", "SIGTERM: a checkpoint is written at the end of this step, and then this ends\n")


def test_a_notice_ends_it_at_once_too() -> None:
    with FakeImds() as imds:
        imds.notice("terminate")
        environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.url, "AWS_EC2_METADATA_DISABLED": "false"}
        with a_process(**environ) as process:
            code, out, _ = end_of(process)
    assert (code, out[:24]) == (exits.PREEMPTED, "last words: spot notice:")


def test_on_a_leash_the_end_of_the_launcher_is_a_wish_to_stop() -> None:
    with a_process("unsaved", STOKER_LEASH="stdin") as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert process.wait(30) == exits.PREEMPTED


def test_and_a_process_that_hangs_then_is_ended_after_the_grace() -> None:
    with a_process("unsaved", "hang", STOKER_LEASH="stdin") as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert process.wait(30) == exits.FAILED
