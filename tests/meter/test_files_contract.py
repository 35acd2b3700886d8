"""Files in the store, on SQLite and on PostgreSQL."""

import pytest
from meter_builders import at_once, later
from sqlalchemy import func, select

from stoker.base.errors import NotFound, StokerError, TooLarge
from stoker.meter.files import LEAST_BYTES, WRITING_S, File, FileStore
from stoker.meter.store import Store
from stoker.meter.tables import file_blocks
from stoker.meter.tenants import TenantStore
from stoker.spec import Tenant
from stoker.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def files(store: Store, clock: ManualClock) -> FileStore:
    TenantStore(store, clock).ensure({"acme": Tenant(), "other": Tenant()})
    return FileStore(store, clock)


def a_file(
    files: FileStore, *blocks: bytes, tenant: str = "acme", purpose: str = "batch", kept_s: float | None = None
) -> File:
    file_id = files.begin(tenant)
    for number, block in enumerate(blocks):
        files.append(file_id, number, block)
    return files.finish(file_id, purpose=purpose, filename="a.jsonl", expires_after_s=kept_s)


def blocks_in(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(file_blocks)).scalar_one())


def test_a_file_is_what_was_written(files: FileStore) -> None:
    made = a_file(files, b"one\n", b"\x00\xfftwo", kept_s=3600.0)
    assert made == File(made.id, "acme", "batch", "a.jsonl", 9, 1000.0, 4600.0)
    assert made.id.startswith("file-")
    assert files.get(made.id, tenant="acme") == made == files.get(made.id, tenant=None)
    assert list(files.blocks(made.id)) == [b"one\n", b"\x00\xfftwo"]


def test_an_empty_file_is_one(files: FileStore) -> None:
    made = a_file(files)
    assert (made.bytes, made.expires_at, list(files.blocks(made.id))) == (0, None, [])


def test_nobody_sees_it_before_it_is_finished(files: FileStore) -> None:
    file_id = files.begin("acme")
    files.append(file_id, 0, b"one")
    assert files.list("acme") == []
    with pytest.raises(NotFound, match=f"there is no file '{file_id}'"):
        files.get(file_id, tenant="acme")
    with pytest.raises(NotFound):
        files.delete(file_id, tenant="acme")


def test_one_that_is_finished_does_not_change_any_more(files: FileStore) -> None:
    made = a_file(files, b"one")
    with pytest.raises(NotFound, match="is not being written any more"):
        files.append(made.id, 1, b"two")
    with pytest.raises(NotFound):
        files.finish(made.id, purpose="vision", filename="b", expires_after_s=None)
    files.give_up(made.id)
    assert files.get(made.id, tenant="acme") == made


def test_a_strangers_file_is_unknown(files: FileStore) -> None:
    made = a_file(files, b"one")
    for one in (made.id, "file-nobody"):
        with pytest.raises(NotFound) as caught:
            files.get(one, tenant="other")
        assert caught.value.code == "file_not_found"
        with pytest.raises(NotFound):
            files.delete(one, tenant="other")
    assert files.list("other") == []
    assert files.get(made.id, tenant="acme") == made


def test_what_is_deleted_leaves_nothing(files: FileStore, store: Store) -> None:
    kept, gone = a_file(files, b"kept"), a_file(files, b"one", b"two")
    files.delete(gone.id, tenant="acme")
    assert files.list("acme") == [kept]
    assert blocks_in(store) == 1
    with pytest.raises(NotFound):
        files.delete(gone.id, tenant="acme")


def test_a_large_one_is_deleted_piece_by_piece(files: FileStore, store: Store) -> None:
    kept = a_file(files, b"kept")
    gone = a_file(files, *[b"x"] * 130)
    files.delete(gone.id, tenant="acme")
    assert (blocks_in(store), files.list("acme")) == (1, [kept])


