"""Shards: read back as they were, by any number of readers, and by the library whose format it is."""

import hashlib
import struct
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from checkpoint_builders import noise, rows, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load

from stoker.base.errors import NotPermitted, Unavailable
from stoker.registry import shards
from stoker.registry.shards import Damaged, Piece, ShardRecord, read_pieces, verify_shard, write_shard
from stoker.registry.stores import Changed
from stoker.testing.stores import MemoryStore

PREFIX = "checkpoints/s00000010-e0001-0/"


def write(store: MemoryStore, key: str, *pieces: Piece, chunk_bytes: int = 64) -> ShardRecord:
    return write_shard(store, PREFIX, key, pieces, timeout_s=60.0, chunk_bytes=chunk_bytes)


class TestTheFile:
    def test_safetensors_reads_every_dtype_it_knows_scalars_and_what_is_empty(self) -> None:
        store = MemoryStore()
        arrays = {
            "u8": np.arange(3, dtype=np.uint8),
            "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
            "f64 scalar": np.array(2.5),
            "f16": np.arange(5, dtype=np.float16),
            "i64": np.arange(4, dtype=np.int64).reshape(2, 1, 2),
            "flags": np.array([True, False, True]),
            "nothing": np.zeros((0, 7), np.float32),
            "i32": np.arange(2, dtype=np.int32),
        }
        dtypes = {"u8": "U8", "f32": "F32", "f64 scalar": "F64", "f16": "F16", "i64": "I64"}
        dtypes |= {"flags": "BOOL", "nothing": "F32", "i32": "I32"}

        record = write(store, "a", *(whole(name, dtypes[name], of.shape, of.data) for name, of in arrays.items()))

        data = store.objects[PREFIX + "a"]
        found = load(data)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()
        for piece in record.pieces:
            assert data[piece.start : piece.end] == arrays[piece.name].tobytes()
            assert not piece.start % shards.DTYPE_BYTES[piece.dtype], "a reader that maps the file needs it aligned"

    def test_part_of_a_tensor_says_in_its_name_where_it_begins(self, tmp_path: Path) -> None:
        store = MemoryStore()
        write(store, "a", rows("w", noise(1, 40), (5, 8), 2, 4))
        (tmp_path / "a.safetensors").write_bytes(store.objects[PREFIX + "a"])

        with safe_open(tmp_path / "a.safetensors", "np") as opened:
            assert opened.keys() == ["w@2,0"]
            assert opened.get_tensor("w@2,0").tobytes() == noise(1, 40)[16:32]

    def test_its_chunks_are_sha256_of_its_bytes(self) -> None:
        store = MemoryStore()
        record = write(store, "a", whole("w", "U8", (1000,), noise(2, 1000)), chunk_bytes=128)

        data = store.objects[PREFIX + "a"]
        assert record.size_bytes == len(data)
        assert list(record.chunks) == [
            hashlib.sha256(data[start : start + 128]).hexdigest() for start in range(0, len(data), 128)
        ]

    def test_a_shard_without_pieces_is_one(self) -> None:
        store = MemoryStore()
        record = write(store, "a")

        assert load(store.objects[PREFIX + "a"]) == {}
        verify_shard(store, PREFIX, record)

    def test_a_real_chunk_is_16_mib(self) -> None:
        store = MemoryStore()
        data = noise(3, (32 << 20) + 5)
        record = write_shard(store, PREFIX, "a", [whole("w", "U8", (len(data),), data)], timeout_s=60.0)

        assert (shards.CHUNK_BYTES, record.chunk_bytes, len(record.chunks)) == (16 << 20, 16 << 20, 3)
        assert read_pieces(store, PREFIX, [record], {"w": None})["w"][2] == data


