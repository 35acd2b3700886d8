"""JSON by the fast library, and what only the standard one reads and writes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.base import json_text

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_written_is_read_again_by_either(value: object) -> None:
    written = json_text.dumps(value)
    assert json_text.loads(written) == value
    assert json.loads(written) == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
        ("ü \x00", '"ü \\u0000"'.encode()),
        ("\ud800", b'"\\ud800"'),  # half a pair: the client's own text goes on as it came
        (2**70, b"1180591620717411303424"),
        (math.inf, b"null"),
        ({1: "one"}, b'{"1":"one"}'),
    ],
)
def test_what_is_written(value: object, written: bytes) -> None:
    assert json_text.dumps(value) == written


@pytest.mark.parametrize(
    ("text", "value"),
    [(b'"\\ud800"', "\ud800"), (b"[Infinity]", [math.inf]), ('{"a": "ü"}', {"a": "ü"}), (b' {"a":1,"a":2} ', {"a": 2})],
)
def test_what_is_read(text: bytes | str, value: object) -> None:
    assert json_text.loads(text) == value


@pytest.mark.parametrize("text", [b"", b"{", b"{'a': 1}", b"\xff", b"nul"])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError):
        json_text.loads(text)


def test_what_has_no_json() -> None:
    with pytest.raises(TypeError):
        json_text.dumps(object())
