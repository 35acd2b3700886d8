"""Manifests: written canonically, and read from anybody."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from checkpoint_builders import RUN, rows, whole
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.registry import documents, manifests
from stoker.registry.manifests import Manifest, from_bytes, name_of, parts_of, to_bytes
from stoker.registry.shards import Damaged, write_shard
from stoker.testing.stores import MemoryStore


def manifest(**changes: Any) -> Manifest:
    store = MemoryStore()
    shards = [
        write_shard(store, "p/", "shard-00000.safetensors", [rows("w", bytes(40), (5, 8), 0, 2)], timeout_s=1),
        write_shard(
            store,
            "p/",
            "shard-00001.safetensors",
            [rows("w", bytes(40), (5, 8), 2, 5), whole("step", "I64", (), bytes(8))],
            timeout_s=1,
            chunk_bytes=64,
        ),
    ]
    one = Manifest(RUN, name_of(120, 3), 120, 3, 1_700_000_000.5, tuple(shards), {"rng": 2**127 + 1, "lr": 0.1})
    return replace(one, **changes)


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(to_bytes(manifest())), **changes}


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def test_it_comes_back_as_it_was_with_integers_of_any_size() -> None:
    one = manifest(parent=name_of(100, 2))
    assert from_bytes(to_bytes(one)) == replace(one, shards=tuple(one.shards))
    assert from_bytes(to_bytes(one)).state == {"rng": 2**127 + 1, "lr": 0.1}
    assert one.size_bytes == sum(shard.size_bytes for shard in one.shards)


def test_the_same_manifest_has_the_same_bytes_whatever_order_its_state_is_in() -> None:
    assert to_bytes(manifest(state={"a": 1, "b": 2})) == to_bytes(manifest(state={"b": 2, "a": 1}))


def test_names_sort_by_step_and_say_who_made_them() -> None:
    assert name_of(120, 3) == "s00000120-e0003-0"
    assert parts_of("s00000120-e0003-0") == (120, 3, 0)
    assert parts_of("backup-of-monday") is None
    assert name_of(999, 9, 9) < name_of(1000, 1, 0)


@pytest.mark.parametrize("state", [{"loss": math.nan}, {"loss": math.inf}, {"x": b"bytes"}, {"x": {1, 2}}])
def test_a_state_that_json_has_not_is_refused_when_it_is_written(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the state of s00000120-e0003-0 cannot be written"):
        to_bytes(manifest(state=state))


def test_what_could_not_be_read_again_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="leave a gap"):
        to_bytes(manifest(shards=manifest().shards[:1]))


def shard(**changes: Any) -> dict[str, Any]:
    return {**document()["shards"][1], **changes}


def piece(**changes: Any) -> dict[str, Any]:
    return {**document()["shards"][1]["pieces"][0], **changes}


HEX = "0" * 64

REFUSED = [
    (b"", "no JSON"),
    (b"\xff\xfe", "no JSON"),
    (b"[]", "no JSON object"),
    (b"null", "no JSON object"),
    (b"{}", "format is missing"),
    (b'{"format": NaN}', "NaN is no number"),
    (b'{"format": 1e999}', "too large"),
    (b'{"format": 1' + b"0" * 5000 + b"}", "no JSON"),
    (b"[" * 200_000, "no JSON"),
    (b'{"a": 1, "a": 2}', "twice"),
    (encoded(document(format="stoker-checkpoint/2")), "reads stoker-checkpoint/1"),
    (encoded(document(step=-1)), "step must be an integer"),
    (encoded(document(step=1.0)), "step must be an integer"),
    (encoded(document(step=True)), "step must be an integer"),
    (encoded(document(step=10**400)), "an integer of 1329 bits"),
    (encoded(document(epoch="3")), "epoch must be"),
    (encoded(document(created_at="now")), "created_at must be a number"),
    (encoded(document(name="../../etc/passwd")), "name must be a name"),
    (encoded(document(run="")), "run must be a name"),
    (encoded(document(parent="/root")), "parent must be a name"),
    (encoded(document(state=[])), "state must be an object"),
    (encoded(document(shards={})), "shards must be an array"),
    (encoded(document(shards=[7])), r"shards\[0\] must be an object"),
    (encoded(document(shards=[shard(), shard()])), "two shards have the same key"),
    *[
        (encoded(document(shards=[shard(key=key)])), "not one below its checkpoint")
        for key in (
            "../x",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "",
            ".",
            "a\\..\\b",
            "a\0b",
            "manifest.json",
            "x" * 513,
            "a/",
        )
    ],
    (encoded(document(shards=[shard(chunks=[])])), "0 chunks"),
    (encoded(document(shards=[shard(chunk_bytes=0)])), "chunks of 0"),
    (encoded(document(shards=[shard(chunk_bytes=1 << 40)])), "chunk_bytes must be"),
    (encoded(document(shards=[shard(size_bytes=1 << 60)])), "size_bytes must be"),
    (encoded(document(shards=[shard(chunks=["A" * 64] * len(shard()["chunks"]))])), "a digest that is none"),
    (encoded(document(shards=[shard(chunks=[7] * len(shard()["chunks"]))])), "a digest that is none"),
    (encoded(document(shards=[shard(pieces=[piece(dtype="PICKLE")])])), "none of safetensors'"),
    (encoded(document(shards=[shard(pieces=[piece(start=-8)])])), "start must be"),
    (encoded(document(shards=[shard(pieces=[piece(end=piece()["end"] + 1)])])), "bytes, which I64 .* has not"),
    (encoded(document(shards=[shard(pieces=[piece(start=1 << 40, end=(1 << 40) + 8)])])), "of an object of"),
    (encoded(document(shards=[shard(pieces=[piece(shape=[1 << 52, 1 << 52])])])), "has not"),
    (encoded(document(shards=[shard(pieces=[piece(shape=[1] * 17)])])), "at most 16"),
    (encoded(document(shards=[shard(pieces=[piece(shape=[], whole=[2], at=[0])])])), "different numbers of dimensions"),
    (encoded(document(shards=[shard(pieces=[piece(shape=[1], whole=[2], at=[2])])])), "is outside"),
    (encoded(document(shards=[shard(pieces=[piece(), piece(name="other")])])), "shares bytes"),
    (
        encoded(document(shards=[shard(pieces=[piece(), piece(start=piece()["start"] - 8, end=piece()["start"])])])),
        "leave a gap or reach over",
    ),
    (encoded(document(shards=[document()["shards"][0]])), "leave a gap"),
]


@pytest.mark.parametrize(("data", "why"), REFUSED, ids=range(len(REFUSED)))
def test_whatever_is_no_manifest_is_damaged_and_says_why(data: bytes, why: str) -> None:
    with pytest.raises(Damaged, match=why) as caught:
        from_bytes(data)
    assert len(caught.value.why) < 400


def test_pieces_that_differ_in_what_the_whole_is_are_damaged() -> None:
    changed = document()
    changed["shards"][0]["pieces"][0]["whole"] = [6, 8]
    with pytest.raises(Damaged, match="differ in their dtype or in the shape"):
        from_bytes(encoded(changed))


def test_a_list_that_is_too_long_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_VALUES", 1000)
    monkeypatch.setattr(documents.json, "loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(Damaged, match="has 1999 values, and 1000 is the most"):
        from_bytes(b'{"shards": [' + b"0," * 1999 + b"0]}")


def test_one_that_is_too_large_is_refused_before_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MOST_BYTES", 10)
    with pytest.raises(Damaged, match="and 10 is the most"):
        from_bytes(b"x" * 11)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def nearly_manifests(draw: st.DrawFn) -> Any:
    """A real one, with some values anywhere in it replaced."""
    value = document()
    for _ in range(draw(st.integers(1, 3))):
        place: Any = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 4)):
                place = place[key]
                continue
            if draw(st.integers(0, 5)):
                place[key] = draw(json_values)
            else:
                del place[key]
            break
    return value


@settings(max_examples=150, deadline=None)
@given(json_values | nearly_manifests())
def test_any_json_is_a_manifest_or_damaged(value: Any) -> None:
    try:
        found = from_bytes(encoded(value))
    except Damaged:
        return
    assert from_bytes(to_bytes(found)) == found
    assert all(documents.is_key(shard.key) for shard in found.shards)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        from_bytes(data)