class TestWriting:
    @pytest.mark.parametrize("is_strict", [False, True])
    def test_the_same_again_is_fine_and_another_one_never_takes_its_place(self, is_strict: bool) -> None:
        store = MemoryStore(is_strict=is_strict)
        first = write(store, "a", whole("w", "U8", (3,), b"abc"))

        assert write(store, "a", whole("w", "U8", (3,), b"abc")) == first
        with pytest.raises(Changed):
            write(store, "a", whole("w", "U8", (3,), b"xyz"))
        assert store.objects[PREFIX + "a"].endswith(b"abc")

    def test_a_store_that_is_away_says_so_and_leaves_no_thread(self) -> None:
        def away(operation: str, key: str) -> None:
            raise Unavailable("the store is away")

        with pytest.raises(Unavailable, match="away"):
            write(MemoryStore(before=away), "a", whole("w", "U8", (999,), bytes(999)))
        assert not [each for each in threading.enumerate() if each.name.startswith("shards")]

    @pytest.mark.parametrize(
        ("piece", "why"),
        [
            (whole("w", "F32", (3,), bytes(11)), "w has 11 bytes of data; F32 \\(3,\\) has 12"),
            (whole("w", "F33", (3,), bytes(12)), "dtype 'F33' is none of"),
            (Piece("w", "U8", (2,), (3,), (2,), b"ab"), "is not in a tensor"),
            (Piece("w", "U8", (2,), (3, 3), (0,), b"ab"), "is not in a tensor"),
            (whole("__metadata__", "U8", (2,), b"ab"), "keeps for itself"),
            (whole("w", "U8", (4,), memoryview(bytes(8))[::2]), "not contiguous"),
        ],
    )
    def test_a_piece_that_does_not_fit_together_is_refused(self, piece: Piece, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            write(MemoryStore(), "a", piece)

    def test_a_name_that_is_there_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="w is there twice"):
            write(MemoryStore(), "a", whole("w", "U8", (1,), b"a"), whole("w", "U8", (1,), b"b"))


@st.composite
def cut_in_rows(draw: st.DrawFn) -> tuple[int, int, list[int], list[int]]:
    count, width = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    by = st.lists(st.integers(0, count), max_size=3).map(lambda cuts: [0, *sorted(cuts), count])
    return count, width, draw(by), draw(by)


