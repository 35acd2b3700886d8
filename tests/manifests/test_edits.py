"""Changes in the text: what is changed, and what stays as it was to the letter."""

from typing import Any

import pytest
import yaml
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.manifests.documents import parse
from stoker.manifests.edits import Add, CannotEdit, Edit, Remove, Rename, Replace, apply, diff, meaning

TEXT = """\
# one
apiVersion: v1beta1  # old
kind: 'Pool'
spec:
  # how it leaves
  disruption:
    # after a month
    expireAfter: 720h  # 30 days
    policy: When
  limits: {cpu: "10", memory: 1Gi}
  list:
  # the first
  - a: 1
    b: 2
  # the second
  - a: 3
  empty:
---
kind: other
"""


@pytest.mark.parametrize(
    ("edits", "old", "new"),
    [
        ([Replace(("apiVersion",), "v1")], "apiVersion: v1beta1  # old", "apiVersion: v1  # old"),
        ([Replace(("kind",), "Node Pool")], "kind: 'Pool'", "kind: 'Node Pool'"),
        ([Replace(("apiVersion",), "true")], "apiVersion: v1beta1  # old", 'apiVersion: "true"  # old'),
        ([Replace(("spec", "list", 1, "a"), 7)], "- a: 3", "- a: 7"),
        ([Replace(("spec", "limits", "cpu"), "20")], '{cpu: "10"', '{cpu: "20"'),
        ([Replace(("spec", "empty"), "x")], "  empty:\n", "  empty: x\n"),
        (
            [Rename(("spec", "disruption", "policy"), "consolidationPolicy")],
            "policy: When",
            "consolidationPolicy: When",
        ),
        ([Rename(("spec", "limits", "cpu"), "gpu")], "{cpu:", "{gpu:"),
        (
            [Remove(("spec", "disruption", "expireAfter"))],
            "    # after a month\n    expireAfter: 720h  # 30 days\n",
            "",
        ),
        ([Remove(("spec", "limits", "cpu"))], '{cpu: "10", memory: 1Gi}', "{memory: 1Gi}"),
        ([Remove(("spec", "limits", "memory"))], '{cpu: "10", memory: 1Gi}', '{cpu: "10"}'),
        ([Remove(("spec", "list", 0))], "  # the first\n  - a: 1\n    b: 2\n", ""),
        ([Remove(("spec", "list", 1))], "  # the second\n  - a: 3\n", ""),
        ([Remove(("spec", "list", 0, "a"))], "  - a: 1\n    b: 2\n", "  - b: 2\n"),
        ([Remove(("spec", "list", 1, "a"))], "  - a: 3\n", "  - {}\n"),
        ([Add(("spec", "disruption", "after"), "0s")], "    policy: When\n", "    policy: When\n    after: 0s\n"),
        (
            [Add(("spec", "disruption", "after"), "0s", "# at once", ("# one", "# two"))],
            "    policy: When\n",
            "    policy: When\n    # one\n    # two\n    after: 0s  # at once\n",
        ),
        ([Add(("spec", "limits", "gpu"), "4")], "memory: 1Gi}", 'memory: 1Gi, gpu: "4"}'),
        ([Add(("spec", "list", 2), {"a": 4})], "  - a: 3\n", "  - a: 3\n  - a: 4\n"),
        ([Add(("spec", "empty", "x"), 1)], "  empty:\n", "  empty:\n    x: 1\n"),
        (
            [Add(("spec", "template", "spec", "after"), "1h")],
            "  empty:\n",
            "  empty:\n  template:\n    spec:\n      after: 1h\n",
        ),
        (
            [Remove(("spec", "disruption", "expireAfter")), Remove(("spec", "disruption", "policy"))],
            "  disruption:\n    # after a month\n    expireAfter: 720h  # 30 days\n    policy: When\n",
            "  disruption: {}\n",
        ),
    ],
)
def test_an_edit_changes_its_place_and_nothing_else(edits: list[Edit], old: str, new: str) -> None:
    assert apply(TEXT, 0, edits) == TEXT.replace(old, new)
    assert old in TEXT


def test_paths_count_from_the_root_of_the_object() -> None:
    assert apply(TEXT, 0, [Replace(("a",), 7)], ("spec", "list", 1)) == TEXT.replace("- a: 3", "- a: 7")


def test_another_document_of_the_file_is_meant_by_its_number() -> None:
    assert apply(TEXT, 1, [Replace(("kind",), "same")]) == TEXT.replace("kind: other", "kind: same")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Replace(("nothing",), 1), "there is no nothing"),
        (Remove(("spec", "list", 9)), "there is no spec.list[9]"),
        (Rename(("kind",), "spec"), "spec is there already"),
        (Add(("kind",), 1), "kind is there already"),
        (Replace(("spec",), 1), "only a plain value can be replaced"),
    ],
)
def test_what_cannot_be_done_is_refused(edit: Edit, said: str) -> None:
    with pytest.raises(CannotEdit) as refused:
        apply(TEXT, 0, [edit])
    assert said in str(refused.value)


