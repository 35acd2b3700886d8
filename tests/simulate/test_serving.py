"""Requests through queue and replicas: timelines worked out by hand, in seconds that are exact in binary."""

import math
import sys
from typing import Any

import numpy as np
import pytest

from stoker.simulate import compiling, result, serving, sharing
from stoker.simulate.engines import Rates
from stoker.simulate.result import IN_FLIGHT, LOST, NO_REPLICA, SERVED, TIMED_OUT, TOO_LONG
from stoker.simulate.serving import Plane, Requests

TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def rates(**changed: Any) -> Rates:
    """A step takes 1 s alone and 0.5 s more with each other sequence; 8 tokens of a prompt take 1 s."""
    usual: dict[str, Any] = {
        "step_s": np.array([0.0, 1.0, 1.5, 2.0, 2.5]),
        "step_s_per_kv_token": 0.0,
        "prefill_s_per_token": 0.125,
        "prefill_s_fixed": 0.0,
        "chunk_tokens": 8,
        "kv_tokens": 1000,
    }
    return Rates(**{**usual, **changed})


def requests(*rows: tuple[float, int, int] | tuple[float, int, int, int]) -> Requests:
    """(at, prompt, answer), or with cached tokens."""
    columns = list(zip(*[(*row, 0)[:4] for row in rows], strict=True)) if rows else [(), (), (), ()]
    return Requests(np.array(columns[0], float), *(np.array(column, np.int32) for column in columns[1:]))


def plane(*rows: Any, dispatch: Any = "queue", **changed: Any) -> Plane:
    usual: dict[str, Any] = {"max_model_len": None, "timeout_s": math.inf, "retries": False}
    return Plane(requests(*rows), dispatch=dispatch, **{**usual, **changed})


def column(of: Plane, name: str) -> list[float]:
    return [None if value != value else value for value in of.columns()[name].tolist()]


def finish(each: Plane, until: float = 1e6) -> list[tuple[float, int]]:
    """Moves on to the end; returns where it stopped before."""
    stops = []
    while (stop := each.advance(until))[1] >= 0:
        stops.append(stop)
    return stops


def test_one_request_alone_is_prefilled_and_then_decoded() -> None:
    each = plane((10.0, 16, 5))
    each.add(rates(prefill_s_fixed=0.25, after_s=0.5), 4, 0.0)
    finish(each)
    assert column(each, "state") == [SERVED]
    assert column(each, "started_at") == [10.0]
    assert column(each, "first_at") == [12.25]  # 16 tokens at 0.125 s, and what is fixed
    assert column(each, "done_at") == [16.75]  # four more steps of 1 s; 0.25 s before and 0.5 s after are the client's
    assert column(each, "completion_tokens") == [5]
    assert (column(each, "attempts"), column(each, "slot")) == ([1], [0])
    assert column(each, "work_s") == [6.0]
    assert each.busy_s().tolist() == [6.0]  # the engine's own time only
    assert not each.has_work()


def test_a_step_takes_longer_with_more_context() -> None:
    each = plane((0.0, 16, 5))
    each.add(rates(step_s_per_kv_token=1 / 64), 4, 0.0)
    finish(each)
    assert column(each, "done_at") == [2.0 + 4 * (1.0 + 18.5 / 64)]  # the prompt and half of the answer


def test_an_answer_of_one_token_ends_with_its_first_and_one_of_none_has_no_tokens() -> None:
    each = plane((0.0, 8, 1), (10.0, 8, 0))
    each.add(rates(), 4, 0.0)
    finish(each)
    assert column(each, "first_at") == column(each, "done_at") == [1.0, 11.0]
    assert column(each, "completion_tokens") == [1, 0]


def test_a_prompt_that_is_computed_slows_those_that_decode_and_then_both_share_the_steps() -> None:
    each = plane((0.0, 16, 5), (3.0, 7, 4))
    each.add(rates(), 4, 0.0)
    finish(each)
    # The first decodes from 2.0. From 3.0 a step holds 7 tokens of the other's prompt beside its own: 1.875 s, not 1 s.
    assert column(each, "first_at") == [2.0, 4.875]
    # Then two decode at 1.5 s a step: two steps for the first, and the other has one more at 1 s.
    assert column(each, "done_at") == [7.875, 8.875]
    assert column(each, "work_s") == [2.0 + 1.0 + 1.0 + 1.5, 0.875 + 1.5 + 1.0]
    assert each.busy_s().tolist() == [8.875]


ALONE = np.array([0.5, 1.0, 1.5])


