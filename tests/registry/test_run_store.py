"""The checkpoints of a run: committed, found again, fenced off, collected, whatever fails in between."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
from checkpoint_builders import RUN, manifest_of, names, pieces_of, read_state, save, tensors_of
from structlog.testing import capture_logs

from stoker.base.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from stoker.registry import heads
from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import MOMENTS, Fenced, Lease, NoneWhole, RunStore
from stoker.registry.shards import Damaged
from stoker.testing.stores import MemoryStore


class Died(BaseException):
    """The process is gone: nothing may catch it."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def open_run(store: MemoryStore, writer: str = "a") -> RunStore:
    return RunStore(store, RUN, writer=writer)


def newest(store: MemoryStore) -> int | None:
    """The step of the newest that is whole, by the state that was read."""
    runs = open_run(store, "reader")
    state: dict[str, bytes] = {}

    def use(manifest: Manifest) -> None:
        state.clear()
        state.update(read_state(runs, manifest))

    found, _ = runs.newest_whole(use)
    if found is None:
        return None
    assert state == tensors_of(found.step)
    return found.step


def checkpoints(store: MemoryStore) -> list[str]:
    return sorted({key.split("/")[1] for key in store.objects if key.startswith("checkpoints/")})


class TestCommit:
    def test_a_run_that_never_began_has_none(self, store: MemoryStore) -> None:
        runs = open_run(store)
        assert runs.head() is None
        assert runs.newest_whole(lambda _: None) == (None, [])
        assert store.objects == {}

    def test_a_run_that_has_begun_and_saved_nothing_has_none(self, store: MemoryStore) -> None:
        lease = open_run(store).claim()
        assert (lease.epoch, lease.head.sequence) == (1, 1)
        assert open_run(store).newest_whole(lambda _: None) == (None, [])

    def test_checkpoints_without_a_head_are_no_run_that_never_began(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10)
        save(runs, lease, 20)
        del store.objects["HEAD"], store.objects["HEAD.copy"]
        before = dict(store.objects)

        for ask in (open_run(store).claim, open_run(store).head, partial(newest, store)):
            with pytest.raises(NoneWhole) as refused:
                ask()
            assert refused.value.message == (
                "memory://test/HEAD and its copy are gone, and 2 checkpoints of the run tune are there, the newest "
                "s00000020-e0001-0"
            )
            assert "--fresh" in str(refused.value.hint)
        assert store.objects == before

    def test_shards_without_a_manifest_and_a_head_are_no_checkpoint(self, store: MemoryStore) -> None:
        store.put("checkpoints/s00000010-e0001-0/shard-00000.safetensors", [b"x"])
        assert open_run(store).head() is None
        assert open_run(store).claim().epoch == 1

    def test_a_run_that_others_begin_and_save_between_two_looks_has_a_head(self, store: MemoryStore) -> None:
        def begin(operation: str, key: str) -> None:
            if (operation, key) == ("list", "checkpoints/"):
                store.before = lambda *_: None
                save(open_run(store, "b"), open_run(store, "b").claim(), 10)

        store.before = begin
        assert open_run(store).claim().epoch == 2
        assert newest(store) == 10

    def test_what_was_committed_is_found_by_whoever_looks(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10, world=2)
        lease = save(runs, lease, 20, world=3, parent=names(lease)[-1])

        assert newest(store) == 20
        assert names(lease) == ["s00000010-e0001-0", "s00000020-e0001-0"]
        assert store.objects["HEAD"] == store.objects["HEAD.copy"] == heads.to_bytes(lease.head)

    def test_the_order_is_shards_manifest_head_copy_and_then_what_is_not_kept(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10)
        done: list[str] = []
        store.after = lambda operation, key: done.append(f"{operation} {key}") if operation != "read" else None

        save(runs, lease, 20, keep=Keep(last=1, best=0))

        new, old = "checkpoints/s00000020-e0001-0/", "checkpoints/s00000010-e0001-0/"
        assert done == [
            f"put {new}shard-00000.safetensors",
            f"stat {new}shard-00000.safetensors",
            f"put {new}manifest.json",
            "put HEAD",
            "put HEAD.copy",
            f"list {old}",
            f"delete {old}manifest.json",
            f"delete {old}shard-00000.safetensors",
        ]

    def test_the_validation_loss_decides_which_one_is_the_best(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = runs.claim()
        for step, loss in ((10, 0.5), (20, float("nan")), (30, 0.7), (40, None)):
            lease = save(runs, lease, step, keep=Keep(last=1, best=1), loss=loss)
        assert checkpoints(store) == names(lease) == ["s00000010-e0001-0", "s00000040-e0001-0"]

    def test_a_shard_that_is_not_there_cannot_be_committed(self, store: MemoryStore) -> None:
        """A rank died, and nobody has told the committer."""
        runs = open_run(store)
        lease = runs.claim()
        shards = [runs.write("s00000010-e0001-0", f"{rank}", pieces_of(10, rank, 2), timeout_s=1) for rank in (0, 1)]
        del store.objects["checkpoints/s00000010-e0001-0/1"]

        with pytest.raises(Conflict, match=r"s00000010-e0001-0 cannot be committed: .*/1 is missing"):
            runs.commit(lease, manifest_of(lease, 10, shards), Keep())
        assert newest(store) is None

    def test_a_manifest_of_another_run_or_epoch_is_a_mistake(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = runs.claim()
        for wrong in ({"run": "other"}, {"epoch": 2}):
            with pytest.raises(ValueError, match="the lease is of tune and 1"):
                runs.commit(lease, replace(manifest_of(lease, 10, []), **wrong), Keep())  # type: ignore[arg-type]

    def test_a_name_that_was_used_for_something_else_is_refused(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = runs.claim()
        done = save(runs, lease, 10)
        shards = runs.manifest(done.head.entries[0]).shards
        with pytest.raises(Conflict, match="count the attempt in its name"):
            runs.commit(done, manifest_of(done, 10, shards, note="another"), Keep())

    def test_committed_twice_is_committed_once(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = runs.claim()
        done = save(runs, lease, 10)
        again = save(runs, lease, 10)
        assert again == done == save(runs, done, 10)

    def test_two_runs_in_one_place_are_refused(self, store: MemoryStore) -> None:
        open_run(store).claim()
        with pytest.raises(Conflict, match="is of the run tune, and this one is other"):
            RunStore(store, "other").claim()
        with pytest.raises(InvalidInput, match="the name of a run"):
            RunStore(store, "../tune")

    def test_a_name_or_key_that_leaves_its_place_is_a_mistake(self, store: MemoryStore) -> None:
        runs = open_run(store)
        for name, key in (("..", "a"), ("a/b", "a"), ("a", "../a"), ("a", "/a"), ("a", "manifest.json")):
            with pytest.raises(ValueError, match="must be"):
                runs.write(name, key, [], timeout_s=1)
        assert store.objects == {}


def failing_at(nth: int, error: BaseException, *, happens: bool) -> tuple[MemoryStore, Callable[[], int]]:
    """A store whose nth call fails, before it did anything or after."""
    calls = itertools.count(1)
    seen = [0]

    def hook(operation: str, key: str) -> None:
        seen[0] = next(calls)
        if seen[0] == nth:
            raise error

    store = MemoryStore()
    if happens:
        store.after = hook
    else:
        store.before = hook
    return store, lambda: seen[0]


def quiet(store: MemoryStore) -> MemoryStore:
    store.before = store.after = lambda operation, key: None
    return store


def a_run(store: MemoryStore) -> Lease:
    runs = open_run(store)
    lease = runs.claim()
    for step in (10, 20, 30):
        lease = save(runs, lease, step, keep=Keep(last=2, best=0), world=2)
    return lease


def every_call(happens: bool) -> int:
    store, count = failing_at(10**9, Died(), happens=happens)
    a_run(store)
    return count()


class TestDying:
    @pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
    def test_at_any_call_of_the_store_the_last_commit_is_found_and_the_run_goes_on(self, happens: bool) -> None:
        for nth in range(1, every_call(happens) + 1):
            store, _ = failing_at(nth, Died(), happens=happens)
            with pytest.raises(Died):
                a_run(store)
            quiet(store)
            was = runs_head(store)

            step = newest(store)
            runs = open_run(store, "b")
            lease = runs.claim()
            runs.collect(lease)

            assert step == (was.entries[-1].step if was and was.entries else None)
            assert newest(store) == step
            assert checkpoints(store) == names(lease)
            assert newest(store) == step
            save(runs, lease, (step or 0) + 10)
            assert newest(store) == (step or 0) + 10

    @pytest.mark.parametrize("moment", MOMENTS)
    def test_at_each_moment_that_has_a_name(self, store: MemoryStore, moment: str) -> None:
        keep = Keep(last=1, best=0)
        lease = save(open_run(store), open_run(store).claim(), 10, keep=keep)

        def crash(at: str) -> None:
            if at == moment:
                raise Died

        with pytest.raises(Died):
            save(RunStore(store, RUN, crash=crash), lease, 20, keep=keep)

        assert newest(store) == {"shard": 10, "manifest": 10, "head": 10, "copy": 20, "collect": 20}[moment]
        assert "checkpoints/s00000010-e0001-0/manifest.json" in store.objects, "deleted only after the last moment"


def runs_head(store: MemoryStore) -> heads.Head | None:
    return heads.from_bytes(store.objects["HEAD"]) if "HEAD" in store.objects else None


class TestAnswersThatAreLost:
    @pytest.mark.parametrize("is_strict", [False, True])
    @pytest.mark.parametrize("happens", [False, True], ids=["before", "after"])
    def test_whatever_call_fails_the_same_commit_again_is_committed_once(self, happens: bool, is_strict: bool) -> None:
        """A writer that tries again until it hears of success, whichever of its calls fails."""
        for nth in range(1, every_call(happens) + 1):
            store, _ = failing_at(nth, Unavailable("503"), happens=happens)
            store.is_strict = is_strict
            runs = open_run(store)
            lease = until_it_works(runs.claim)
            for step in (10, 20, 30):
                lease = until_it_works(partial(save, runs, lease, step, keep=Keep(last=2, best=0)))

            assert [entry.step for entry in lease.head.entries] == [20, 30]
            assert runs_head(store) == lease.head
            assert newest(quiet(store)) == 30

    def test_a_copy_that_cannot_be_written_is_no_failure_and_keeps_what_it_names(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10, keep=Keep(last=1, best=0))

        def refuse(operation: str, key: str) -> None:
            if (operation, key) == ("put", "HEAD.copy"):
                raise Unavailable("503")

        store.before = refuse
        with capture_logs() as logs:
            lease = save(runs, lease, 20, keep=Keep(last=1, best=0))

        assert [each["event"] for each in logs] == ["HEAD.copy could not be written"]
        assert names(lease) == ["s00000020-e0001-0"]
        assert checkpoints(store) == ["s00000010-e0001-0", "s00000020-e0001-0"], "HEAD.copy names the first"
        assert runs.collect(lease) == []
        quiet(store)
        assert runs.collect(lease) == ["s00000010-e0001-0"]
        assert store.objects["HEAD"] == store.objects["HEAD.copy"]

    def test_what_cannot_be_deleted_is_no_failure_and_collected_later(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10, keep=Keep(last=1, best=0))

        def refuse(operation: str, key: str) -> None:
            if operation == "delete":
                raise NotPermitted("no right to delete")

        store.before = refuse
        lease = save(runs, lease, 20, keep=Keep(last=1, best=0))
        assert checkpoints(store) == ["s00000010-e0001-0", "s00000020-e0001-0"]
        quiet(store)
        assert runs.collect(lease) == ["s00000010-e0001-0"]


T = TypeVar("T")


def until_it_works(act: Callable[[], T]) -> T:
    for _ in range(3):
        try:
            return act()
        except Unavailable:
            continue
    raise AssertionError("it never worked")


class TestTwoWriters:
    def test_the_elder_one_is_fenced_off_and_changes_nothing(self, store: MemoryStore) -> None:
        elder, younger = open_run(store, "a"), open_run(store, "b")
        old = save(elder, elder.claim(), 10)
        new = younger.claim()
        before = dict(store.objects)

        with pytest.raises(Fenced, match="HEAD has epoch 2, this one 1"):
            save(elder, old, 20)
        with pytest.raises(Fenced):
            elder.collect(old)

        assert {key: data for key, data in store.objects.items() if "s00000020" not in key} == before
        assert younger.collect(new) == ["s00000020-e0001-0"]
        assert names(save(younger, new, 20)) == ["s00000010-e0001-0", "s00000020-e0002-0"]

    def test_what_a_younger_one_is_making_is_left_alone(self, store: MemoryStore) -> None:
        elder, younger = open_run(store, "a"), open_run(store, "b")
        old = save(elder, elder.claim(), 10)
        listed = store.list

        def younger_begins(prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[object]:
            found = list(listed(prefix))
            store.list = listed  # type: ignore[method-assign]
            new = younger.claim()
            younger.write(name_of(20, new.epoch), "0", pieces_of(20, 0, 1), timeout_s=1)
            return iter(found)

        store.list = younger_begins  # type: ignore[assignment, method-assign]
        with pytest.raises(Fenced):
            elder.collect(old)
        assert checkpoints(store) == ["s00000010-e0001-0", "s00000020-e0002-0"]

    def test_a_run_whose_place_was_moved_away_fences_its_writer(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10)
        store.objects.clear()
        with pytest.raises(Fenced, match="moved away or deleted"):
            save(runs, lease, 20)

    def test_two_claims_of_one_run_store_fence_each_other(self, store: MemoryStore) -> None:
        runs = open_run(store)
        first = runs.claim()
        second = runs.claim()
        with pytest.raises(Fenced):
            save(runs, first, 10)
        save(runs, second, 10)


class TestPin:
    def test_it_is_kept_until_it_is_let_go(self, store: MemoryStore) -> None:
        runs, keep = open_run(store), Keep(last=1, best=0)
        lease = save(runs, runs.claim(), 10, keep=keep)
        open_run(store, "person").pin("s00000010-e0001-0")

        lease = save(runs, lease, 20, keep=keep)
        assert names(lease) == checkpoints(store) == ["s00000010-e0001-0", "s00000020-e0001-0"]

        open_run(store, "person").pin("s00000010-e0001-0", False)
        lease = save(runs, lease, 30, keep=keep)
        assert names(lease) == checkpoints(store) == ["s00000030-e0001-0"]

    def test_it_does_not_fence_and_twice_is_once(self, store: MemoryStore) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        runs.pin("s00000010-e0001-0")
        sequence = heads.from_bytes(store.objects["HEAD"]).sequence
        runs.pin("s00000010-e0001-0")
        found = heads.from_bytes(store.objects["HEAD"])
        assert (found.epoch, found.sequence, found.entries[0].pinned) == (1, sequence, True)

    def test_what_is_not_there_is_named_with_what_is(self, store: MemoryStore) -> None:
        runs = open_run(store)
        with pytest.raises(NotFound, match="it has: none"):
            runs.pin("s00000011-e0001-0")
        save(runs, runs.claim(), 10)
        with pytest.raises(NotFound, match="tune has no checkpoint s00000011-e0001-0; it has: s00000010-e0001-0"):
            runs.pin("s00000011-e0001-0")


class TestFallback:
    def test_the_newest_that_is_whole_is_used_and_those_before_it_are_named_with_the_reason(
        self, store: MemoryStore
    ) -> None:
        runs = open_run(store)
        lease = runs.claim()
        for step in (10, 20, 30):
            lease = save(runs, lease, step)
        store.objects["checkpoints/s00000030-e0001-0/manifest.json"] += b" "
        del store.objects["checkpoints/s00000020-e0001-0/shard-00000.safetensors"]

        with capture_logs() as logs:
            found, skipped = runs.newest_whole(lambda manifest: reads(runs, manifest))

        assert found is not None
        assert found.step == 10
        assert [(each.name, each.step) for each in skipped] == [("s00000030-e0001-0", 30), ("s00000020-e0001-0", 20)]
        assert "not the one that HEAD names" in skipped[0].why
        assert "is missing" in skipped[1].why
        assert [each["checkpoint"] for each in logs] == ["s00000030-e0001-0", "s00000020-e0001-0"]

    def test_the_run_goes_on_from_there_and_lets_go_of_what_was_damaged(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = runs.claim()
        for step in (10, 20):
            lease = save(runs, lease, step)
        del store.objects["checkpoints/s00000020-e0001-0/shard-00000.safetensors"]

        lease = runs.claim()
        found, _ = runs.newest_whole(lambda manifest: reads(runs, manifest), head=lease.head)
        assert found is not None
        lease = save(runs, lease, 15, parent=found.name)

        assert names(lease) == checkpoints(store) == ["s00000010-e0001-0", "s00000015-e0002-0"]
        assert newest(store) == 15

    def test_none_that_is_whole_is_never_taken_for_none(self, store: MemoryStore) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        del store.objects["checkpoints/s00000010-e0001-0/manifest.json"]
        with pytest.raises(NoneWhole, match=r"none of them is whole: s00000010-e0001-0: its manifest is missing"):
            runs.newest_whole(lambda _: None)

    @pytest.mark.parametrize("error", [Unavailable("503"), NotPermitted("expired")])
    def test_what_cannot_be_read_now_is_not_skipped(self, store: MemoryStore, error: Exception) -> None:
        runs = open_run(store)
        lease = runs.claim()
        for step in (10, 20):
            lease = save(runs, lease, step)

        def fail(operation: str, key: str) -> None:
            if "s00000020" in key:
                raise error

        store.before = fail
        with pytest.raises(type(error)):
            runs.newest_whole(lambda manifest: reads(runs, manifest))

    def test_a_manifest_of_another_step_is_not_used(self, store: MemoryStore) -> None:
        """Even by one who could write HEAD as well, it has to be the manifest of that checkpoint."""
        runs = open_run(store)
        lease = save(runs, save(runs, runs.claim(), 10), 20)
        first, second = lease.head.entries
        forged = replace(lease.head, entries=(first, replace(second, sha256=first.sha256)))
        store.objects["HEAD"] = heads.to_bytes(forged)
        key = "checkpoints/{}/manifest.json"
        store.objects[key.format(second.name)] = store.objects[key.format(first.name)]

        found, skipped = runs.newest_whole(lambda manifest: reads(runs, manifest))
        assert found is not None
        assert (found.step, skipped[0].why) == (10, "its manifest is of tune s00000010-e0001-0, step 10")

    def test_a_reader_whose_head_is_old_looks_again(self, store: MemoryStore) -> None:
        runs, keep = open_run(store), Keep(last=1, best=0)
        lease = save(runs, runs.claim(), 10)
        runs.pin("s00000010-e0001-0")
        lease = save(runs, lease, 20, keep=keep)
        leases = [lease]

        def use(manifest: Manifest) -> None:
            if len(leases) == 1:  # while somebody reads step 20, the run goes on
                leases.append(save(runs, lease, 30, keep=keep))
            reads(runs, manifest)

        found, skipped = open_run(store, "reader").newest_whole(use)
        assert found is not None
        assert (found.step, skipped) == (30, []), "not the pinned step 10"


def reads(runs: RunStore, manifest: Manifest) -> None:
    if read_state(runs, manifest) != tensors_of(manifest.step):
        raise AssertionError("silently wrong")


class TestDamagedHead:
    @pytest.mark.parametrize("garbage", [b"", b"{}", b"\x80\x04.", None], ids=["empty", "object", "pickle", "gone"])
    def test_the_copy_is_used_and_the_next_claim_repairs_it(self, store: MemoryStore, garbage: bytes | None) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        del store.objects["HEAD"]
        if garbage is not None:
            store.objects["HEAD"] = garbage

        with capture_logs() as logs:
            assert newest(store) == 10
        assert logs[0]["event"] == "HEAD cannot be used; HEAD.copy is"
        runs = open_run(store, "b")
        lease = runs.claim()
        assert lease.epoch == 2
        assert heads.from_bytes(store.objects["HEAD"]) == lease.head
        save(runs, lease, 20)
        assert newest(store) == 20

    def test_an_epoch_is_never_used_twice_although_the_copy_lags_behind(self, store: MemoryStore) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        copy = store.objects["HEAD.copy"]
        lease = save(runs, runs.claim(), 20)
        assert lease.epoch == 2
        store.objects |= {"HEAD": b"garbage", "HEAD.copy": copy}

        assert open_run(store, "b").claim().epoch == 3

    def test_a_writer_at_work_repairs_it_with_what_it_knows(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10)
        copy = store.objects["HEAD.copy"]
        lease = save(runs, lease, 20)
        store.objects |= {"HEAD": b"garbage", "HEAD.copy": copy}

        lease = save(runs, lease, 30)
        assert [entry.step for entry in lease.head.entries] == [10, 20, 30]
        assert newest(store) == 30

    def test_one_with_the_same_epoch_by_a_damaged_head_is_told_apart(self, store: MemoryStore) -> None:
        """Nobody has written anything in epoch 2 when its HEAD is lost, so the next claim is epoch 2 again."""
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        copy = store.objects["HEAD.copy"]
        elder = open_run(store, "elder")
        old = elder.claim()
        store.objects |= {"HEAD": b"garbage", "HEAD.copy": copy}
        younger = open_run(store, "younger")
        new = younger.claim()
        assert old.epoch == new.epoch == 2

        with pytest.raises(Fenced):
            save(elder, old, 20)
        save(younger, new, 30)

    def test_nothing_is_collected_meanwhile(self, store: MemoryStore) -> None:
        runs = open_run(store)
        lease = save(runs, runs.claim(), 10)
        lease = save(runs, runs.claim(), 20)
        runs.write(name_of(5, 1), "0", [], timeout_s=1)
        store.objects["HEAD"] = b"garbage"
        assert runs.collect(lease) == []
        assert len(checkpoints(store)) == 3
        with pytest.raises(Conflict, match=r"is damaged"):
            runs.pin(name_of(10, 1))

    def test_both_damaged_is_none_whole(self, store: MemoryStore) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        store.objects |= {"HEAD": b"garbage", "HEAD.copy": b"garbage"}
        for act in (runs.head, runs.claim, lambda: runs.newest_whole(lambda _: None)):
            with pytest.raises(NoneWhole, match=r"HEAD is damaged.*HEAD.copy is damaged, too"):
                act()

    def test_a_head_of_gigabytes_is_damaged(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        runs = open_run(store)
        save(runs, runs.claim(), 10)
        monkeypatch.setattr(heads, "MOST_BYTES", 4096)
        store.objects["HEAD"] = b" " * 5000
        assert newest(store) == 10
        store.objects["HEAD.copy"] = b" " * 5000
        with pytest.raises(NoneWhole, match="4096 is the most"):
            runs.head()


def test_a_use_that_says_damaged_is_a_fallback(store: MemoryStore) -> None:
    runs = open_run(store)
    save(runs, save(runs, runs.claim(), 10), 20)

    def use(manifest: Manifest) -> None:
        if manifest.step == 20:
            raise Damaged("it is of another model")

    found, skipped = runs.newest_whole(use)
    assert found is not None
    assert (found.step, [each.why for each in skipped]) == (10, ["it is of another model"])
