"""Story: a replica fails, is left alone, is tried again, and serves."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker.policy.breaker import CAP_S, CLEAN, FIRST_S, IN_A_ROW, WINDOW, Breaker


def failing(times: int, breaker: Breaker = CLEAN, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = breaker.failed(now)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    assert failing(IN_A_ROW - 1).state(0.0) == "closed"
    opened = failing(IN_A_ROW)
    assert (opened.state(0.0), opened.until, opened.admits(FIRST_S - 0.01)) == ("open", FIRST_S, False)


def test_one_answer_in_between_begins_the_row_anew() -> None:
    assert failing(IN_A_ROW - 1, failing(IN_A_ROW - 1).succeeded(0.0)).state(0.0) == "closed"


def test_half_of_the_last_twenty_open_it_though_never_three_in_a_row() -> None:
    breaker = CLEAN
    for _ in range(WINDOW // 2 - 1):
        breaker = breaker.failed(0.0).succeeded(0.0)
    breaker = breaker.failed(0.0)
    assert breaker.state(0.0) == "closed"
    assert breaker.succeeded(0.0).state(0.0) == "closed"  # it is asked when something fails
    assert breaker.failed(0.0).state(0.0) == "open"


def test_a_failure_now_and_then_never_opens_it() -> None:
    breaker = CLEAN
    for _ in range(100):
        breaker = breaker.failed(0.0)
        for _ in range(2):
            breaker = breaker.succeeded(0.0)
        assert breaker.state(0.0) == "closed"
    for _ in range(WINDOW):
        breaker = breaker.succeeded(0.0)
    assert breaker is CLEAN  # and it is forgotten


def test_where_nobody_listens_once_is_enough() -> None:
    assert CLEAN.failed(0.0, nobody_listens=True).state(0.0) == "open"


def test_after_its_time_one_request_at_a_time_tries_it() -> None:
    opened = failing(IN_A_ROW)
    assert (opened.state(FIRST_S), opened.admits(FIRST_S), opened.is_up(FIRST_S)) == ("half-open", True, True)
    trying = opened.began(FIRST_S)
    assert (trying.state(3.0), trying.admits(3.0), trying.is_up(3.0)) == ("half-open", False, True)
    assert trying.succeeded(3.0) is CLEAN
    reopened = trying.failed(3.0)
    assert (reopened.until, reopened.admits(3.0), reopened.trial) == (3.0 + 2 * FIRST_S, False, None)


def test_a_trial_without_a_verdict_leaves_room_for_the_next() -> None:
    trying = failing(IN_A_ROW).began(2.5)
    assert trying.gave_up(1.0) is trying  # that was an older request
    assert trying.gave_up(2.5).admits(2.5)


def test_an_older_request_says_nothing_about_one_that_was_opened_since() -> None:
    opened = failing(IN_A_ROW)
    assert opened.succeeded(1.0) is opened
    assert opened.failed(1.0) is opened


def test_each_opening_lasts_twice_as_long_up_to_a_cap() -> None:
    breaker, now, waits = failing(IN_A_ROW), 0.0, []
    for _ in range(7):
        assert breaker.until is not None
        waits.append(breaker.until - now)
        now = breaker.until
        breaker = breaker.began(now).failed(now)
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert breaker.until is not None
    assert failing(IN_A_ROW, breaker.began(breaker.until).succeeded(breaker.until)).until == FIRST_S


def test_a_probe_that_fails_counts_as_a_request_does() -> None:
    breaker = CLEAN
    for _ in range(IN_A_ROW):
        breaker = breaker.probed(0.0, is_healthy=False)
    assert breaker.state(0.0) == "open"
    assert breaker.probed(2.0, is_healthy=False).until == 2.0 + 2 * FIRST_S


def test_a_probe_closes_what_was_opened_because_nobody_listened_and_nothing_else() -> None:
    gone = CLEAN.failed(0.0, nobody_listens=True)
    assert gone.probed(0.5, is_healthy=True) is CLEAN
    assert gone.probed(2.0, is_healthy=False).probed(2.5, is_healthy=True) is CLEAN
    broken = failing(IN_A_ROW)
    assert broken.probed(0.5, is_healthy=True) is broken
    nearly = failing(IN_A_ROW - 1)
    assert nearly.probed(0.0, is_healthy=True) is nearly


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: beside the machine stands what a person would count."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CLEAN
        self.began: list[float] = []

    @rule(seconds=st.sampled_from([0.125, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_request_begins(self) -> None:
        if self.breaker.admits(self.now):
            was = self.breaker.state(self.now)
            self.breaker = self.breaker.began(self.now)
            if was == "half-open":
                assert not self.breaker.admits(self.now)  # never a second trial beside it
            self.began.append(self.now)

    @rule(nobody=st.booleans())
    def something_fails(self, nobody: bool) -> None:
        was = self.breaker.state(self.now)
        self.breaker = self.breaker.failed(self.now, nobody_listens=nobody)
        if was != "closed" or nobody:
            assert not self.breaker.admits(self.now)

    @rule()
    def something_is_answered(self) -> None:
        was = self.breaker.state(self.now)
        self.breaker = self.breaker.succeeded(self.now)
        assert self.breaker.state(self.now) == ("open" if was == "open" else "closed")

    @precondition(lambda self: self.began)
    @rule(data=st.data())
    def a_request_ends_without_a_verdict(self, data: st.DataObject) -> None:
        self.breaker = self.breaker.gave_up(data.draw(st.sampled_from(self.began)))

    @rule(is_healthy=st.booleans())
    def it_is_probed(self, is_healthy: bool) -> None:
        was = self.breaker.state(self.now)
        self.breaker = self.breaker.probed(self.now, is_healthy=is_healthy)
        if not is_healthy and was != "closed":
            assert self.breaker.state(self.now) == "open"

    @invariant()
    def it_never_stays_away_for_longer_than_the_cap(self) -> None:
        assert self.breaker.until is None or self.breaker.until - self.now <= CAP_S
        assert self.breaker.state(self.now + CAP_S) != "open"

    @invariant()
    def closed_means_that_all_may_go_there(self) -> None:
        if self.breaker.state(self.now) == "closed":
            assert self.breaker.admits(self.now)
            assert self.breaker.in_a_row < IN_A_ROW
        if self.breaker.state(self.now) == "open":
            assert not self.breaker.admits(self.now)


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.booleans(), max_size=60))
def test_it_opens_exactly_when_too_many_failed(outcomes: list[bool]) -> None:
    """A model in plain words: three in a row, or half of a full window that begins with a failure."""
    breaker, window = CLEAN, list[bool]()
    for is_failure in outcomes:
        breaker = breaker.failed(0.0) if is_failure else breaker.succeeded(0.0)
        window = [*window, is_failure][-WINDOW:]
        if not any(window):
            window = []
        if is_failure and (window[-IN_A_ROW:] == [True] * IN_A_ROW or (len(window) == WINDOW and sum(window) >= 10)):
            assert breaker.state(0.0) == "open"
            return
        assert breaker.state(0.0) == "closed"
