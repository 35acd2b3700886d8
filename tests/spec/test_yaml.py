"""Story: text becomes plain data with places, and what two readers could read differently is refused."""

import contextlib
import math
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from stoker.base.errors import SpecInvalid
from stoker.spec import yaml


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every wheel of PyYAML has the C reader: everything here holds for both."""
    monkeypatch.setattr(yaml, "_Loader", getattr(pyyaml, request.param))


def refused(source: str | bytes, **options: Any) -> str:
    with pytest.raises(SpecInvalid) as caught:
        yaml.parse(source, "f.yaml", **options)
    return caught.value.message


def test_data_and_the_place_of_each_key_and_value() -> None:
    document = yaml.parse("a: 1\nb:\n  c: [x, true]\n", "f.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", True]}}
    assert document.where(("b", "c", 1)) == (3, 10)
    assert document.where(("b", "c"), key=True) == (3, 3)
    assert document.where(("b", "c")) == (3, 6)
    assert document.where(()) == (1, 1)


def test_what_is_not_written_is_placed_at_what_is_around_it() -> None:
    document = yaml.parse("a:\n  b: {c: 1}\n", "f.yaml")
    assert document.where(("a", "b", "missing")) == (2, 3)
    assert document.where(("nowhere",)) == (1, 1)


@pytest.mark.parametrize("source", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_nothing_is_none(source: str) -> None:
    assert yaml.parse(source, "f.yaml").data is None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("8", 8),
        ("-8", -8),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e-6", 0.000001),
        ("-.inf", -math.inf),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("'8'", "8"),
        ('"yes"', "yes"),
        ("!!str 8", "8"),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars(written: str, value: object) -> None:
    assert yaml.parse(f"a: {written}", "f.yaml").data == {"a": value}


def test_nan() -> None:
    data = yaml.parse("[.nan]", "f.yaml").data
    assert isinstance(data, list)
    assert math.isnan(data[0])


def test_aliases_are_written_out_and_placed_where_they_stand() -> None:
    document = yaml.parse("a: &x {b: 1}\nc: *x\n", "f.yaml")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.where(("c", "b")) == (2, 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: written twice, first in line 1; keep one of them"),
        ("a:\n  b: 1\n  b: 1\n", "f.yaml:3:3: a.b: written twice, first in line 2; keep one of them"),
        (
            "a: 1\n---\nb: 2\n",
            "f.yaml:2:1: a second document begins here; the file must hold one, without `---` inside",
        ),
        (
            "a: 010",
            'f.yaml:1:4: a: 010 is octal to some readers and decimal to others; drop the zero, or quote it: "010"',
        ),
        ("yes: 1", 'f.yaml:1:1: the key yes means true or false; put it in quotes: "yes"'),
        ("a:\n  1: x", 'f.yaml:2:3: a: the key 1 means a number; put it in quotes: "1"'),
        ("~: 1", 'f.yaml:1:1: the key ~ means nothing; put it in quotes: "~"'),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "f.yaml:3:3: c: merge keys (<<) are not read; write the keys out"),
        ("[a]: 1", "f.yaml:1:1: a key must be a word; this one is a list or a section"),
        ("a: &x b\n*x : 1", "f.yaml:2:1: a key must be a word; this one is an alias (*x)"),
        ("a: *x", "f.yaml:1:4: *x stands for nothing that is complete by here; &x must come before"),
        ("a: &x [*x]", "f.yaml:1:8: *x stands for nothing that is complete by here; &x must come before"),
        (
            "a: !!python/object:os.system {}",
            "f.yaml:1:4: the tag tag:yaml.org,2002:python/object:os.system is not read; write a plain value",
        ),
        ("a: !!binary aGk=", "f.yaml:1:4: the tag tag:yaml.org,2002:binary is not read; write a plain value"),
        ("a: !secret x", "f.yaml:1:4: the tag !secret is not read; write a plain value"),
        ("a:\n\tb: 1", "f.yaml:2:1: a tab; YAML is indented with spaces"),
        ("a: b\x07", "f.yaml:1:5: the control character U+0007 cannot stand in YAML; remove it"),
        ("a: \ud800", "f.yaml:1:4: the control character U+D800 cannot stand in YAML; remove it"),
        (b"a: 1\nb: \xff\xfe", "f.yaml:2:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: " + "9" * 5000, "f.yaml:1:4: a: a number of more than 400 digits; no setting is that large"),
        ("[" * 500, "f.yaml:1:65: nested more than 64 deep"),
    ],
)
def test_refused_with_the_place(source: str | bytes, message: str) -> None:
    assert refused(source) == message


def test_however_deep_it_is_nested_it_is_refused_as_such() -> None:
    """Where it gives up depends on how far libyaml reads ahead; that it does, and what it says, do not."""
    assert refused("[" * 100_000).endswith(": nested more than 64 deep")


@pytest.mark.parametrize("source", ["a: [1, 2", "a: b: c", "a: 'x", "}", "a\nb: 1", "a: @b", "%YAML 9.9\n--- a"])
def test_what_is_not_yaml_is_refused_with_a_place(source: str) -> None:
    message = refused(source)
    assert message.startswith(("f.yaml:1:", "f.yaml:2:"))
    assert ": not YAML: " in message


def test_several_faults_come_together_in_the_order_of_the_text() -> None:
    assert refused("b: 010\nyes: 1\nb: 2\na: [").splitlines()[:4] == [
        "4 faults in f.yaml:",
        'f.yaml:1:4: b: 010 is octal to some readers and decimal to others; drop the zero, or quote it: "010"',
        'f.yaml:2:1: the key yes means true or false; put it in quotes: "yes"',
        "f.yaml:3:1: b: written twice, first in line 1; keep one of them",
    ]


def test_an_alias_bomb_is_refused_where_it_explodes() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 10):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert refused(bomb) == "f.yaml:5:55: holds more than 100000 values, aliases written out"


def test_too_large() -> None:
    assert refused("#" * 101, max_bytes=100) == "f.yaml: 101 bytes; at most 100 are read"
    assert refused("ü" * 51, max_bytes=100) == "f.yaml: 102 bytes; at most 100 are read"
    assert yaml.parse("#" * 100, "f.yaml", max_bytes=100).data is None


def test_carriage_returns_and_a_byte_order_mark_are_fine() -> None:
    assert yaml.parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f.yaml").data == {"a": 1, "b": 2}


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20) | st.sampled_from(
    ["yes", "010", "1e3", "1:30", "~", "", "null", "0o7", "=", "<<", "*a", "# x", "a: b", "- a", " a ", "2024-01-01"]
)
plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(plain_data)
def test_what_is_dumped_reads_back_the_same(data: object) -> None:
    assert yaml.parse(yaml.dump(data), "f.yaml").data == data


@given(st.binary(max_size=200) | st.text("[]{}:,-&*!|>'\"%@`#? \n\tab0~<", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(source: bytes) -> None:
    """Read, or refused as ours: no other exception gets out."""
    with contextlib.suppress(SpecInvalid):
        yaml.parse(source, "f.yaml")