def test_a_document_that_is_not_there_is_refused() -> None:
    with pytest.raises(CannotEdit):
        apply(TEXT, 2, [Replace(("kind",), "x")])


def test_what_an_alias_stands_for_is_not_changed_for_all() -> None:
    text = "a: &x\n  b: 1\nc: *x\n"
    with pytest.raises(CannotEdit):
        apply(text, 0, [Replace(("c", "b"), 2)])


def test_line_ends_stay() -> None:
    text = "a: 1\r\nb:\r\n  c: 2\r\n"
    assert apply(text, 0, [Add(("b", "d"), 3)]) == text + "  d: 3\r\n"
    assert apply(text, 0, [Remove(("a",))]) == "b:\r\n  c: 2\r\n"


def test_a_file_without_a_last_line_end_gets_one_where_it_is_needed() -> None:
    assert apply("a: 1", 0, [Add(("b",), 2)]) == "a: 1\nb: 2\n"


def test_lists_are_indented_as_the_file_indents_them() -> None:
    added = Add(("new",), [{"x": 1, "z": [2]}])
    assert apply("l:\n  - 1\n", 0, [added]) == "l:\n  - 1\nnew:\n  - x: 1\n    z:\n      - 2\n"
    assert apply("l:\n- 1\n", 0, [added]) == "l:\n- 1\nnew:\n- x: 1\n  z:\n  - 2\n"


def test_json_stays_json() -> None:
    text = '{\n  "a": {"b": 1},\n  "c": []\n}\n'
    assert apply(text, 0, [Add(("a", "d"), "yes")]) == text.replace('"b": 1', '"b": 1, "d": "yes"')
    assert apply(text, 0, [Add(("c", 0), {"x": None})]) == text.replace("[]", '[{"x": null}]')
    assert apply(text, 0, [Remove(("a",))]) == '{\n  "c": []\n}\n'


def test_a_block_of_text_in_the_way_is_passed() -> None:
    text = "data:\n  script: |\n    # not a comment\n    run\n\n  other: 1\n"
    assert apply(text, 0, [Remove(("data", "script"))]) == "data:\n\n  other: 1\n"
    assert apply(text, 0, [Add(("data", "new"), 2)]) == text + "  new: 2\n"


def test_a_byte_order_mark_moves_nothing() -> None:
    assert apply("\ufeffa: 1\nb: 2\n", 0, [Replace(("a",), 3)]) == "\ufeffa: 3\nb: 2\n"


def test_a_diff_reads_as_diff_u() -> None:
    assert (
        diff("a: 1\nb: 2\n", "a: 1\nb: 3\n", "f.yaml")
        == "--- f.yaml\n+++ f.yaml\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"
    )


keys = st.sampled_from(["a", "b", "spec", "x/y", "1", "true", "a b"])
values = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["", "x", "1", "true", "a: b", "# c"]))
trees = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [(*path, key) for key, _ in children] + [p for key, each in children for p in _places(each, (*path, key))]


@st.composite
def edited(draw: st.DrawFn) -> tuple[Any, Edit]:
    tree = draw(st.dictionaries(keys, trees, min_size=1, max_size=3))
    path = draw(st.sampled_from(_places(tree)))
    kind = draw(st.sampled_from(["replace", "remove", "add", "rename"]))
    if kind == "remove":
        return tree, Remove(path)
    if kind == "add":
        return tree, Add((*path[:-1], "new") if isinstance(path[-1], str) else path, draw(trees))
    if kind == "rename":
        return tree, Rename(path, draw(keys))
    return tree, Replace(path, draw(values))


@given(edited(), st.booleans())
@settings(max_examples=examples(134), deadline=None)
def test_what_is_changed_is_what_was_meant_or_nothing(case: tuple[Any, Edit], flow: bool) -> None:
    tree, edit = case
    text = yaml.safe_dump(tree, default_flow_style=flow, sort_keys=False)
    try:
        changed = apply(text, 0, [edit])
    except CannotEdit:
        return
    assert [each.data for each in parse(changed, "")[0]] == [meaning(tree, edit)]


@given(edited())
@settings(max_examples=examples(134), deadline=None)
def test_a_block_style_text_is_always_changed(case: tuple[Any, Edit]) -> None:
    """Except for what is no scalar, an item of a list within a list, and a key that is there already."""
    tree, edit = case
    text = yaml.safe_dump(tree, default_flow_style=False, sort_keys=False)
    try:
        meaning(tree, edit)
    except CannotEdit:
        return
    if isinstance(edit, Replace) or any(isinstance(part, int) for part in edit.path):
        return
    changed, _ = parse(apply(text, 0, [edit]), "")
    assert [each.data for each in changed] == [meaning(tree, edit)]
