"""Whatever the text says: no crash, no rule that fails, and what was valid is valid after `--fix`."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from effort import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stoker.catalog import schemas
from stoker.lint import documentation, fixing
from stoker.lint.config import Config
from stoker.lint.rules import RULES
from stoker.lint.run import lint, mendable
from stoker.manifests.reading import Reading, read, read_text

HERE = Path(__file__).parent
REAL = [manifest.data for name in ("guide_wrong", "guide_right") for manifest in read([str(HERE / name)]).manifests]
"""Objects of the kinds that the rules look at: what grows from them gets deep into the rules."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(["", "0", "-1", "10%", "1Gi", "${a.b}", "{{x}}", "*", "true", "Never", "9" * 400]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += _places(value, (*path, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            found += _places(value, (*path, i))
    return found


@st.composite
def damaged_once(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    """The object, in which one value is something else, or gone."""
    tree = copy.deepcopy(tree)
    path = draw(st.sampled_from(_places(tree)))
    if path:
        parent: Any = tree
        for part in path[:-1]:
            parent = parent[part]
        if draw(st.booleans()):
            parent[path[-1]] = draw(trees)
        else:
            del parent[path[-1]]
    return tree


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A real object in which up to three values are something else, or gone."""
    tree = draw(st.sampled_from(REAL))
    for _ in range(draw(st.integers(1, 3))):
        tree = draw(damaged_once(tree))
    return tree


def _read(*objects: Any) -> Reading:
    return read_text(yaml.safe_dump_all(objects, allow_unicode=True), "some.yaml")


def _failed(reading: Reading) -> list[str]:
    return [f.message for f in lint(reading).findings if f.rule == "STK-LINT-003"]


@given(trees)
@settings(max_examples=examples(50), deadline=None)
def test_no_tree_makes_a_rule_fail(tree: Any) -> None:
    assert _failed(_read(tree)) == []


@given(trees, st.sampled_from(REAL))
@settings(max_examples=examples(50), deadline=None)
def test_no_spec_makes_a_rule_fail(tree: Any, real: dict[str, Any]) -> None:
    assert _failed(_read({**real, "spec": tree})) == []


@given(st.lists(damaged(), min_size=1, max_size=3))
@settings(max_examples=examples(100), deadline=None)
def test_no_damage_to_real_objects_makes_a_rule_fail(objects: list[dict[str, Any]]) -> None:
    assert _failed(_read(*objects)) == []


@given(st.text(max_size=300))
@settings(max_examples=examples(50), deadline=None)
def test_no_text_makes_it_fail(text: str) -> None:
    assert _failed(read_text(text, "some.yaml")) == []


def _refused(reading: Reading) -> list[str]:
    """What the API server would refuse, as kinds of faults with their places; without the numbers of items, which
    change when an item before goes."""
    api = [rule for rule in RULES if rule.id.startswith("STK-API-")]
    found = [f for f in lint(reading, rules=api).findings if f.severity.value == "error"]
    return [f"{f.rule} {re.sub(r'[0-9]+(?=[]])', '', f.path)}" for f in found]


@st.composite
def varied(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    """The object with another value of the same type in one place, or without one entry: mostly still valid."""
    tree = copy.deepcopy(tree)
    leaves = [path for path in _places(tree) if path and not isinstance(_at(tree, path), dict | list)]
    path = draw(st.sampled_from([each for each in leaves if each[0] not in ("apiVersion", "kind")]))
    parent, value = _at(tree, path[:-1]), _at(tree, path)
    if draw(st.booleans()):
        del parent[path[-1]]
    elif isinstance(value, bool):
        parent[path[-1]] = not value
    elif isinstance(value, int):
        parent[path[-1]] = draw(st.integers(0, 70000))
    else:
        parent[path[-1]] = draw(st.sampled_from(["a", "other", "1", "10%", "5m", "Exists", "${a.b}", "a:1", "2Gi"]))
    return tree


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _is_validated(reading: Reading) -> bool:
    """Whether there is a schema for each object: without one, that nothing is refused says nothing."""
    return all(schemas.find(each.api_version, each.kind) for each in reading.manifests)


@cache
def _mendable() -> dict[str, list[dict[str, Any]]]:
    """Rule -> the objects of its wrong example, of the rules whose example is valid and can be mended. Found by linting
    them all, so not while tests are collected."""
    examples = {rule.id: documentation.of(rule).wrong for rule in RULES}
    read_ones = {rule_id: read_text(text, "some.yaml") for rule_id, text in examples.items()}
    return {
        rule_id: [each.data for each in reading.manifests if each.inside is None]
        for rule_id, reading in read_ones.items()
        if mendable(reading, Config()) and _is_validated(reading) and not _refused(reading)
    }


def test_valid_examples_are_mended_and_still_valid() -> None:
    for rule_id, objects in _mendable().items():
        fixed = fixing.fix(_read(*objects), Config())
        assert fixed.count > 0, rule_id
        assert _refused(fixed.reading) == [], rule_id
    assert len(_mendable()) >= 12


@given(st.data())
@settings(max_examples=examples(100), deadline=None)
def test_what_validates_still_validates_after_fix(data: st.DataObject) -> None:
    """With something else in one place of an example, where it is valid all the same and still mended."""
    objects = copy.deepcopy(_mendable()[data.draw(st.sampled_from(sorted(_mendable())))])
    which = data.draw(st.integers(0, len(objects) - 1))
    objects[which] = data.draw(varied(objects[which]))
    reading = _read(*objects)
    assume(_is_validated(reading) and not _refused(reading))
    fixed = fixing.fix(reading, Config())
    assume(fixed.count)
    assert _refused(fixed.reading) == []
