"""The data of a run: which rows each step has, whichever processes ask, and however often they were killed."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_builders import a_run, a_source, assistant, chat, lines, own_encoder, pixel, user
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.registry import stores
from stoker.train import places
from stoker.train.encoding import Rules, Sample
from stoker.train.formats import BadLine, example_of
from stoker.train.source import Rows, Source, Step, nothing_like, open_source

LINES = [chat(f"What is {number}?", f"It is {number}. " * (number % 6 + 1)) for number in range(40)]


def whole(source: Source, number: int, world: int) -> list[Step]:
    return [source.step(number, rank=rank, world=world) for rank in range(world)]


def same(one: Rows, other: Rows) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Rows)
    )


def alone(value: Any, length: int) -> Sample:
    sample = own_encoder().encode(example_of(value), Rules(length))
    assert sample is not None
    return sample


def test_a_row_is_its_examples_one_after_the_other(tmp_path):
    source = a_source(tmp_path, LINES[:3], dataset={"maxLength": 64, "shuffle": False})
    (only,) = source.step(0).passes
    rows = only.rows
    samples = [alone(value, 64) for value in LINES[:3]]
    lengths = [sample.length for sample in samples]
    assert source.steps == 1
    assert (rows.samples, rows.is_packed) == (((0, 1, 2),), True)
    assert rows.tokens.shape == (1, -(-sum(lengths) // 8) * 8)
    padding = rows.tokens.shape[1] - sum(lengths)
    assert rows.documents[0].tolist() == [0] * lengths[0] + [1] * lengths[1] + [2] * lengths[2] + [-1] * padding
    assert rows.positions[0].tolist() == [at for length in lengths for at in range(length)] + [0] * padding
    at = 0
    for sample in samples:
        tokens, weights = sample.chosen.tokens.tolist(), sample.chosen.weights.tolist()
        end = at + sample.length
        assert rows.tokens[0, at:end].tolist() == tokens
        assert rows.targets[0, at:end].tolist() == [*tokens[1:], 0]
        assert rows.weights[0, at:end].tolist() == [*weights[1:], 0.0]
        at = end
    assert not rows.weights[0, at:].any()
    kinds = {field.name: getattr(rows, field.name).dtype for field in dataclasses.fields(Rows)[:-1]}
    assert [str(kind) for kind in kinds.values()] == ["int64", "int64", "float32", "int32", "int32", "float32"]


def test_a_step_is_cut_into_passes_and_passes_into_blocks(tmp_path):
    source = a_source(
        tmp_path, LINES[:10], dataset={"packing": False, "shuffle": False}, batch={"rows": 6, "microRows": 2}
    )
    assert source.steps == 2
    first, second, third, fourth = whole(source, 0, 4)
    assert [[each.number for each in step.passes] for step in (first, second, third, fourth)] == [[], [0], [1], [2]]
    assert [step.passes_at_most for step in (first, second)] == [1, 1]
    assert second.passes[0].rows.samples == ((0,), (1,))
    assert fourth.samples == (0, 1, 2, 3, 4, 5)
    last = source.step(1)
    assert (last.samples, [each.rows.samples for each in last.passes]) == ((6, 7, 8, 9), [((6,), (7,)), ((8,), (9,))])
    with pytest.raises(IndexError, match="step 2 of 2"):
        source.step(2)


def test_the_weight_of_a_step_is_that_of_all_its_tokens(tmp_path):
    source = a_source(tmp_path, LINES, dataset={"maxLength": 128, "questionWeight": 0.1})
    for number in range(source.steps):
        steps = whole(source, number, 3)
        every = [each.rows for step in steps for each in step.passes]
        assert {step.weight for step in steps} == {sum(rows.weights.sum(dtype=np.float64) for rows in every)}
        assert {step.tokens for step in steps} == {sum(int((rows.documents >= 0).sum()) for rows in every)}
    assert source.report.tokens == sum(source.step(number).tokens for number in range(source.steps))


def test_rows_are_as_long_as_the_fullest_and_never_longer_than_a_row_may_be(tmp_path):
    keys = {"batch": {"rows": 1}, "dataset": {"packing": False, "shuffle": False, "maxLength": 29}}
    source = a_source(tmp_path, [chat("a", "b"), chat("a", "b " * 50)], **keys)
    assert source.step(0).passes[0].rows.tokens.shape == (1, 8)
    assert source.step(1).passes[0].rows.tokens.shape == (1, 29)
    assert source.report.truncated == 1


def test_a_preference_is_two_documents_of_one_row(tmp_path):
    values = [{"prompt": f"{number}?", "chosen": "yes", "rejected": "no, no"} for number in range(4)]
    source = a_source(tmp_path, values, objective="dpo", dataset={"maxLength": 64, "shuffle": False})
    step = source.step(0)
    rows = step.passes[0].rows
    pairs = rows.samples[0]
    assert step.weight == 4.0
    assert len(pairs) > 1
    first = alone(values[0], 64)
    assert first.rejected is not None
    assert rows.tokens[0][rows.documents[0] == 0].tolist() == first.chosen.tokens.tolist()
    assert rows.tokens[0][rows.documents[0] == 1].tolist() == first.rejected.tokens.tolist()
    assert int(rows.documents.max()) == 2 * len(pairs) - 1


def test_images_come_in_the_order_of_their_placeholders(tmp_path):
    values = [
        {"messages": [user([pixel((200, 0, 0)), {"type": "text", "text": "?"}]), assistant("red")]},
        chat("a", "b"),
        {"messages": [user([pixel((0, 0, 200))]), assistant("blue")]},
    ]
    source = a_source(tmp_path, values, dataset={"shuffle": False})
    rows = source.step(0).passes[0].rows
    assert rows.features.shape == (32, 6)
    assert rows.features[0, 0] > 0 > rows.features[-1, 0]
    assert (rows.tokens == 6).sum() == 32


def test_nothing_like_a_pass_counts_for_nothing(tmp_path):
    rows = a_source(tmp_path, LINES[:3]).step(0).passes[0].rows
    nothing = nothing_like(rows)
    assert nothing.tokens.shape == rows.tokens.shape
    assert (nothing.weights.any(), set(nothing.documents.ravel().tolist())) == (False, {-1})
    assert (nothing.samples, len(nothing.features), nothing.is_packed) == (((),), 0, False)


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing_and_end(tmp_path, workers):
    keys: dict[str, Any] = {"epochs": 2, "batch": {"rows": 3}}
    plain = a_source(tmp_path, LINES, dataset={"maxLength": 64}, **keys)
    source = a_source(tmp_path, LINES, dataset={"maxLength": 64, "workers": workers}, **keys)
    assert source.digest == plain.digest
    before = threading.active_count()
    for one, other in zip(plain.following(1, rank=1, world=2), source.following(1, rank=1, world=2), strict=True):
        assert (one.number, one.samples) == (other.number, other.samples)
        assert all(same(a.rows, b.rows) for a, b in zip(one.passes, other.passes, strict=True))
    assert threading.active_count() == before
    begun = source.following(0, rank=0, world=1)
    assert next(begun).number == 0
    assert threading.active_count() > before
    begun.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_number_of_steps_is_that_of_the_epochs_or_of_the_run(tmp_path):
    keys: dict[str, Any] = {"dataset": {"packing": False}, "batch": {"rows": 8}}
    assert a_source(tmp_path, LINES[:20], epochs=3, **keys).steps == 9
    assert a_source(tmp_path, LINES[:20], epochs=3, steps=5, **keys).steps == 5
    assert a_source(tmp_path, LINES[:20], epochs=3, steps=50, **keys).steps == 9


launches = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 6), st.integers(0, 3)), max_size=5)
"""Of how many processes, after how many steps it is killed, and how many of these were not saved."""


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=24),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.integers(1, 3),
    rows=st.sampled_from([(2, 1), (4, 2), (6, 2)]),
    packing=st.booleans(),
    killed=launches,
    last=st.integers(1, 8),
)
def test_each_sample_comes_once_an_epoch_in_one_order_whoever_is_killed(
    tmp_path_factory, sizes, seed, epochs, rows, packing, killed, last
):
    """Each launch goes on from what was saved, with another number of processes. What all saw, each step taken from the
    launch that did it last, is each sample once an epoch, in the order in which one process alone would see them."""
    folder = tmp_path_factory.mktemp("data")
    values = [chat("a", "b " * size) for size in sizes]
    keys: dict[str, Any] = {
        "seed": seed,
        "epochs": epochs,
        "batch": {"rows": rows[0], "microRows": rows[1]},
        "dataset": {"maxLength": 64, "packing": packing},
    }
    one_process = a_source(folder, values, **keys)
    seen: dict[int, list[int]] = {}
    saved = 0
    for world, done, lost in [*killed, (last, one_process.steps, 0)]:
        source = a_source(folder, values, **keys)
        stop = min(source.steps, saved + done)
        for number in range(saved, stop):
            steps = whole(source, number, world)
            passes = [each for step in steps for each in step.passes]
            seen[number] = [index for each in passes for row in each.rows.samples for index in row]
            assert [each.number for each in passes] == list(range(len(passes)))
            assert {step.passes_at_most for step in steps} == {max(len(step.passes) for step in steps)}
            assert {step.samples for step in steps} == {tuple(seen[number])}
        saved = max(saved, stop - lost)
    assert sorted(seen) == list(range(one_process.steps))
    for epoch in range(epochs):
        mine = [number for number in seen if one_process.step(number).epoch == epoch]
        assert sorted(index for number in mine for index in seen[number]) == list(range(len(sizes)))
    assert all(tuple(seen[number]) == one_process.step(number).samples for number in seen)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=12), st.integers(0, 2**32), st.data())
def test_no_document_reaches_into_another(tmp_path_factory, sizes, seed, data):
    """Targets are of the same document, and another text of the same length changes nothing outside of its own."""
    folder = tmp_path_factory.mktemp("data")
    values = [chat("a", "b" * size) for size in sizes]
    changed = data.draw(st.integers(0, len(sizes) - 1))
    keys: dict[str, Any] = {"seed": seed, "dataset": {"maxLength": 128}, "batch": {"rows": 2}}
    one = a_source(folder, values, **keys)
    values[changed] = chat("z", "b" * sizes[changed])
    other = a_source(folder, values, **keys)
    assert one.digest != other.digest
    for number in range(one.steps):
        for mine, theirs in zip(one.step(number).passes, other.step(number).passes, strict=True):
            a, b = mine.rows, theirs.rows
            assert a.samples == b.samples
            for row, samples in enumerate(a.samples):
                inside = np.array([-1 if at < 0 else samples[at] for at in a.documents[row]]) == changed
                assert np.array_equal(a.tokens[row][~inside], b.tokens[row][~inside])
                assert np.array_equal(a.targets[row][~inside], b.targets[row][~inside])
                last = np.append(a.documents[row][1:] != a.documents[row][:-1], True)
                assert not a.weights[row][last].any()
                within = ~last & (a.documents[row] >= 0)
                assert np.array_equal(a.targets[row][within], a.tokens[row][1:][within[:-1]])


# Bad lines, digests, files


def test_bad_lines_stop_the_run_with_the_first_of_them(tmp_path):
    data = b'{"text": "a"}\n{"text": 7}\n' + lines(chat("a", "b"), {"messages": [assistant("b", weight=0)]})
    with pytest.raises(InvalidInput) as caught:
        a_source(tmp_path, data)
    assert caught.value.message == (
        "2 lines of the data cannot be used:\n"
        "  data.jsonl:2: text is 7; a string would be right\n"
        "  data.jsonl:4: nothing in it counts in the loss; an assistant's message without weight 0 would"
    )
    assert caught.value.hint == "dataset.badLines: skip leaves such lines out"
    with pytest.raises(InvalidInput, match="10 lines or more of the data cannot be used"):
        a_source(tmp_path, b"{}\n" * 3000)


def test_bad_lines_are_skipped_and_said(tmp_path):
    told: list[str] = []
    data = lines(chat("a", "b")) + b"{}\n" * 12 + lines(chat("c" * 300, "d"), chat("e", "f " * 50))
    source = a_source(tmp_path, data, told=told, dataset={"badLines": "skip", "maxLength": 32})
    assert source.report.bad[0] == BadLine("data.jsonl", 2, source.report.bad[0].why)
    assert len(source.report.bad) == 12
    assert told == [
        f"2 examples, {source.report.tokens} tokens, {source.report.tokens_in_loss} of them count in the loss",
        "cut: 1 example of more than maxLength (32) tokens",
        "left out: 1 example, of whose first maxLength (32) tokens none counts, or tooLong is drop",
        "12 lines cannot be used, and are skipped:",
        *[f"  data.jsonl:{number}: {source.report.bad[0].why}" for number in range(2, 12)],
        "  and 2 more",
    ]


def test_data_of_which_nothing_is_left_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="nothing of the data can be used; left out: 0, bad lines: 1"):
        a_source(tmp_path, b"", dataset={"badLines": "skip"})
    with pytest.raises(InvalidInput, match="left out: 1, bad lines: 0"):
        a_source(tmp_path, [chat("a", "b " * 90)], dataset={"maxLength": 16, "tooLong": "drop"})


def test_the_objective_has_its_kind_of_data(tmp_path):
    with pytest.raises(InvalidInput, match=r"data\.jsonl:1: is no preference, and objective is dpo"):
        a_source(tmp_path, [chat("a", "b")], objective="dpo")
    with pytest.raises(InvalidInput, match=r"data\.jsonl:1: is a preference, and objective is sft"):
        a_source(tmp_path, [{"chosen": "a", "rejected": "b"}])


def test_a_file_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path):
    with pytest.raises(InvalidInput, match=r"gone\.jsonl cannot be read: No such file") as caught:
        open_source(a_run(), ["gone.jsonl"], own_encoder(), here=tmp_path, tell=print)
    assert str(tmp_path / "gone.jsonl") in str(caught.value.hint)


@pytest.mark.parametrize("name", ["/dev/null", "link.jsonl"])
def test_a_device_is_no_data(tmp_path, name):
    """/dev/zero would have no end, and a pipe none that the next process could read."""
    (tmp_path / "link.jsonl").symlink_to("/dev/null")
    with pytest.raises(InvalidInput, match=f"{name} is a device or a pipe, and only files are read"):
        places.read(name, tmp_path)


def test_the_digest_is_of_the_data_and_all_that_makes_rows_of_it(tmp_path):
    digest = a_source(tmp_path, LINES[:4]).digest
    assert a_source(tmp_path, LINES[:4], batch={"rows": 4}, epochs=2, dataset={"workers": 2}).digest == digest
    others = [
        a_source(tmp_path, LINES[:5]),
        a_source(tmp_path, LINES[3::-1]),
        a_source(tmp_path, LINES[:4], seed=1),
        *[
            a_source(tmp_path, LINES[:4], dataset=changed)
            for changed in ({"packing": False}, {"shuffle": False}, {"maxLength": 512}, {"questionWeight": 0.5})
        ],
    ]
    assert len({digest, *(source.digest for source in others)}) == 8


def test_files_are_read_one_after_the_other_and_s3_through_the_store(tmp_path, monkeypatch):
    asked: list[Any] = []

    class InMemory:
        def get(self, key: str, *, timeout_s: float) -> bytes:
            asked.append(key)
            return lines(chat("c", "d"))

    def opened(url: str) -> Any:
        asked.append(url)
        return InMemory()

    monkeypatch.setattr(stores, "open_store", opened)
    (tmp_path / "a.jsonl").write_bytes(lines(chat("a", "b")))
    run = a_run(dataset={"shuffle": False})
    source = open_source(run, ["a.jsonl", "s3://bucket/sets/b.jsonl"], own_encoder(), here=tmp_path, tell=asked.append)
    assert asked[:2] == ["s3://bucket/sets", "b.jsonl"]
    assert source.report.examples == 2
    one = alone(chat("c", "d"), 64).chosen.tokens.tolist()
    rows = source.step(0).passes[0].rows
    assert rows.tokens[0][rows.documents[0] == 1].tolist() == one
    with pytest.raises(InvalidInput, match=r"names no object; s3://bucket/train\.jsonl would be right"):
        open_source(run, ["s3://bucket"], own_encoder(), here=tmp_path, tell=print)


def test_reading_much_says_how_far_it_is(tmp_path, monkeypatch):
    from stoker.train import reading

    monkeypatch.setattr(reading, "_TOLD_EVERY", 2)
    told: list[str] = []
    a_source(tmp_path, LINES[:5], told=told)
    assert told[:2] == ["data.jsonl: 2 lines read", "data.jsonl: 4 lines read"]


# What is kept for the next launch


class Refusing:
    """An encoder that was not to be asked."""

    vocab_size = own_encoder().vocab_size
    digest = own_encoder().digest

    def encode(self, example: Any, rules: Rules) -> Sample | None:
        raise AssertionError("encoded again")

    def encode_all(self, examples: Any, rules: Rules) -> Any:
        raise AssertionError("encoded again")


def again(folder: Path, **keys: Any) -> Source:
    run = a_run(dataset={"maxLength": 64}, **keys)
    return open_source(run, run.data, Refusing(), here=folder, tell=str, cache=folder / "cache")


def test_the_next_launch_does_not_encode_again(tmp_path):
    first = a_source(tmp_path, LINES, cache=tmp_path / "cache", dataset={"maxLength": 64}, epochs=2)
    second = again(tmp_path, epochs=2)
    longer = again(tmp_path, epochs=3)
    assert (second.digest, second.report, second.steps) == (first.digest, first.report, first.steps)
    for number in range(first.steps):
        for a, b in zip(first.step(number).passes, longer.step(number).passes, strict=True):
            assert same(a.rows, b.rows)
    assert longer.steps > second.steps
    assert not [left for left in (tmp_path / "cache").iterdir() if left.name.startswith(".")]


def test_what_was_kept_and_is_damaged_is_made_again(tmp_path):
    keys: dict[str, Any] = {"cache": tmp_path / "cache", "dataset": {"maxLength": 64}}
    first = a_source(tmp_path, LINES, **keys)
    (tokens,) = (tmp_path / "cache").glob("data-*/tokens.npy")
    (notes,) = (tmp_path / "cache").glob("data-*.json")
    (about,) = (tmp_path / "cache").glob("data-*/about.json")
    whole_tokens, whole_notes = tokens.read_bytes(), notes.read_bytes()
    flipped = whole_tokens[:200] + bytes([whole_tokens[200] ^ 1]) + whole_tokens[201:]
    harms = [
        (tokens, flipped),
        (tokens, whole_tokens[:100]),
        (tokens, b""),
        (notes, whole_notes.replace(b"40", b"41")),
        (about, about.read_bytes().replace(b"1", b"2")),
    ]
    for path, harm in harms:
        path.write_bytes(harm)
        with pytest.raises(AssertionError, match="encoded again"):
            again(tmp_path)
        mended = a_source(tmp_path, LINES, **keys)
        assert (mended.report, mended.steps) == (first.report, first.steps)
        assert (tokens.read_bytes(), notes.read_bytes()) == (whole_tokens, whole_notes)


def test_other_data_is_not_what_was_kept(tmp_path):
    a_source(tmp_path, LINES, cache=tmp_path / "cache", dataset={"maxLength": 64})
    (tmp_path / "data.jsonl").write_bytes(lines(*LINES[1:]))
    with pytest.raises(AssertionError, match="encoded again"):
        again(tmp_path)
