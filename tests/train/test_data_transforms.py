"""A function of a person's own on each example: chance that does not depend on who asks, and errors that say where."""

import random
from pathlib import Path
from typing import Any

import pytest
from data_builders import a_source, chat

from stoker.base.errors import InvalidInput
from stoker.train.source import Source
from stoker.train.transforms import chance, load

REPEAT = """
def repeat(example, rng):
    answer = example["messages"][1]
    return {"messages": [example["messages"][0], {**answer, "content": answer["content"] * rng.randint(1, 9)}]}
"""
LINES = [chat(f"{number}?", f"It is {number}. ") for number in range(20)]


def source(folder: Path, code: str = REPEAT, name: str = "repeat", **keys: Any) -> Source:
    (folder / "own.py").write_text(code)
    dataset = {"maxLength": 96, "transform": f"own.py:{name}", **keys.pop("dataset", {})}
    return a_source(folder, keys.pop("values", LINES), dataset=dataset, **keys)


def documents(source: Source, numbers: range) -> dict[tuple[int, int], list[int]]:
    """Tokens of each example in each epoch."""
    found = {}
    for number in numbers:
        step = source.step(number)
        for each in step.passes:
            for row, samples in enumerate(each.rows.samples):
                for at, sample in enumerate(samples):
                    tokens = each.rows.tokens[row][each.rows.documents[row] == at].tolist()
                    assert (step.epoch, sample) not in found
                    found[step.epoch, sample] = tokens
    return found


def test_chance_is_pinned():
    """Another would change what a run that goes on sees."""
    assert chance(0, 0, 0).getrandbits(32) == 574716334
    assert chance(7, 1, 2).random() == 0.2560906034900635
    assert chance(1, 23, 4).random() != chance(12, 3, 4).random()


def test_each_example_is_another_in_each_epoch_and_the_same_in_each_launch(tmp_path):
    one = source(tmp_path, epochs=2, seed=3)
    every = documents(one, range(one.steps))
    assert sorted(every) == [(epoch, index) for epoch in range(2) for index in range(20)]
    assert sum(every[0, index] != every[1, index] for index in range(20)) > 10
    random.seed(99)  # what else happens in the process changes nothing
    other = source(tmp_path, epochs=2, seed=3, dataset={"workers": 3}, cache=tmp_path / "cache")
    assert (other.digest, other.steps) == (one.digest, one.steps)
    backwards = {}
    for number in reversed(range(other.steps)):
        backwards |= documents(other, range(number, number + 1))
    assert backwards == every
    resumed = [step.samples for step in other.following(other.steps // 2, rank=1, world=2)]
    assert resumed == [one.step(number).samples for number in range(one.steps // 2, one.steps)]
    third = source(tmp_path, epochs=2, seed=3, cache=tmp_path / "cache")
    assert (third.steps, third.report) == (one.steps, one.report)


def test_without_packing_lengths_differ_all_the_same(tmp_path):
    one = source(tmp_path, epochs=2, dataset={"packing": False})
    assert one.steps == 6
    assert sorted(documents(one, range(6))) == [(epoch, index) for epoch in range(2) for index in range(20)]


def test_a_transform_may_make_an_example_of_what_is_none(tmp_path):
    code = "def own(example, rng):\n    return {'prompt': example['q'], 'completion': example['a']}\n"
    one = source(tmp_path, code, "own", values=[{"q": "2+2=", "a": "4"}])
    assert one.report.examples == 1


def test_a_transform_does_not_change_what_the_next_epoch_is_given(tmp_path):
    code = """
def grow(example, rng):
    example["messages"][1]["content"] += "!"
    return example
"""
    one = source(tmp_path, code, "grow", epochs=2)
    every = documents(one, range(one.steps))
    assert all(every[0, index] == every[1, index] for index in range(20))


def test_an_error_says_which_example(tmp_path):
    code = "def own(example, rng):\n    return example['messages'] if '7?' in str(example) else example\n"
    with pytest.raises(InvalidInput, match=r"data\.jsonl:8: is \[\{.*which is not an object"):
        source(tmp_path, code, "own", dataset={"badLines": "fail"})
    code = """
def own(example, rng):
    asked = example["messages"][0]["content"]
    return {} if "7?" in asked else 1 / 0 if "9?" in asked else example
"""
    with pytest.raises(InvalidInput) as caught:
        source(tmp_path, code, "own")
    assert "data.jsonl:8: has no keys" in caught.value.message
    assert "data.jsonl:10: own.py:own raised ZeroDivisionError: division by zero" in caught.value.message
    left = source(tmp_path, code, "own", dataset={"badLines": "skip"})
    assert (left.report.examples, [each.line for each in left.report.bad]) == (16, [8, 10, 18, 20])
    assert sorted(index for _, index in documents(left, range(left.steps))) == [
        *range(7),
        8,
        *range(10, 17),
        18,
    ]


def test_an_error_in_a_later_epoch_comes_out_before_the_run_begins(tmp_path):
    code = """
seen = []
def own(example, rng):
    seen.append(example)
    if len(seen) > 20:
        raise KeyError("late")
    return example
"""
    with pytest.raises(InvalidInput, match=r"data\.jsonl:1: own\.py:own raised KeyError: 'late'"):
        source(tmp_path, code, "own", epochs=2)


def test_the_digest_follows_the_code(tmp_path):
    assert source(tmp_path).digest != source(tmp_path, REPEAT.replace("9", "8")).digest


@pytest.mark.parametrize(
    ("code", "name", "words"),
    [
        (None, "gone.py:f", r"gone\.py cannot be read: No such file"),
        ("def g(example, rng): ...", "own.py:f", r"own\.py has no function f"),
        ("f = 3", "own.py:f", r"own\.py has no function f"),
        ("import nothing_of_that_name", "own.py:f", r"own\.py raised ModuleNotFoundError: No module named"),
        ("def f(:", "own.py:f", r"own\.py raised SyntaxError"),
    ],
)
def test_a_transform_that_is_none_is_told(tmp_path, code, name, words):
    if code is not None:
        (tmp_path / "own.py").write_text(code)
    with pytest.raises(InvalidInput, match=words):
        load(name, tmp_path)
