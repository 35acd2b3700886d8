"""Anybody's files to objects: as kubectl reads them, with places, and no file that makes it fail."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.manifests import reading
from stoker.manifests.documents import MAX_DEPTH, scalar
from stoker.manifests.reading import Reading, read, read_text
from stoker.spec.faults import Position

POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n"


def _names(found: Reading) -> list[str]:
    return [str(manifest) for manifest in found.manifests]


def _kinds(found: Reading) -> list[tuple[str, int, int]]:
    return [(trouble.kind, trouble.line, trouble.column) for trouble in found.troubles]


def _value(text: str) -> Any:
    return read_text(f"kind: x\nv: {text}\n").manifests[0].data["v"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ("y", True),
        ("N", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'yes'", "yes"),
        ("10", 10),
        ("-3", -3),
        ("0644", 420),
        ("0o644", 420),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("089", 89),
        ("1.50", 1.5),
        ("1e3", 1000),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("1.2.3", "1.2.3"),
        ("10Gi", "10Gi"),
        ("!!str 10", "10"),
        ("!!int '10'", 10),
        ("!!float 1", 1),
        ("! 10", "10"),
        ("9" * 500, "9" * 500),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
        ("[1, two]", [1, "two"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_values_are_those_that_kubectl_reads(text: str, value: Any) -> None:
    found = _value(text)
    assert (found, type(found)) == (value, type(value))


def test_keys_that_are_no_text_become_text() -> None:
    manifest = read_text("kind: x\ndata:\n  1: a\n  yes: b\n  ~: c\n  1.50: d\n  '': e\n").manifests[0]
    assert manifest.data["data"] == {"1": "a", "true": "b", "null": "c", "1.50": "d", "": "e"}
    assert manifest.where(("data", "true"), key=True) == Position(4, 3)


def test_aliases_and_merge_keys() -> None:
    text = "kind: x\nbase: &b {a: 1, b: 2}\nspec:\n  <<: *b\n  b: 3\nother: *b\nboth: {<<: [*b, {c: 4}], d: 5}\n"
    data = read_text(text).manifests[0].data
    assert data["spec"] == {"a": 1, "b": 3}
    assert data["other"] == {"a": 1, "b": 2}
    assert data["both"] == {"a": 1, "b": 2, "c": 4, "d": 5}


def test_places_of_keys_and_values() -> None:
    manifest = read_text("# c\n" + POD + "spec:\n  list:\n  - a: 1\n").manifests[0]
    assert manifest.where(("metadata", "name")) == Position(5, 9)
    assert manifest.where(("metadata", "name"), key=True) == Position(5, 3)
    assert manifest.where(("spec", "list", 0, "a")) == Position(8, 8)
    assert manifest.where(("spec", "list", 0, "missing")) == Position(8, 5)


def test_many_documents_with_empty_ones_and_comments() -> None:
    found = read_text(f"---\n# nothing\n---\n{POD}---  # next\n{POD}...\n---\n")
    assert _names(found) == ["Pod a", "Pod a"]
    assert [manifest.where(()).line for manifest in found.manifests] == [4, 9]
    assert found.troubles == ()


def test_a_broken_document_costs_only_itself() -> None:
    found = read_text(f"{POD}---\na: [1\n---\n{POD}---\n\tx: 1\n---\n{POD}")
    assert _names(found) == ["Pod a"] * 3
    assert [(kind, line) for kind, line, _ in _kinds(found)] == [("syntax", 7), ("syntax", 13)]
    assert [manifest.document.index for manifest in found.manifests] == [0, 2, 4]


def test_a_line_of_dashes_in_a_text_block_is_text() -> None:
    found = read_text(POD + "data: |\n  a\n  ---\n  b\n")
    assert found.manifests[0].data["data"] == "a\n---\nb\n"


def test_a_key_written_twice_is_said_and_the_last_one_wins() -> None:
    found = read_text("kind: x\nspec:\n  a: 1\n  a: 2\n")
    assert _kinds(found) == [("duplicate-key", 4, 3)]
    assert "first in line 3" in found.troubles[0].message
    assert found.manifests[0].data["spec"] == {"a": 2}


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    found = read_text("\ufeff" + POD.replace("\n", "\r\n"))
    assert _names(found) == ["Pod a"]
    assert found.manifests[0].where(("metadata", "name")) == Position(4, 9)


def test_json_with_tabs() -> None:
    found = read_text('{\n\t"kind": "Pod",\n\t"metadata": {"name": "a"}\n}\n')
    assert _names(found) == ["Pod a"]
    assert found.manifests[0].where(("kind",)) == Position(2, 10)


def test_items_of_lists_are_objects_of_their_own() -> None:
    text = "kind: List\nitems:\n- {kind: Pod, metadata: {name: a}}\n- {kind: Job, metadata: {name: b}}\n"
    found = read_text(text)
    assert [(str(each), each.root) for each in found.manifests] == [("Pod a", ("items", 0)), ("Job b", ("items", 1))]
    assert found.manifests[1].where(("metadata", "name")) == Position(4, 32)


def test_items_of_a_printed_list_have_its_kind() -> None:
    found = read_text("apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: a}\n")
    assert [(each.api_version, str(each)) for each in found.manifests] == [("apps/v1", "Deployment a")]


def test_a_stream_of_json_objects() -> None:
    found = read_text('{"kind": "Pod"}\n{"kind": "Job"}{"kind": "Pod"}')
    assert [manifest.where(()) for manifest in found.manifests] == [Position(1, 1), Position(2, 1), Position(2, 16)]
    assert found.troubles == ()


def test_lists_that_are_empty_or_within_a_list() -> None:
    assert read_text("apiVersion: v1\nkind: List\nitems: []\n").manifests == ()
    text = "kind: List\nitems:\n- kind: List\n  items:\n  - {kind: Pod, metadata: {name: a}}\n"
    assert [(str(each), each.root) for each in read_text(text).manifests] == [("Pod a", ("items", 0, "items", 0))]


def test_a_json_array_of_objects() -> None:
    assert _names(read_text('[{"kind": "Pod"}, {"kind": "Job"}]')) == ["Pod (no name)", "Job (no name)"]


def test_the_objects_of_a_kro_graph() -> None:
    text = "kind: ResourceGraphDefinition\nspec:\n  resources:\n  - id: a\n    template:\n      kind: Pod\n"
    text += "      metadata: {name: '${x}'}\n"
    graph, pod = read_text(text).manifests
    assert (str(pod), pod.inside is graph, pod.templated) == ("Pod ${x}", True, True)
    assert pod.where(("kind",)) == Position(6, 13)


def test_the_objects_of_an_argo_step_at_their_places_in_the_file() -> None:
    text = """\
