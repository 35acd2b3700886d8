"""The page that says where each rule of the controllers is and which test shows it: what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src" / "stoker"
PAGE = (TESTS.parent / "docs" / "simulate" / "semantics.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)(?:\[([^\]]+)\])?`", PAGE)))


@cache
def defined(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the functions of a file of tests, and the ids that are written for parameters."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    names = frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))
    ids = frozenset(
        str(each.value.value)
        for each in ast.walk(tree)
        if isinstance(each, ast.keyword) and each.arg == "id" and isinstance(each.value, ast.Constant)
    )
    return names, ids


@pytest.mark.parametrize("file", sorted({file for file, _, _ in NAMED}))
def test_every_test_that_is_named_exists(file: str) -> None:
    names, ids = defined(file)
    here = [(name, parameters) for each, name, parameters in NAMED if each == file]
    assert [name for name, _ in here if name not in names] == []
    assert [parameters for _, parameters in here if parameters and parameters not in ids] == []


def test_a_case_is_in_the_test_that_is_named() -> None:
    """The id stands above the function that it is said to be of."""
    for file, name, parameters in NAMED:
        if parameters:
            tree = ast.parse((TESTS / file).read_text("utf-8"))
            of = next(each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name)
            written = {
                each.value for each in ast.walk(ast.Module(of.decorator_list, [])) if isinstance(each, ast.Constant)
            }  # type: ignore[arg-type]
            assert parameters in written, f"{file}::{name}"


def test_every_row_names_a_test_or_says_why_not() -> None:
    rows = [row for row in ROWS if row[0] not in ("reference section and rule", "case")]
    assert len(rows) > 200
    bare = [row[0] for row in rows if "::test_" not in row[2] and not row[2].startswith(("not reproduced: ", "cases "))]
    assert bare == []
    assert all(len(row) == 3 for row in rows)


def test_all_numeric_cases_are_named() -> None:
    found = {int(each) for _, _, parameters in NAMED for each in re.findall(r"^case (\d+)", parameters)}
    assert found == set(range(1, 40))
    assert {parameters for _, _, parameters in NAMED if parameters.startswith("doc ")} == {
        f"doc {n}" for n in range(1, 6)
    }


def test_files_of_code_that_are_named_exist() -> None:
    places = {place for row in ROWS for place in re.findall(r"`((?:policy|simulate|catalog)/[\w/.]+)`", row[1])}
    assert len(places) > 30
    assert sorted(place for place in places if not (SOURCE / place).exists()) == []
