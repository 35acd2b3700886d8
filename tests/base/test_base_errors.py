"""The tree of errors is what its docstring says, and nothing else."""

import inspect
import re

import pytest

from stoker.base import errors
from stoker.base.errors import StokerError


def documented() -> dict[str, tuple[str | None, int, int]]:
    """Name -> (parent, exit code, HTTP status), as written; what a line leaves out is its parent's."""
    found: dict[str, tuple[str | None, int, int]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ( *)([A-Z]\w+) {2,}(.*)$", line) or re.match(r"^    ( *)([A-Z]\w+)()$", line)
        if match is None:
            continue
        depth, name, rest = len(match[1]), match[2], match[3]
        above = [(d, n) for d, n in above if d < depth]
        parent = above[-1][1] if above else None
        _, exit_code, status = found[parent] if parent else (None, 1, 500)
        exit_code = int(m[1]) if (m := re.search(r"exit (\d)", rest)) else exit_code
        status = int(m[1]) if (m := re.search(r"HTTP (\d{3})", rest)) else status
        found[name] = (parent, exit_code, status)
        above.append((depth, name))
    return found


def existing() -> dict[str, tuple[str | None, int, int]]:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, StokerError)]
    return {
        c.__name__: (None if c is StokerError else c.__base__.__name__, c.exit_code, c.status)  # type: ignore[union-attr]
        for c in classes
    }


def test_the_docstring_is_the_tree() -> None:
    assert len(existing()) >= 16
    assert documented() == existing()


def test_codes_are_words_and_differ() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, StokerError)]
    codes = [c.code for c in classes]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize(
    "kind", [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, StokerError)]
)
def test_each_takes_a_message_a_hint_and_a_code(kind: type[StokerError]) -> None:
    error = kind("what was wrong", hint="what to do", code="own_code")
    assert (str(error), error.message, error.hint, error.code) == (
        "what was wrong",
        "what was wrong",
        "what to do",
        "own_code",
    )
    assert kind("x").code == kind.code


def test_a_message_can_be_written_down_whatever_an_engine_said() -> None:
    assert StokerError("half a smile: \ud83d").message == "half a smile: ?"
    assert StokerError("ünder").message == "ünder"
