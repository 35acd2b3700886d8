"""Whatever the text says: no crash, no rule that fails, and what was valid is valid after `--fix`."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog import schemas
from stoker.lint import fixing
from stoker.lint.config import Config
from stoker.lint.rules import RULES
from stoker.lint.run import lint
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
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A real object in which up to three values are something else, or gone."""
    tree = copy.deepcopy(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(tree)))
        if not path:
            continue
        parent = tree
        for part in path[:-1]:
            parent = parent[part]
        if draw(st.booleans()):
            parent[path[-1]] = draw(trees)
        else:
            del parent[path[-1]]
    return tree


def _read(*objects: Any) -> Reading:
    return read_text(yaml.safe_dump_all(objects, allow_unicode=True), "some.yaml")


def _failed(reading: Reading) -> list[str]:
    return [f.message for f in lint(reading).findings if f.rule == "STK-LINT-003"]


@given(trees)
@settings(max_examples=150, deadline=None)
def test_no_tree_makes_a_rule_fail(tree: Any) -> None:
    assert _failed(_read(tree)) == []


@given(trees, st.sampled_from(REAL))
@settings(max_examples=150, deadline=None)
def test_no_spec_makes_a_rule_fail(tree: Any, real: dict[str, Any]) -> None:
    assert _failed(_read({**real, "spec": tree})) == []


@given(st.lists(damaged(), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_damage_to_real_objects_makes_a_rule_fail(objects: list[dict[str, Any]]) -> None:
    assert _failed(_read(*objects)) == []


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_it_fail(text: str) -> None:
    assert _failed(read_text(text, "some.yaml")) == []


@given(damaged())
@settings(max_examples=200, deadline=None)
def test_what_validates_still_validates_after_fix(tree: dict[str, Any]) -> None:
    reading = _read(tree)
    known = all(schemas.find(each.api_version, each.kind) for each in reading.manifests)  # or nothing was validated
    if known and not _refused(reading):
        assert _refused(fixing.fix(reading, Config()).reading) == []


def _refused(reading: Reading) -> list[str]:
    """What the API server would refuse, as kinds of faults with their places; without the numbers of items, which
    change when an item before goes."""
    api = [rule for rule in RULES if rule.id.startswith("STK-API-")]
    found = [f for f in lint(reading, rules=api).findings if f.severity.value == "error"]
    return [f"{f.rule} {re.sub(r'[0-9]+(?=[]])', '', f.path)}" for f in found]
