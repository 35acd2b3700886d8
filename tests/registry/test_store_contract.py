"""What every store promises (`registry/stores.py`), over each of them."""

import hashlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput, NotFound
from stoker.registry.stores import Buffer, Changed, Store

MIB = 1 << 20


def keys(store: Store, prefix: str = "") -> list[str]:
    return [each.key for each in store.list(prefix)]


def large(seed: int) -> bytes:
    """More than two parts of S3, and no two pages of it alike."""
    page = hashlib.shake_256(bytes([seed])).digest(MIB)
    return b"".join(number.to_bytes(4, "big") + page[4:] for number in range(12)) + b"end"


class TestWritten:
    def test_pieces_come_back_as_one(self, store: Store) -> None:
        etag = store.put("a/b", [b"one", bytearray(b"two"), memoryview(b"three"), b""])
        assert store.get("a/b") == b"onetwothree"
        assert store.read("a/b") == (b"onetwothree", etag)
        stat = store.stat("a/b")
        assert (stat.key, stat.size_bytes, stat.etag) == ("a/b", 11, etag)
        assert stat.modified_at > 1_600_000_000

    def test_a_piece_of_numbers_is_its_bytes(self, store: Store) -> None:
        store.put("a", [memoryview(bytearray(b"\x01\x00\x00\x00\x02\x00\x00\x00")).cast("I"), memoryview(b"")])
        assert store.get("a") == b"\x01\x00\x00\x00\x02\x00\x00\x00"

    def test_an_object_of_no_bytes(self, store: Store) -> None:
        etag = store.put("empty", [])
        assert store.get("empty") == b""
        assert store.read("empty") == (b"", etag)
        assert store.stat("empty").size_bytes == 0

    def test_the_last_writer_wins(self, store: Store) -> None:
        first = store.put("a", [b"1"])
        second = store.put("a", [b"2"])
        assert first != second
        assert store.get("a") == b"2"

    def test_a_large_object(self, store: Store) -> None:
        content = large(1)
        view = memoryview(content)
        etag = store.put("big", [view[:3], view[3 : 7 * MIB], view[7 * MIB :]])
        assert store.get("big") == content
        assert store.get("big", start=5 * MIB - 2, length=9) == content[5 * MIB - 2 : 5 * MIB + 7]
        assert store.stat("big").etag == etag
        assert store.stat("big").size_bytes == len(content)

    def test_another_content_has_another_etag(self, store: Store) -> None:
        changed = bytearray(large(1))
        one = store.put("big", [changed])
        changed[3 * MIB] ^= 1
        two = store.put("big", [changed])
        assert one != two
        assert store.stat("big").etag == two