def test_a_prompt_alone_reads_the_weights_once_in_each_step_that_it_needs() -> None:
    each = plane((0.0, 16, 1), (10.0, 12, 1), (20.0, 1, 1))
    each.add(rates(step_s=ALONE), 4, 0.0)
    finish(each)
    # Two steps of 8 tokens, two of 6, one of 1: 0.5 s each, beside the tokens.
    assert column(each, "first_at") == [3.0, 12.5, 20.625]
    assert column(each, "work_s") == [3.0, 2.5, 0.625]


def test_prompts_that_wait_behind_one_another_share_their_steps() -> None:
    each = plane((0.0, 4, 1), (0.25, 4, 1), (0.25, 4, 1))
    each.add(rates(step_s=ALONE), 4, 0.0)
    finish(each)
    # The first was alone: a step. The second has half of a step's tokens, and of its reading; the last one the whole.
    assert column(each, "first_at") == [1.0, 1.75, 2.75]


def test_a_prompt_whose_neighbours_have_ended_goes_on_in_steps_of_its_own() -> None:
    each = plane((0.0, 8, 2), (0.5, 15, 1))
    each.add(rates(step_s=ALONE), 4, 0.0)
    finish(each)
    # Until 1.5 the first is alone; then one step of 1.875 s has its last token and 7 of the other's prompt, of which 8
    # are left: a step of 1.5 s.
    assert column(each, "done_at") == [3.375, 4.875]
    assert column(each, "first_at") == [1.5, 4.875]


def test_prompts_are_computed_one_after_the_other() -> None:
    each = plane((0.0, 8, 1), (0.0, 16, 1), (0.5, 8, 1))
    each.add(rates(), 4, 0.0)
    each.advance(0.75)
    assert each.counts()[:4] == (0, 3, 1, 2)  # all taken, one runs, two wait in the engine
    assert column(each, "completion_tokens") == [0, 0, 0]
    finish(each)
    assert column(each, "first_at") == [1.0, 3.0, 4.0]
    assert column(each, "started_at") == [0.0, 0.0, 0.5]


def test_cached_tokens_are_not_computed_in_whole_blocks_of_sixteen_and_never_all_of_a_prompt() -> None:
    each = plane((0.0, 40, 1, 39), (10.0, 32, 1, 32), (20.0, 40, 1, 15), (30.0, 33, 1, 32))
    each.add(rates(), 4, 0.0)
    finish(each)
    assert column(each, "cached_tokens") == [32, 16, 0, 32]
    assert column(each, "first_at") == [1.0, 12.0, 25.0, 30.125]


def test_a_prompt_has_one_token_of_each_step_even_where_those_that_decode_fill_it() -> None:
    each = plane((0.0, 2, 9), (0.5, 1, 1))
    each.add(rates(chunk_tokens=1), 4, 0.0)
    finish(each)
    assert column(each, "first_at") == [0.25, 1.625]  # one step of 1.125 s


def test_with_a_queue_a_replica_of_concurrency_one_takes_the_next_when_it_has_ended_one() -> None:
    each = plane((0.0, 8, 2), (0.5, 8, 2), (0.75, 8, 2))
    each.add(rates(), 1, 0.0)
    each.advance(1.0)
    assert each.counts() == (2, 1, 1, 0, 3, 0, 0, 1)
    finish(each)
    assert column(each, "started_at") == [0.0, 2.0, 4.0]
    assert column(each, "done_at") == [2.0, 4.0, 6.0]


def test_with_a_queue_the_replica_with_the_fewest_takes_the_next_and_of_equals_the_first() -> None:
    each = plane(*[(0.0, 8, 9)] * 7)
    for concurrency in (2, 1, 3):
        each.add(rates(), concurrency, -1.0)
    each.advance(0.0)
    assert column(each, "slot") == [0, 1, 2, 0, 2, 2, -1]
    finish(each)
    assert each.counts().served == 7


def test_balanced_requests_go_to_the_replica_that_has_the_fewest_and_wait_there() -> None:
    each = plane(*[(0.0, 8, 2)] * 5, dispatch="balance")
    for _ in range(2):
        each.add(rates(), 1, -1.0)
    each.advance(0.5)
    assert column(each, "slot") == [0, 1, 0, 1, 0]
    assert each.counts() == (0, 5, 2, 3, 5, 0, 0, 0)
    each.add(rates(), 1, 0.5)  # too late for those that are sent
    finish(each)
    assert column(each, "slot") == [0, 1, 0, 1, 0]
    assert column(each, "started_at") == [0.0] * 5
    assert column(each, "done_at") == [2.0, 2.0, 4.0, 4.0, 6.0]


