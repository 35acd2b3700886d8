"""A folder as a store: what disks, links and other processes do to it."""

import errno
import fcntl
import multiprocessing
import os
import stat as modes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_parts import MIB, Time

from stoker.base.errors import InvalidInput, NotFound, NotPermitted, StokerError, Unavailable
from stoker.registry.folders import SMALL_BYTES, FolderStore
from stoker.registry.stores import Changed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "new" / "place"


@pytest.fixture
def folder(place: Path, time: Time) -> FolderStore:
    return FolderStore(place, clock=time, sleep=time.sleep_now)


def files(place: Path) -> list[str]:
    return sorted(str(each.relative_to(place)) for each in place.rglob("*") if each.is_file())


def failing(error: int, skip: int = 0, real: Callable[..., Any] | None = None) -> Callable[..., Any]:
    left = [skip]

    def call(*args: Any, **more: Any) -> Any:
        if left[0] and real is not None:
            left[0] -= 1
            return real(*args, **more)
        raise OSError(error, os.strerror(error))

    return call


class TestFiles:
    def test_an_object_is_a_file_of_its_owner(self, folder: FolderStore, place: Path) -> None:
        folder.put("a/b", [b"one", b"two"])
        assert (place / "a" / "b").read_bytes() == b"onetwo"
        assert modes.S_IMODE((place / "a" / "b").stat().st_mode) == 0o600
        assert modes.S_IMODE((place / "a").stat().st_mode) == 0o700
        assert modes.S_IMODE(place.stat().st_mode) == 0o700

    def test_only_names_and_the_lock_stay(self, folder: FolderStore, place: Path) -> None:
        etag = folder.put("a", [b"1"])
        folder.put("a", [b"2"], if_match=etag)
        folder.put("b", [b"2"], if_absent=True)
        assert files(place) == [".stoker-lock", "a", "b"]
        assert [each.key for each in folder.list()] == ["a", "b"]

    def test_empty_folders_go(self, folder: FolderStore, place: Path) -> None:
        folder.put("a/b/c", [b"1"])
        folder.put("a/d", [b"1"])
        folder.delete(["a/b/c"])
        assert [each.name for each in (place / "a").iterdir()] == ["d"]
        folder.delete(["a/d"])
        assert not (place / "a").exists()
        assert place.exists()

    def test_an_object_and_a_folder_of_one_name(self, folder: FolderStore) -> None:
        folder.put("a", [b"1"])
        folder.put("b/c", [b"1"])
        for write in (
            lambda: folder.put("a/b", [b"1"]),
            lambda: folder.put("b", [b"1"]),
            lambda: folder.put("b", [b"1"], if_absent=True),
        ):
            with pytest.raises(InvalidInput, match="an object and a folder would have the same name"):
                write()

    def test_files_of_others_that_are_no_keys_are_not_listed(self, folder: FolderStore, place: Path) -> None:
        folder.put("a", [b"1"])
        (place / "new\nline").touch()
        (Path(os.fsdecode(os.fsencode(place) + b"/\xff"))).touch()
        os.mkfifo(place / "pipe")
        assert [each.key for each in folder.list()] == ["a"]
        with pytest.raises(InvalidInput, match=r"pipe .* is no regular file"):
            folder.get("pipe")

    def test_a_name_that_is_too_long_for_files(self, folder: FolderStore) -> None:
        with pytest.raises(InvalidInput, match="File name too long"):
            folder.put("x" * 300, [b"1"])

    @pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1])
    def test_the_etag_is_of_the_content(self, folder: FolderStore, place: Path, size: int) -> None:
        content = bytearray(size)
        etags = [folder.put("a", [content])]
        for at in (0, size // 2, size - 1):
            content[at] = 1
            etags.append(folder.put("a", [content]))
            assert folder.stat("a").etag == etags[-1]
        assert len(set(etags)) == 4

    def test_pieces_are_synced_before_they_have_a_name(
        self, folder: FolderStore, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.put("a/x", [b"0"])
        told: list[str] = []
        fsync, replace, link = os.fsync, os.replace, os.link

        def say_fsync(descriptor: int) -> None:
            told.append("sync folder" if modes.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", say_fsync)
        monkeypatch.setattr(os, "replace", lambda *names: (told.append("name"), replace(*names)))
        monkeypatch.setattr(os, "link", lambda *names, **more: (told.append("name"), link(*names, **more)))
        folder.put("a/y", [b"1"])
        folder.put("a/z", [b"1"], if_absent=True)
        assert told == ["sync file", "name", "sync folder"] * 2
        told.clear()
        folder.put("b/c/d", [b"1"])
        assert told == ["sync folder", "sync folder", "sync file", "name", "sync folder"], "so are new folders"


class TestBadDisks:
    @pytest.mark.parametrize(
        ("call", "error", "kind", "words"),
        [
            ("write", errno.ENOSPC, Unavailable, "the disk is full"),
            ("write", errno.EDQUOT, Unavailable, "the disk is full"),
            ("write", errno.EIO, Unavailable, "the disk reports an error"),
            ("fsync", errno.EIO, Unavailable, "the disk reports an error"),
            ("fsync", errno.ENOSPC, Unavailable, "the disk is full"),
            ("open", errno.EROFS, NotPermitted, "it is mounted for reading only"),
            ("open", errno.EACCES, NotPermitted, "may not"),
            ("open", errno.EMFILE, Unavailable, "Too many open files"),
            ("replace", errno.EIO, Unavailable, "the disk reports an error"),
        ],
    )
    def test_what_fails_is_not_there_and_what_was_is(
        self,
        folder: FolderStore,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        error: int,
        kind: type[StokerError],
        words: str,
    ) -> None:
        folder.put("a", [b"before"])
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(error))
            with pytest.raises(kind, match=f"cannot write a in file:///.*: .*{words}"):
                folder.put("a", [b"after"])
        assert folder.get("a") == b"before"
        assert files(place) == [".stoker-lock", "a"]

    def test_a_disk_that_fills_up_half_way(
        self, folder: FolderStore, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing(errno.ENOSPC, skip=1, real=os.write))
            with pytest.raises(Unavailable, match="the disk is full"):
                folder.put("a", [b"1", b"2"], if_absent=True)
        assert files(place) == []
        folder.put("a", [b"1", b"2"], if_absent=True)

    def test_a_write_that_takes_only_part_goes_on(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
        folder.put("a", [b"0123456", b"789"])
        assert folder.get("a") == b"0123456789"

    def test_a_folder_that_cannot_be_synced(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """It has its name, and may lose it when the machine dies: not a success. Asked again, the store says so."""
        folder.put("x", [b"0"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(errno.EIO, skip=1, real=os.fsync))
            with pytest.raises(Unavailable):
                folder.put("a", [b"1"], if_absent=True)
        with pytest.raises(Changed):
            folder.put("a", [b"1"], if_absent=True)

    def test_file_systems_that_cannot_sync_folders(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.put("x", [b"0"])
        monkeypatch.setattr(os, "fsync", failing(errno.EINVAL, skip=1, real=os.fsync))
        folder.put("a", [b"1"])
        assert folder.get("a") == b"1"

    def test_file_systems_without_links(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
        folder.put("a", [b"1"], if_absent=True)
        with pytest.raises(Changed):
            folder.put("a", [b"2"], if_absent=True)
        assert folder.get("a") == b"1"

    def test_a_file_that_shrinks_while_it_is_read(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.put("a", [b"0123456789"])
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 4), at) if at < 8 else b"")
        with pytest.raises(Unavailable, match="2 bytes of 10 are missing"):
            folder.get("a")

    def test_reads_that_come_in_parts_are_put_together(
        self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.put("a", [b"0123456789"])
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 4), at))
        assert folder.get("a", start=1) == b"123456789"

    @pytest.mark.parametrize("ask", ["get", "read", "stat"])
    @pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
    def test_what_cannot_be_read_is_not_absent(
        self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch, ask: str, error: int
    ) -> None:
        folder.put("a", [b"1"])
        monkeypatch.setattr(os, "open", failing(error))
        with pytest.raises(NotPermitted if error == errno.EACCES else Unavailable):
            getattr(folder, ask)("a")

    def test_a_slow_disk_is_left_when_the_time_is_over(
        self, folder: FolderStore, place: Path, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write

        def slow(descriptor: int, data: memoryview) -> int:
            time.at += 4
            return real(descriptor, data)

        monkeypatch.setattr(os, "write", slow)
        folder.put("a", [b"1", b"2"], timeout_s=9)
        with pytest.raises(Unavailable, match="cannot write a within 9 s"):
            folder.put("a", [b"1", b"2", b"3", b"4"], timeout_s=9)
        assert folder.get("a") == b"12"


class TestLinks:
    def test_those_that_leave_the_place_are_refused(self, folder: FolderStore, place: Path, tmp_path: Path) -> None:
        folder.put("a", [b"1"])
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"not yours")
        (place / "out").symlink_to(outside)
        (place / "file").symlink_to(outside / "secret")
        for ask in (
            lambda: folder.get("out/secret"),
            lambda: folder.get("file"),
            lambda: folder.put("out/new", [b"1"]),
            lambda: folder.put("out/deep/new", [b"1"]),
            lambda: folder.delete(["out/secret"]),
            lambda: list(folder.list("out/")),
        ):
            with pytest.raises(NotPermitted, match="a link that leads out of file:///"):
                ask()
        assert sorted(each.name for each in outside.iterdir()) == ["secret"]
        assert [each.key for each in folder.list()] == ["a"]

    def test_the_place_itself_may_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        FolderStore(tmp_path / "link").put("a", [b"1"])
        assert (tmp_path / "real" / "a").read_bytes() == b"1"


class TestSwept:
    def test_what_died_is_removed_when_it_is_old(self, folder: FolderStore, place: Path, time: Time) -> None:
        folder.put("a/b", [b"1"])
        folder.put("c", [b"1"])
        for name, age in (("a/.stoker-tmp-1", 100), ("a/.stoker-tmp-2", 10), (".stoker-tmp-3", 100)):
            (place / name).touch()
            os.utime(place / name, (time.at - age, time.at - age))
        assert folder.sweep("c/", older_than_s=0) == 0
        assert folder.sweep("a/", older_than_s=50) == 1
        assert files(place) == [".stoker-lock", ".stoker-tmp-3", "a/.stoker-tmp-2", "a/b", "c"]
        assert folder.sweep(older_than_s=0) == 2
        assert files(place) == [".stoker-lock", "a/b", "c"]

    def test_a_process_that_is_killed_while_it_writes(self, folder: FolderStore, place: Path, time: Time) -> None:
        folder.put("a", [b"whole"])
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_die_writing, args=(str(place),))
        process.start()
        process.join()
        assert process.exitcode == 9
        assert folder.get("a") == b"whole"
        assert [each.key for each in folder.list()] == ["a"]
        assert len(files(place)) == 3
        time.at = 9e9
        assert folder.sweep(older_than_s=86400) == 1
        assert files(place) == [".stoker-lock", "a"]


def _die_writing(place: str) -> None:
    os.fsync = lambda _: os._exit(9)
    FolderStore(Path(place)).put("a", [b"half"])


class TestOtherProcesses:
    def test_no_increment_is_lost(self, folder: FolderStore) -> None:
        folder.put("counter", [b"0"])
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_count, args=(folder.url.removeprefix("file://"), 40)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert folder.get("counter") == b"120"

    def test_one_that_does_not_let_go_of_the_lock(self, folder: FolderStore, place: Path, time: Time) -> None:
        folder.put("a", [b"1"])
        with (place / ".stoker-lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Unavailable, match="which another process does not let go, within 2 s"):
                folder.put("a", [b"2"], timeout_s=2)
        assert folder.get("a") == b"1"
        assert sum(time.slept) == pytest.approx(2, abs=0.01)
        folder.put("a", [b"2"])

    def test_a_child_forked_while_it_is_held_does_not_keep_it(
        self, folder: FolderStore, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the workers of a data loader are, while another thread commits a checkpoint."""
        folder.put("a", [b"1"])
        ask, tell = os.pipe()
        real = os.replace
        children = []

        def fork_and_replace(source: str, target: str) -> None:
            child = os.fork()
            if child == 0:
                os.close(tell)
                os.read(ask, 1)  # until the test ends
                os._exit(0)
            children.append(child)
            real(source, target)

        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", fork_and_replace)
                folder.put("a", [b"2"])
            folder.put("a", [b"3"], timeout_s=1)
            assert folder.get("a") == b"3"
        finally:
            os.close(tell)
            for child in children:
                os.waitpid(child, 0)
            os.close(ask)

    def test_a_folder_that_is_removed_while_one_writes_to_it(
        self, folder: FolderStore, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.put("x", [b"0"])
        real, times = os.open, [2]

        def removed(path: str, flags: int, *more: Any) -> int:
            if ".stoker-tmp-" in str(path) and times[0]:
                times[0] -= 1
                os.rmdir(os.path.dirname(path))
            return real(path, flags, *more)

        monkeypatch.setattr(os, "open", removed)
        folder.put("a/b", [b"1"])
        assert folder.get("a/b") == b"1"


def _count(place: str, rounds: int) -> None:
    folder = FolderStore(Path(place))
    while rounds:
        value, etag = folder.read("counter")
        try:
            folder.put("counter", [str(int(value) + 1).encode()], if_match=etag)
        except Changed:
            continue
        rounds -= 1


def test_a_reader_sees_the_one_before_or_the_one_after(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("a", [b"before"])
    seen: list[bytes] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(folder.get("a")), real(fd)))
    folder.put("a", [b"after", bytes(MIB)])
    assert seen == [b"before", b"after" + bytes(MIB)]


def test_absence_is_said_with_key_and_place(folder: FolderStore) -> None:
    with pytest.raises(NotFound, match=r"there is no a/b in file:///.*/new/place"):
        folder.get("a/b")