class TestRanges:
    @pytest.mark.parametrize(
        ("start", "length", "due"),
        [
            (0, None, b"0123456789"),
            (0, 4, b"0123"),
            (4, None, b"456789"),
            (4, 3, b"456"),
            (8, 5, b"89"),
            (10, 1, b""),
            (10, None, b""),
            (99, 3, b""),
            (3, 0, b""),
        ],
    )
    def test_so_many_bytes_as_there_are(self, store: Store, start: int, length: int | None, due: bytes) -> None:
        store.put("a", [b"0123456789"])
        assert store.get("a", start=start, length=length) == due

    def test_below_nothing_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidInput, match="start is -1 and length 2"):
            store.get("a", start=-1, length=2)

    def test_a_range_of_nothing_of_what_is_not_there(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.get("a", length=0)


class TestAbsent:
    def test_nothing_is_there_before_the_first_write(self, store: Store) -> None:
        for ask in (store.get, store.read, store.stat):
            with pytest.raises(NotFound):
                ask("a/b")
        assert keys(store) == []
        assert store.sweep(older_than_s=0) == 0
        store.delete(["a", "b/c"])

    def test_below_an_object_there_is_nothing(self, store: Store) -> None:
        store.put("a", [b"1"])
        with pytest.raises(NotFound):
            store.get("a/b")

    def test_a_folder_is_no_object(self, store: Store) -> None:
        store.put("a/b", [b"1"])
        with pytest.raises(NotFound):
            store.get("a")
        store.delete(["a"])
        assert keys(store) == ["a/b"]

    def test_what_is_too_large_is_not_read(self, store: Store) -> None:
        store.put("a", [b"12345"])
        assert store.read("a", most_bytes=5)[0] == b"12345"
        with pytest.raises(InvalidInput, match="a has 5 bytes; at most 4 are expected of it"):
            store.read("a", most_bytes=4)


class TestConditions:
    def test_only_if_absent(self, store: Store) -> None:
        store.put("a", [b"1"], if_absent=True)
        with pytest.raises(Changed, match="exists already"):
            store.put("a", [b"2"], if_absent=True)
        assert store.get("a") == b"1"

    def test_the_same_content_of_another_is_not_ones_own(self, store: Store) -> None:
        """Two who claim a run at once may write the same bytes; only one of them may believe that it has won."""
        store.put("a", [b"1"], if_absent=True)
        with pytest.raises(Changed):
            store.put("a", [b"1"], if_absent=True)

    def test_only_if_unchanged(self, store: Store) -> None:
        first = store.put("a", [b"1"])
        second = store.put("a", [b"2"], if_match=first)
        with pytest.raises(Changed, match="another one by now"):
            store.put("a", [b"3"], if_match=first)
        with pytest.raises(Changed, match="another one by now"):
            store.put("a", [b"2"], if_match=first)
        assert store.read("a") == (b"2", second)
        store.put("a", [b"4"], if_match=store.stat("a").etag)
        assert store.get("a") == b"4"

    def test_what_is_gone_is_not_replaced(self, store: Store) -> None:
        etag = store.put("a", [b"1"])
        store.delete(["a"])
        with pytest.raises(Changed, match="is gone"):
            store.put("a", [b"2"], if_match=etag)
        assert keys(store) == []

    def test_of_a_large_object(self, store: Store) -> None:
        first = store.put("big", [large(1)], if_absent=True)
        with pytest.raises(Changed, match="exists already"):
            store.put("big", [large(2)], if_absent=True)
        second = store.put("big", [large(2)], if_match=first)
        with pytest.raises(Changed, match="another one by now"):
            store.put("big", [large(3)], if_match=first)
        assert store.stat("big").etag == second
        assert store.get("big") == large(2)
        assert store.sweep(older_than_s=0) == 0, "what failed has left nothing"

    def test_both_at_once_make_no_sense(self, store: Store) -> None:
        with pytest.raises(InvalidInput, match="contradict"):
            store.put("a", [b"1"], if_absent=True, if_match="x")


class TestListed:
    def test_sorted_by_key_below_a_prefix(self, store: Store) -> None:
        for key in ("b/2", "a", "b/10", "b.c/1", "b/1/x", "bb", "ü/é"):
            store.put(key, [key.encode()])
        assert keys(store) == ["a", "b.c/1", "b/1/x", "b/10", "b/2", "bb", "ü/é"]
        assert keys(store, "b/") == ["b/1/x", "b/10", "b/2"]
        assert keys(store, "b/1") == ["b/1/x", "b/10"]
        assert keys(store, "b") == ["b.c/1", "b/1/x", "b/10", "b/2", "bb"]
        assert keys(store, "c/") == []

    def test_what_it_says_is_what_stat_says(self, store: Store) -> None:
        store.put("a/b", [b"12"])
        (listed,) = store.list("a/")
        assert listed == store.stat("a/b")

    def test_deleted_ones_are_gone(self, store: Store) -> None:
        for key in ("a/1", "a/2", "b/1"):
            store.put(key, [b"x"])
        store.delete(iter(["a/1", "b/1", "never/there"]))
        assert keys(store) == ["a/2"]
        store.put("b/1", [b"again"])
        assert store.get("b/1") == b"again"


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "../a",
            "a/.",
            "a\0b",
            "a\nb",
            "\ud800",
            ".stoker-lock",
            "a/.stoker-tmp-1",
            "x" * 1025,
        ],
    )
    def test_what_is_no_key_is_refused_by_all(self, store: Store, key: str) -> None:
        for ask in (store.get, store.read, store.stat, lambda key: store.put(key, [b"1"])):
            with pytest.raises(InvalidInput):
                ask(key)
        with pytest.raises(InvalidInput):
            store.delete(["a", key])
        if key:
            with pytest.raises(InvalidInput):
                list(store.list(f"{key}/"))
        assert keys(store) == []

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.text(
                st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20
            ).filter(lambda part: part not in (".", "..") and not part.startswith((".stoker-lock", ".stoker-tmp-"))),
            min_size=1,
            max_size=3,
        )
    )
    def test_any_words_make_one(self, store: Store, parts: list[str]) -> None:
        key = "/".join(["any", *parts])
        store.put(key, [b"1"])
        assert store.get(key) == b"1"
        assert keys(store, "any/") == [key]
        store.delete([key])


class TestTwoWriters:
    def test_one_of_many_makes_it(self, store: Store) -> None:
        start = threading.Barrier(4)

        def make(number: int) -> bool:
            start.wait()
            try:
                store.put("claim", [b"the same"], if_absent=True)
            except Changed:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(make, range(4))) == [False, False, False, True]

    def test_no_increment_is_lost(self, store: Store) -> None:
        writers, rounds = 3, 8
        store.put("counter", [b"0"])

        def count(_: int) -> None:
            left = rounds
            while left:
                value, etag = store.read("counter")
                try:
                    store.put("counter", [str(int(value) + 1).encode()], if_match=etag)
                except Changed:
                    continue
                left -= 1

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(count, range(writers)))
        assert store.get("counter") == b"24"


def buffers(content: bytes, cuts: list[int]) -> list[Buffer]:
    edges = [0, *sorted(cuts), len(content)]
    return [memoryview(content)[a:b] for a, b in itertools.pairwise(edges)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6), st.integers(0, 250), st.integers(0, 250))
def test_any_cut_into_pieces_is_the_same_object(
    store: Store, content: bytes, cuts: list[int], start: int, length: int
) -> None:
    store.put("cut", buffers(content, [min(cut, len(content)) for cut in cuts]))
    assert store.get("cut") == content
    assert store.get("cut", start=start, length=length) == content[start : start + length]


def test_both_are_here(tmp_path: Path) -> None:
    """The suite runs over each kind of store that `open_store` knows."""
    from stoker.registry.stores import open_store

    assert [type(open_store(url)).__name__ for url in (str(tmp_path / "x"), "s3://bucket/x")] == [
        "FolderStore",
        "S3Store",
    ]