def test_a_replica_that_ends_a_request_at_a_moment_is_free_for_one_that_comes_then() -> None:
    each = plane((0.0, 8, 9), (0.0, 8, 2), (2.0, 8, 2), dispatch="balance")
    for _ in range(2):
        each.add(rates(), 1, -1.0)
    finish(each)
    assert column(each, "slot") == [0, 1, 1]


def test_balanced_requests_are_held_while_no_replica_is_ready() -> None:
    each = plane((0.0, 8, 2), (1.0, 8, 2), dispatch="balance", timeout_s=5.5)
    each.advance(5.0)
    assert each.counts().waiting == 2
    finish(each, 6.0)
    assert column(each, "state") == [TIMED_OUT, IN_FLIGHT]
    each.add(rates(), 4, 6.25)
    finish(each)
    assert column(each, "started_at") == [None, 6.25]


def test_balanced_requests_that_may_not_wait_find_no_replica() -> None:
    each = plane((0.0, 8, 2), (2.0, 8, 2), dispatch="balance", timeout_s=0.0)
    each.advance(1.0)
    each.add(rates(), 4, 1.0)
    finish(each)
    assert column(each, "state") == [NO_REPLICA, SERVED]


def test_a_draining_replica_ends_what_it_has_and_is_told_of() -> None:
    each = plane((0.0, 8, 3), (0.5, 8, 3))
    slot = each.add(rates(), 1, 0.0)
    each.advance(0.75)
    each.drain(slot, 0.75)
    assert each.advance(100.0) == (3.0, slot)
    assert each.advance(100.0) == (100.0, -1)
    assert column(each, "state") == [SERVED, IN_FLIGHT]
    assert each.counts()[:4] == (1, 0, 0, 0)
    assert each.kill(slot, 100.0) == 0
    assert each.add(rates(), 1, 100.0) == 1  # a slot is never used again
    finish(each)
    assert column(each, "started_at") == [0.0, 100.0]


def test_a_replica_that_is_drained_while_it_has_nothing_is_told_of_at_once() -> None:
    each = plane((5.0, 8, 3))
    slot = each.add(rates(), 1, 0.0)
    each.drain(slot, 1.0)
    each.drain(slot, 1.0)
    assert each.advance(9.0) == (1.0, slot)
    assert each.advance(9.0) == (9.0, -1)
    assert each.counts().waiting == 1
    other = each.add(rates(), 1, 20.0)
    each.advance(30.0)
    each.drain(other, 30.0)
    each.kill(other, 30.0)
    assert each.advance(31.0) == (31.0, -1)  # who kills it knows


def test_draining_replicas_that_end_before_another_change_are_not_forgotten() -> None:
    each = plane((0.0, 8, 3))
    slot = each.add(rates(), 1, 0.0)
    each.advance(0.0)
    each.drain(slot, 0.0)
    each.add(rates(), 1, 50.0)
    assert each.advance(60.0) == (50.0, slot)


def test_what_is_cut_off_is_lost_where_nobody_runs_it_again() -> None:
    each = plane((0.0, 8, 9), (0.5, 7, 9), (1.0, 8, 9), (2.5, 8, 9))
    slot = each.add(rates(), 3, 0.0)
    each.advance(3.0)
    assert each.kill(slot, 3.0) == 3
    assert each.kill(slot, 3.0) == 0
    assert column(each, "state") == [LOST, LOST, LOST, IN_FLIGHT]
    assert column(each, "first_at") == [1.0, 2.875, None, None]
    assert column(each, "done_at") == [None] * 4
    counts = each.counts()
    assert (counts.rejected, counts.waiting, counts.pending) == (3, 1, 0)
    assert column(each, "completion_tokens") == [2, 1, 0, 0]
    assert counts.tokens == 3
    assert sum(column(each, "work_s")) == pytest.approx(3.0)
    assert each.busy_s().tolist() == [3.0]


def test_what_is_cut_off_comes_back_before_the_others_when_its_lease_has_run_out() -> None:
    each = plane((0.0, 8, 9), (0.0, 8, 9), (1.0, 8, 2), (2.0, 8, 2), retries=True, lease_s=4.0)
    first = each.add(rates(), 2, 0.0)
    each.advance(3.0)
    assert each.kill(first, 3.0) == 2
    assert each.counts() == (2, 2, 0, 0, 4, 0, 0, 2)
    second = each.add(rates(), 1, 6.5)  # takes the third; when that has ended the first two are back, since 7.0
    finish(each)
    assert column(each, "started_at") == [8.5, 17.5, 6.5, 26.5]
    assert column(each, "first_at") == [9.5, 18.5, 7.5, 27.5]
    assert column(each, "done_at") == [17.5, 26.5, 8.5, 28.5]
    assert column(each, "attempts") == [2, 2, 1, 1]
    assert column(each, "slot") == [second] * 4
    assert column(each, "completion_tokens") == [9, 9, 2, 2]