def test_who_dies_while_it_deletes_leaves_the_rest_to_the_sweep(
    files: FileStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = a_file(files, b"one", b"two")
    with monkeypatch.context() as dying:
        dying.setattr(files, "_remove", lambda _: None)
        files.delete(gone.id, tenant="acme")
    assert files.list("acme") == []
    assert blocks_in(store) == 2
    assert files.sweep() == 1
    assert blocks_in(store) == 0


def test_deleted_while_it_is_read(files: FileStore) -> None:
    made = a_file(files, b"one", b"two")
    reading = files.blocks(made.id)
    assert next(reading) == b"one"
    files.delete(made.id, tenant="acme")
    with pytest.raises(NotFound):
        next(reading)


def test_lists_go_by_time_purpose_and_page(files: FileStore, clock: ManualClock) -> None:
    made = []
    for number in range(4):
        later(clock, 1)
        made.append(a_file(files, purpose="vision" if number == 2 else "batch"))
    assert files.list("acme") == made[::-1]
    assert files.list("acme", newest_first=False) == made
    assert files.list("acme", purpose="vision") == [made[2]]
    assert files.list("acme", limit=2) == [made[3], made[2]]
    assert files.list("acme", limit=2, after=made[2].id) == [made[1], made[0]]
    assert files.list("acme", after=made[1].id, newest_first=False) == [made[2], made[3]]


def test_it_is_gone_when_its_time_is_over(files: FileStore, store: Store, clock: ManualClock) -> None:
    made, other = a_file(files, b"one", kept_s=3600.0), a_file(files, b"two")
    later(clock, 3599)
    assert files.get(made.id, tenant="acme") == made
    assert files.sweep() == 0
    later(clock, 1)
    with pytest.raises(NotFound):
        files.get(made.id, tenant="acme")
    assert files.list("acme") == [other]
    assert files.sweep() == 1
    assert blocks_in(store) == 1


def test_what_its_writer_left_goes(files: FileStore, store: Store, clock: ManualClock) -> None:
    given_up, left = files.begin("acme"), files.begin("acme")
    for one in (given_up, left):
        files.append(one, 0, b"one")
    files.give_up(given_up)
    assert blocks_in(store) == 1
    later(clock, WRITING_S - 1)
    files.append(left, 1, b"two")  # it goes on
    later(clock, WRITING_S - 1)
    assert files.sweep() == 0
    later(clock, 1)
    assert files.sweep() == 1
    assert blocks_in(store) == 0
    with pytest.raises(NotFound):
        files.append(left, 2, b"three")


def test_many_are_swept_at_once(files: FileStore, clock: ManualClock) -> None:
    for _ in range(45):
        a_file(files, kept_s=1.0)
    later(clock, 1)
    assert files.sweep() == 45


def test_a_tenant_has_room_for_so_many_bytes(files: FileStore) -> None:
    most = 3 * LEAST_BYTES + 100
    a_file(files, b"x" * 60)
    a_file(files, b"x" * 1000, tenant="other")  # does not count
    file_id = files.begin("acme")
    files.append(file_id, 0, b"x" * 40 + b"y" * LEAST_BYTES, most_of_tenant=most)
    with pytest.raises(TooLarge) as caught:
        files.append(file_id, 1, b"z", most_of_tenant=most)
    assert (caught.value.code, caught.value.status) == ("files_full", 413)
    assert str(caught.value) == (
        "the files of tenant acme take 3172 bytes (1024 for each file beside what is in it), and may take 3172"
    )
    files.give_up(file_id)
    another = files.begin("acme")
    files.append(another, 0, b"z", most_of_tenant=most)


def test_uploads_at_once_do_not_pass_the_bound_together(files: FileStore) -> None:
    most = 8 * LEAST_BYTES + 5 * 100
    ids = [files.begin("acme") for _ in range(8)]
    ends = at_once([lambda one=one: files.append(one, 0, b"x" * 100, most_of_tenant=most) for one in ids])
    assert sum(isinstance(end, TooLarge) for end in ends) == 3
    assert [end for end in ends if isinstance(end, StokerError) and not isinstance(end, TooLarge)] == []