class TestReading:
    @settings(max_examples=60, deadline=None)
    @given(cut_in_rows(), st.integers(1, 90))
    def test_what_some_ranks_wrote_any_other_number_of_ranks_reads(
        self, case: tuple[int, int, list[int], list[int]], chunk_bytes: int
    ) -> None:
        count, width, writers, readers = case
        data = noise(case, count * width)
        store = MemoryStore()
        records = [
            write(store, f"{rank}", rows("w", data, (count, width), begin, end), chunk_bytes=chunk_bytes)
            for rank, (begin, end) in enumerate(pairwise(writers))
        ]

        read = b""
        for begin, end in pairwise(readers):
            dtype, shape, part = read_pieces(store, PREFIX, records, {"w": ((begin, end), (0, width))})["w"]
            assert (dtype, shape) == ("U8", (end - begin, width))
            read += part

        assert read == data

    def test_saved_by_rows_read_by_columns(self) -> None:
        array = np.arange(60, dtype=np.float32).reshape(6, 10)
        store = MemoryStore()
        records = [
            write(store, "0", Piece("w", "F32", (4, 10), (6, 10), (0, 0), array[:4].data)),
            write(store, "1", Piece("w", "F32", (2, 10), (6, 10), (4, 0), array[4:].data)),
        ]

        found = read_pieces(store, PREFIX, records, {"w": ((1, 6), (3, 7))})["w"]

        assert found == ("F32", (5, 4), bytearray(np.ascontiguousarray(array[1:6, 3:7]).tobytes()))

    def test_a_scalar_and_what_is_empty(self) -> None:
        store = MemoryStore()
        record = write(store, "0", whole("step", "I64", (), struct.pack("<q", 7)), whole("none", "F32", (0, 3), b""))

        assert read_pieces(store, PREFIX, [record], {"step": None, "none": None}) == {
            "step": ("I64", (), bytearray(struct.pack("<q", 7))),
            "none": ("F32", (0, 3), bytearray()),
        }

    def test_only_the_chunks_that_are_needed_are_read(self) -> None:
        asked: list[str] = []
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (100, 10), noise(4, 1000)), chunk_bytes=100)
        header = record.pieces[0].start
        store.before = lambda operation, key: asked.append(operation)

        read_pieces(store, PREFIX, [record], {"w": ((50, 51), (0, 10))})

        first, last = (header + 500) // 100, (header + 509) // 100
        assert asked == ["stat", *["get"] * (last - first + 1)]

    @pytest.mark.parametrize("place", [0, 1, 70, 300, -1])
    def test_a_flipped_bit_is_seen_wherever_it_is(self, place: int) -> None:
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (500,), noise(5, 500)))
        damaged = bytearray(store.objects[PREFIX + "0"])
        damaged[place] ^= 4
        store.objects[PREFIX + "0"] = bytes(damaged)

        with pytest.raises(Damaged, match="not those that were written"):
            verify_shard(store, PREFIX, record)

    def test_damage_in_a_chunk_that_nobody_needs_is_no_matter(self) -> None:
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (500,), noise(6, 500)))
        damaged = bytearray(store.objects[PREFIX + "0"])
        damaged[-1] ^= 1
        store.objects[PREFIX + "0"] = bytes(damaged)

        assert read_pieces(store, PREFIX, [record], {"w": ((0, 10),)})["w"][2] == noise(6, 500)[:10]
        with pytest.raises(Damaged):
            read_pieces(store, PREFIX, [record], {"w": None})

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda data: data[:-1], "was written with"),
            (lambda data: data + b"\0", "was written with"),
            (lambda data: b"", "has 0 bytes"),
            (lambda data: None, "is missing"),
        ],
    )
    def test_an_object_of_another_size_or_none_is_damaged_and_never_not_found(self, spoil: object, why: str) -> None:
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (500,), noise(7, 500)))
        spoilt = spoil(store.objects.pop(PREFIX + "0"))  # type: ignore[operator]
        if spoilt is not None:
            store.objects[PREFIX + "0"] = spoilt

        for read in (
            lambda: read_pieces(store, PREFIX, [record], {"w": None}),
            lambda: verify_shard(store, PREFIX, record),
        ):
            with pytest.raises(Damaged, match=why):
                read()

    def test_a_rank_whose_shard_is_not_there_is_a_gap(self) -> None:
        store = MemoryStore()
        record = write(store, "0", rows("w", noise(8, 40), (5, 8), 0, 3))

        with pytest.raises(Damaged, match="leave a gap"):
            read_pieces(store, PREFIX, [record], {"w": None})
        with pytest.raises(Damaged, match="no tensor v"):
            read_pieces(store, PREFIX, [record], {"v": None})
        assert read_pieces(store, PREFIX, [record], {"w": ((0, 2), (0, 8))})["w"][2] == noise(8, 40)[:16]

    def test_a_block_outside_of_the_tensor_is_damaged(self) -> None:
        """The checkpoint is of another model than the one that asks."""
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (5,), bytes(5)))

        for block in (((0, 6),), ((0, 1), (0, 1)), ((3, 2),), ()):
            with pytest.raises(Damaged, match="is wanted"):
                read_pieces(store, PREFIX, [record], {"w": block})

    @pytest.mark.parametrize("error", [Unavailable("503"), NotPermitted("expired")])
    def test_what_cannot_be_read_now_is_not_called_damaged(self, error: Exception) -> None:
        store = MemoryStore()
        record = write(store, "0", whole("w", "U8", (500,), bytes(500)))

        def fail(operation: str, key: str) -> None:
            if operation == "get":
                raise error

        store.before = fail
        with pytest.raises(type(error)):
            read_pieces(store, PREFIX, [record], {"w": None})
        assert not [each for each in threading.enumerate() if each.name.startswith("shards")]