def test_what_is_cut_off_together_comes_back_in_the_order_of_arrival() -> None:
    each = plane((0.0, 8, 99), (0.0, 7, 20), retries=True, lease_s=1.0)
    each.add(rates(), 2, 0.0)
    each.advance(4.0)  # both decode; the second would end first
    each.kill(0, 4.0)
    each.add(rates(), 1, 4.5)
    finish(each)
    assert column(each, "started_at") == [5.0, 104.0]


def test_a_balanced_request_that_was_cut_off_is_sent_to_another() -> None:
    each = plane((0.0, 24, 9, 16), dispatch="balance", retries=True, lease_s=4.0)
    each.add(rates(), 2, 0.0)
    other = each.add(rates(), 2, 0.0)
    each.advance(3.0)
    assert (column(each, "cached_tokens"), column(each, "completion_tokens")) == ([16], [3])
    each.kill(0, 3.0)
    assert each.counts()[:4] == (0, 1, 0, 0)
    assert (column(each, "cached_tokens"), column(each, "completion_tokens")) == ([0], [0])
    finish(each)
    assert (column(each, "started_at"), column(each, "slot"), column(each, "attempts")) == ([7.0], [other], [2])


def test_who_waits_too_long_is_rejected_and_who_comes_back_waits_anew() -> None:
    each = plane((0.0, 8, 9), (1.0, 8, 9), timeout_s=3.0, retries=True, lease_s=1.0)
    slot = each.add(rates(), 1, 0.0)
    each.advance(3.5)
    each.kill(slot, 3.5)
    each.advance(7.25)
    assert column(each, "state") == [IN_FLIGHT, TIMED_OUT]  # the second at 4.0
    each.advance(7.5)
    assert column(each, "state") == [TIMED_OUT, TIMED_OUT]
    assert each.counts() == (0, 0, 0, 0, 2, 0, 2, 3)


def test_who_gets_a_replica_at_the_last_moment_is_served() -> None:
    each = plane((0.0, 8, 2), (0.0, 8, 2), timeout_s=2.0)
    each.add(rates(), 1, 0.0)
    finish(each)
    assert column(each, "state") == [SERVED, SERVED]  # the place is free at 2.0, the wait over at 2.0


def test_a_prompt_as_long_as_the_model_takes_is_too_long_and_answers_end_at_its_length() -> None:
    each = plane((0.0, 16, 5), (0.0, 15, 5), (0.0, 12, 3), (0.0, 12, 9), max_model_len=16)
    each.add(rates(), 4, 0.0)
    finish(each)
    assert column(each, "state") == [TOO_LONG, SERVED, SERVED, SERVED]
    assert column(each, "completion_tokens") == [0, 1, 3, 4]
    assert (column(each, "started_at")[0], column(each, "attempts")[0], column(each, "slot")[0]) == (None, 0, -1)


def test_a_prompt_that_does_not_fit_the_cache_at_all_is_too_long() -> None:
    each = plane((0.0, 30, 5), (0.0, 29, 5))
    each.add(rates(kv_tokens=30), 4, 0.0)
    finish(each)
    assert column(each, "state") == [TOO_LONG, SERVED]
    assert column(each, "completion_tokens") == [0, 1]


def test_the_engine_lets_in_what_fits_its_cache_in_the_order_of_coming() -> None:
    each = plane((0.0, 8, 5), (0.0, 16, 4), (0.0, 1, 1))
    each.add(rates(kv_tokens=20), 4, 0.0)
    each.advance(2.0)
    assert each.counts()[:4] == (0, 3, 1, 2)  # 13 are set aside; 20 more do not fit; the small one waits behind
    assert each.kv_usage() == (8 + 2) / 20
    each.advance(6.0)
    assert each.kv_usage() == 8 / 20  # one second of a prompt
    finish(each)
    assert column(each, "first_at") == [1.0, 7.0, 10.125]
    assert each.kv_usage() == 0.0


