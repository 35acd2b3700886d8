"""HEAD after each event, what retention keeps, and what is loose; all of it pure."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.registry.heads import (
    Entry,
    Head,
    Keep,
    claimed,
    committed,
    dropped,
    from_bytes,
    loose,
    pinned,
    to_bytes,
)
from stoker.registry.manifests import name_of
from stoker.registry.shards import Damaged


def entry(step: int, loss: float | None = None, *, epoch: int = 1, is_pinned: bool = False) -> Entry:
    return Entry(name_of(step, epoch), step, "ab" * 32, 1000, 1_700_000_000.0, loss, is_pinned)


def head(*entries: Entry, epoch: int = 1) -> Head:
    return Head("tune", epoch, 7, entries, "writer_1")


def steps(entries: Any) -> list[int]:
    return [each.step for each in entries]


def test_each_claim_is_an_epoch_and_every_change_counts() -> None:
    first = claimed(None, "tune", "a")
    second = claimed(first, "tune", "b")

    assert first == Head("tune", 1, 1, (), "a")
    assert second == Head("tune", 2, 2, (), "b")
    assert not second.is_of(first)


class TestRetention:
    def test_the_last_are_kept_and_the_newest_always(self) -> None:
        moved, gone = committed(head(entry(10), entry(20), entry(30)), entry(40), Keep(last=2, best=0))
        assert (steps(moved.entries), steps(gone)) == ([30, 40], [10, 20])
        assert moved.sequence == 8

        moved, gone = committed(moved, entry(50), Keep(last=1, best=0))
        assert (steps(moved.entries), steps(gone)) == ([50], [30, 40])

    def test_one_of_every_so_many_steps_is_kept(self) -> None:
        entries = [entry(step) for step in (10, 20, 25, 30, 40, 50)]
        assert steps(dropped(head(*entries), Keep(last=1, every=20, best=0))) == [10, 25, 30]

    def test_the_best_is_kept_and_no_number_is_never_the_best(self) -> None:
        entries = [entry(10, 1.5), entry(20, math.nan), entry(30, -math.inf), entry(40, 2.0), entry(50)]
        assert steps(dropped(head(*entries), Keep(last=1, best=1))) == [20, 30, 40]
        assert steps(dropped(head(*entries), Keep(last=1, best=2))) == [20, 30]

    def test_of_equal_losses_the_first_is_the_best(self) -> None:
        assert steps(dropped(head(entry(10, 1.0), entry(20, 1.0), entry(30)), Keep(last=1, best=1))) == [20]

    def test_what_is_pinned_is_kept(self) -> None:
        pin = pinned(head(entry(10), entry(20), entry(30)), name_of(10, 1), True)
        assert (pin.sequence, pin.epoch) == (8, 1)
        assert steps(dropped(pin, Keep(last=1, best=0))) == [20]
        assert steps(dropped(pinned(pin, name_of(10, 1), False), Keep(last=1, best=0))) == [10, 20]
        with pytest.raises(KeyError):
            pinned(pin, name_of(11, 1), True)

    def test_none_at_all_is_not_possible(self) -> None:
        with pytest.raises(ValueError, match="last is 0"):
            dropped(head(entry(1)), Keep(last=0))

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.tuples(st.none() | st.floats(), st.booleans()), min_size=1, max_size=8),
        st.integers(1, 4),
        st.none() | st.integers(1, 4),
        st.integers(0, 3),
    )
    def test_newest_pinned_and_the_best_finite_one_are_never_dropped(
        self, entries: list[tuple[float | None, bool]], last: int, every: int | None, best: int
    ) -> None:
        all_of = [entry(step, loss, is_pinned=is_pinned) for step, (loss, is_pinned) in enumerate(entries, start=1)]
        gone = dropped(head(*all_of), Keep(last, every, best))

        assert all_of[-1] not in gone
        assert not any(each.pinned for each in gone)
        finite = [each.loss for each in all_of if each.loss is not None and math.isfinite(each.loss)]
        if finite and best:
            kept = [each.loss for each in all_of if each not in gone]
            assert min(finite) in kept


class TestCommitted:
    def test_a_name_is_committed_once(self) -> None:
        with pytest.raises(ValueError, match="names s00000010-e0001-0 already"):
            committed(head(entry(10)), entry(10), Keep())

    def test_a_step_does_not_go_back(self) -> None:
        with pytest.raises(ValueError, match="step 15 goes back behind step 20"):
            committed(head(entry(10), entry(20)), entry(15), Keep())

    def test_after_a_fallback_what_could_not_be_used_is_let_go_of(self) -> None:
        """Step 20 was damaged, so the run went on from 10, and saves 15."""
        before = head(entry(10), entry(20), entry(25, is_pinned=True), epoch=2)
        moved, gone = committed(before, entry(15, epoch=2), Keep(), after=name_of(10, 1))

        assert steps(moved.entries) == [10, 25, 15]
        assert steps(gone) == [20]
        with pytest.raises(ValueError, match="step 5 goes back behind step 10"):
            committed(before, entry(5, epoch=2), Keep(), after=name_of(10, 1))

    def test_a_parent_that_head_does_not_name_lets_nothing_go(self) -> None:
        moved, gone = committed(head(entry(10), entry(20)), entry(30), Keep(), after=name_of(12, 1))
        assert (steps(moved.entries), gone) == ([10, 20, 30], ())


def test_loose_is_what_nobody_will_ever_name() -> None:
    """Epoch 3 writes, and has committed step 30. It may be making 40, and epoch 4 may have begun to write."""
    now = head(entry(10, epoch=1), entry(30, epoch=3), epoch=3)
    names = [name_of(step, epoch) for epoch in (1, 2, 3, 4) for step in (10, 20, 30, 40)]

    assert loose(now, [*names, name_of(30, 3, 1), "backup-of-monday"]) == sorted(
        [name_of(step, epoch) for epoch in (1, 2) for step in (10, 20, 30, 40) if (step, epoch) != (10, 1)]
        + [name_of(10, 3), name_of(20, 3)]
    )
    assert loose(replace(now, entries=()), [name_of(10, 3)]) == [], "its first may be in the making"


class TestBytes:
    def test_it_comes_back_as_it_was(self) -> None:
        one = head(entry(10, 0.1), entry(20, is_pinned=True))
        assert from_bytes(to_bytes(one)) == one

    def test_a_loss_that_is_no_number_was_not_measured(self) -> None:
        found = from_bytes(to_bytes(head(entry(10, math.nan), entry(20, math.inf), entry(30, 1e300))))
        assert [each.loss for each in found.entries] == [None, None, 1e300]

    def test_no_flipped_bit_is_taken_for_a_head(self) -> None:
        data = to_bytes(head(entry(10, 0.25), entry(20)))
        for place in range(len(data)):
            for bit in range(8):
                spoilt = bytearray(data)
                spoilt[place] ^= 1 << bit
                with pytest.raises(Damaged):
                    from_bytes(bytes(spoilt))

    def test_no_part_of_it_is_taken_for_a_head(self) -> None:
        data = to_bytes(head(entry(10)))
        for length in range(len(data)):
            with pytest.raises(Damaged):
                from_bytes(data[:length])

    def test_a_right_digest_does_not_make_a_head_of_anything(self) -> None:
        import hashlib

        body = json.loads(to_bytes(head(entry(10))))
        del body["sha256"]
        for changes, why in [
            ({"format": "stoker-head/2"}, "reads stoker-head/1"),
            ({"epoch": -1}, "epoch must be"),
            ({"entries": [{}]}, r"entries\[0\].name is missing"),
            ({"entries": body["entries"] * 2}, "twice"),
            ({"entries": [{**body["entries"][0], "name": "../HEAD"}]}, "must be a name"),
            ({"entries": [{**body["entries"][0], "sha256": "no"}]}, "must be a sha256"),
            ({"entries": [{**body["entries"][0], "pinned": 1}]}, "true or false"),
            ({"entries": [{**body["entries"][0], "loss": "low"}]}, "must be a number"),
        ]:
            changed = {**body, **changes}
            text = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
            signed = json.dumps({**changed, "sha256": hashlib.sha256(text).hexdigest()}).encode()
            with pytest.raises(Damaged, match=why):
                from_bytes(signed)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=50))
    def test_any_bytes_are_damaged(self, data: bytes) -> None:
        with pytest.raises(Damaged):
            from_bytes(data)