kind: Workflow
spec:
  templates:
  - name: make
    resource:
      action: create
      manifest: |
        kind: Job
        metadata:
          name: job-{{workflow.name}}  # named
"""
    workflow, job = read_text(text).manifests
    assert (str(job), job.inside is workflow, job.templated) == ("Job job-{{workflow.name}}", True, True)
    assert job.where(("metadata", "name")) == Position(10, 17)
    assert job.document.comments == {10: "# named"}


def test_what_cannot_be_read_of_an_argo_step_is_said_at_its_place() -> None:
    text = "kind: Workflow\nspec:\n  templates:\n  - resource:\n      manifest: |\n        kind: Job\n        x: [\n"
    found = read_text(text)
    assert [str(each) for each in found.manifests] == ["Workflow (no name)"]
    assert [(trouble.kind, trouble.line) for trouble in found.troubles] == [("syntax", 8)]
    assert found.troubles[0].message.startswith("in the text of an object: ")


def test_comments_are_those_that_yaml_has() -> None:
    text = "kind: x  # one\n# two\na: \"# no\"\nb: '#no'\nc: a#b\nd: |  # three\n  # no\n  x\ne: 1 # four\n"
    assert read_text(text).manifests[0].document.comments == {1: "# one", 2: "# two", 6: "# three", 9: "# four"}


def test_comments_belong_to_the_document_they_stand_in_or_before() -> None:
    first, second = read_text(f"# a\n{POD}# b\n---\n# c\n{POD}").manifests
    assert first.document.comments == {1: "# a", 6: "# b"}
    assert second.document.comments == {8: "# c"}


# What is no object, and what cannot be read.


def test_a_named_text_without_objects_is_said() -> None:
    assert _kinds(read_text("a: 1\n")) == [("not-an-object", 1, 1)]
    assert _kinds(read_text("")) == [("no-manifests", 1, 1)]
    assert _kinds(read_text("# only\n")) == [("no-manifests", 1, 1)]
    assert _kinds(read_text("kind: half\n")) == []


def test_bad_bytes_are_refused_with_their_place() -> None:
    assert _kinds(read_text(POD.encode() + b"x: \xff\n")) == [("encoding", 5, 4)]
    assert "UTF-16" in read_text(POD.encode("utf-16")).troubles[0].message
    assert _kinds(read_text(POD + "x: \0\n")) == [("encoding", 5, 4)]


def test_a_bomb_of_aliases_is_refused_in_little_memory() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    tracemalloc.start()
    found = read_text("kind: x\n" + "\n".join(lines))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [trouble.kind for trouble in found.troubles] == ["aliases"]
    assert peak < 1 << 20


def test_a_bomb_in_many_documents_is_one_file_s_budget() -> None:
    one = "kind: x\na: &a [" + ",".join(["x"] * 1000) + "]\nb: [" + ",".join(["*a"] * 500) + "]\n"
    found = read_text("---\n".join([one] * 3))
    assert [trouble.kind for trouble in found.troubles] == ["aliases"]
    assert len(found.manifests) == 1


@pytest.mark.parametrize("text", ["[" * 200, "a: " + "{b: " * 200, "- " * 200 + "x"])
def test_depth_is_refused(text: str) -> None:
    assert [trouble.kind for trouble in read_text(text).troubles] == ["depth"]
    assert MAX_DEPTH == 128


def test_no_more_faults_are_listed_than_help() -> None:
    found = read_text("---\n[\n" * 5000 + "---\n" + POD)
    assert len(found.troubles) == 101
    assert found.troubles[-1].message.startswith("100 parts were read and 100 faults found up to here")


def test_a_million_brackets_are_refused() -> None:
    assert [trouble.kind for trouble in read_text("[" * 1_000_000).troubles] == ["depth"]


def test_a_template_is_named_as_such() -> None:
    assert _kinds(read_text("{{- if .Values.x }}\nkind: Pod\n{{- end }}\n"))[0][0] == "template"


def test_a_large_file_is_refused_from_its_size(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as out:
        out.truncate(50 << 20)
    tracemalloc.start()
    found = read([str(file)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert _kinds(found) == [("size", 1, 1)]
    assert peak < 1 << 20
    assert [trouble.kind for trouble in read(["-"], stdin=b" " * (reading.MAX_BYTES + 1)).troubles] == ["size"]


# Files and folders.


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_is_searched_in_order_and_what_is_no_manifest_is_passed_over(tree: Path) -> None:
    _put(tree / "b" / "x.yml", POD)
    _put(tree / "a.yaml", POD)
    _put(tree / "c.json", '{"kind": "Pod"}')
    for name in ("values.yaml", "notes.txt", ".git/x.yaml", "node_modules/x.yaml", "b/compose.yaml"):
        _put(tree / name, "services: {}\n" if "compose" in name or "values" in name else POD)
    found = read(["."])
    assert found.files == ("a.yaml", "b/x.yml", "c.json")
    assert found.troubles == ()
    assert set(found.texts) == set(found.files)


def test_a_file_is_read_once_whatever_it_is_called(tree: Path) -> None:
    _put(tree / "a.yaml", POD)
    (tree / "again.yaml").symlink_to("a.yaml")
    (tree / "loop").symlink_to(".", target_is_directory=True)
    (tree / "b").mkdir()
    (tree / "b" / "up").symlink_to("..", target_is_directory=True)
    assert len(read(["a.yaml", ".", "a.yaml"]).manifests) == 1


def test_a_link_to_a_folder_is_followed(tree: Path) -> None:
    _put(tree / "elsewhere" / "a.yaml", POD)
    (tree / "here").mkdir()
    (tree / "here" / "linked").symlink_to("../elsewhere", target_is_directory=True)
    assert read(["here"]).files == ("here/linked/a.yaml",)


def test_a_path_that_is_not_there(tree: Path) -> None:
    assert [(trouble.kind, trouble.file) for trouble in read(["no.yaml"]).troubles] == [("missing", "no.yaml")]


def test_stdin(tree: Path) -> None:
    found = read(["-"], stdin=POD.encode())
    assert (found.files, _names(found)) == (("<stdin>",), ["Pod a"])


def test_a_broken_file_that_looks_like_manifests_is_said_in_a_folder(tree: Path) -> None:
    _put(tree / "a.yaml", "apiVersion: v1\nkind: [\n")
    _put(tree / "b.yaml", "just: [\n")
    assert [trouble.file for trouble in read(["."]).troubles] == ["a.yaml"]


def test_patches_of_a_kustomization_are_no_objects(tree: Path) -> None:
    _put(tree / "base" / "pod.yaml", POD)
    _put(
        tree / "base" / "kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [pod.yaml]\n"
        "patches:\n- path: patch.yaml\n- patch: |\n    kind: Pod\npatchesStrategicMerge: [other.yaml]\n",
    )
    _put(tree / "base" / "patch.yaml", "kind: Pod\nmetadata: {name: patch}\n")
    _put(tree / "base" / "other.yaml", "kind: Pod\nmetadata: {name: other}\n")
    assert _names(read(["."])) == ["Pod a"]


def test_a_chart_that_was_not_rendered_is_one_trouble(tree: Path) -> None:
    _put(tree / "chart" / "Chart.yaml", "apiVersion: v2\nname: x\n")
    _put(tree / "chart" / "values.yaml", "kind: x\n")
    for name in ("a.yaml", "b.yaml"):
        _put(tree / "chart" / "templates" / name, "{{- if .Values.x }}\nkind: Pod\n{{- end }}\n")
    _put(tree / "pod.yaml", POD)
    found = read(["."])
    assert [(trouble.kind, trouble.file) for trouble in found.troubles] == [("template", "chart/Chart.yaml")]
    assert found.troubles[0].hint == "helm template chart | stoker lint -"
    assert _names(found) == ["Pod a"]


def test_a_folder_that_may_not_be_read_stops_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(tree / "a.yaml", POD)
    _put(tree / "b.yaml", POD)
    real = open

    def refusing(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path).endswith("a.yaml"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **named)

    monkeypatch.setattr("builtins.open", refusing)
    found = read(["."])
    assert [(trouble.kind, trouble.message) for trouble in found.troubles] == [
        ("unreadable", "it cannot be read: Permission denied")
    ]
    assert len(found.manifests) == 1


# Whatever it is.

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(max_size=200) | st.binary(max_size=200))
@settings(max_examples=examples(100), deadline=None)
def test_no_text_makes_it_fail(text: str | bytes) -> None:
    read_text(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "kind: x\n",
                "---\n",
                "- a\n",
                "  b: &a 1\n",
                "c: *a\n",
                "{",
                "]",
                "\t",
                "'",
                "|\n",
                "#",
                "<<: *a\n",
                "? ",
                ": ",
                "!!x ",
                "%YAML 1.2\n",
                "...\n",
                "\r",
                "\ufeff",
            ]
        ),
        max_size=20,
    )
)
@settings(max_examples=examples(170), deadline=None)
def test_no_bits_of_yaml_make_it_fail(bits: list[str]) -> None:
    read_text("".join(bits))


@given(trees)
@settings(max_examples=examples(70), deadline=None)
def test_what_was_written_is_read(tree: Any) -> None:
    text = yaml.safe_dump({"kind": "x", "data": tree}, allow_unicode=True)
    found = read_text(text)
    if not found.troubles:
        assert repr(found.manifests[0].data["data"]) == repr(_as_kubectl(yaml.safe_load(text)["data"]))


def _as_kubectl(tree: Any) -> Any:
    """What kubectl reads otherwise than PyYAML, which writes it without quotes: `y`, `0E0`; and whole numbers."""
    if isinstance(tree, float) and tree.is_integer() and abs(tree) < 1 << 63:
        return int(tree)
    if isinstance(tree, dict):
        return {_key(key): _as_kubectl(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_kubectl(each) for each in tree]
    return scalar(tree) if isinstance(tree, str) and _is_written_plain(tree) else tree


def _is_written_plain(text: str) -> bool:
    return bool(text) and yaml.safe_dump(text, allow_unicode=True).partition("\n")[0] == text


def _key(key: str) -> str:
    value = scalar(key) if _is_written_plain(key) else key
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else key