def test_the_table_of_steps_limits_the_engine_whatever_the_concurrency() -> None:
    each = plane((0.0, 8, 9), (0.0, 8, 9))
    each.add(rates(step_s=np.array([0.0, 1.0])), 8, 0.0)
    each.advance(2.5)
    assert each.counts()[:4] == (0, 2, 1, 1)
    finish(each)
    assert column(each, "done_at") == [9.0, 18.0]


def test_counts_of_tokens_grow_within_an_answer() -> None:
    each = plane((0.0, 8, 9))
    each.add(rates(), 1, 0.0)
    seen = []
    for when in (0.5, 1.0, 1.5, 2.0, 2.5, 9.0, 10.0):
        each.advance(when)
        seen.append(each.counts().tokens)
    assert seen == [0, 1, 1, 2, 2, 9, 9]


def test_looking_changes_nothing() -> None:
    rows = [(0.1 * i, 7 + i, 3 + i % 4) for i in range(30)]
    looked, left = plane(*rows), plane(*rows)
    for each in (looked, left):
        each.add(rates(step_s_per_kv_token=0.001), 4, 0.0)
    for i in range(100):
        looked.advance(0.37 * i)
        for look in (looked.columns, looked.counts, looked.busy_s, looked.kv_usage):
            look()
    for each in (looked, left):
        finish(each)
    assert_same(looked.columns(), left.columns())


def test_time_does_not_go_back() -> None:
    each = plane((0.0, 8, 9))
    each.add(rates(), 1, 0.0)
    assert each.advance(5.0) == (5.0, -1)
    assert each.advance(4.0) == (5.0, -1)
    assert each.add(rates(), 1, 1.0) == 1
    assert each.busy_s().tolist() == [5.0, 0.0]


def test_many_replicas_come_and_go() -> None:
    """More than the first room for slots; what one has left in memory is the next one's."""
    each = plane(*[(float(i), 8, 2) for i in range(200)])
    for i in range(100):
        slot = each.add(rates(), 4, float(2 * i))
        assert slot == i
        each.advance(2.0 * i + 1.5)
        each.drain(slot, 2.0 * i + 1.5)
    finish(each)
    assert set(column(each, "state")) == {SERVED}
    assert len(set(column(each, "slot"))) == 100
    assert len(each._flow.ends) < 100


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"at_s": np.array([1.0, 0.0])}, "fall"), ({"prompt_tokens": np.array([1], np.int32)}, "differ in length")],
)
def test_requests_out_of_order_or_of_different_lengths_are_refused(changed: dict[str, Any], said: str) -> None:
    columns = {"at_s": np.zeros(2), **dict.fromkeys(TOKENS, np.ones(2, np.int32)), **changed}
    with pytest.raises(ValueError, match=said):
        Plane(Requests(**columns), dispatch="queue", max_model_len=None, timeout_s=1.0, retries=False)


def test_slots_that_were_never_added_and_replicas_without_any_place_are_refused() -> None:
    each = plane((0.0, 8, 9))
    with pytest.raises(ValueError, match="slot 0 was never added"):
        each.drain(0, 0.0)
    with pytest.raises(ValueError, match="concurrency 0"):
        each.add(rates(), 0, 0.0)
    assert each.add(rates(), 1, 0.0) == 0


def test_states_are_those_of_the_result() -> None:
    names = ("SERVED", "TOO_LONG", "TIMED_OUT", "NO_REPLICA", "LOST")
    assert [getattr(sharing, name) for name in names] == [getattr(result, name) for name in names]


def test_nothing_is_compiled_for_few_requests_or_when_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plane((0.0, 8, 9))._code is sharing
    monkeypatch.setattr(serving, "WORTH_COMPILING", 0)
    monkeypatch.setenv(compiling.SWITCH, "1")
    assert plane((0.0, 8, 9))._code is sharing


def test_without_a_numba_that_can_be_imported_the_same_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WORTH_COMPILING", 0)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiling._twin.cache_clear()
    try:
        each = plane((0.0, 8, 9))
    finally:
        compiling._twin.cache_clear()
    assert each._code is sharing


def test_code_that_cannot_be_kept_is_compiled_all_the_same() -> None:
    asked = []

    def njit(function: Any = None, *, cache: bool = False, **options: bool) -> Any:
        asked.append((cache, options))
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function if function is not None else lambda each: each

    assert compiling.compiled(njit, sharing.move, {"_nrt": False}) is sharing.move
    assert asked == [(True, {"_nrt": False}), (False, {"_nrt": False})]


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name, each in left.items():
        assert (each.dtype, each.tobytes()) == (right[name].dtype, right[name].tobytes()), name
