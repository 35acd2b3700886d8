"""Story: the schema, the docs and the types say the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.spec import json_schema
from stoker.spec.platform import Platform
from stoker.spec.reference import BEGIN, BEGIN_RUN, table, with_table
from stoker.spec.run import Run
from stoker.spec.schema import at_path, expected, run_json_schema, schema_of, sections_of
from stoker.spec.section import EXPECTED, Section, yaml_name

ROOT = Path(__file__).parents[2]
FILES = (Platform, Run)


@pytest.mark.parametrize("file", FILES)
def test_every_section_is_in_the_schema_and_every_key_is_described(file: type[Section]) -> None:
    schema, sections = schema_of(file), sections_of(file)
    for section in sections:
        place = schema if section is file else schema["$defs"][section.__name__]
        assert set(place["properties"]) == {yaml_name(name) for name in section.model_fields}
        assert place["additionalProperties"] is False
        for name, entry in place["properties"].items():
            assert len(entry.get("description", "")) > 10, f"{section.__name__}.{name} wants a docstring under it"
    assert len(sections) == len(schema["$defs"]) + 1


def test_every_kind_of_section_is_of_one_of_the_two_files_or_of_a_request() -> None:
    """One that nothing refers to any more would not be missed."""
    known = {section for file in FILES for section in sections_of(file)}
    others = {kind for kind in Section.__subclasses__() if kind.__module__ != "stoker.spec.requests"} - known
    assert others == set()


def test_the_schema_of_a_run_file_is_of_that_file() -> None:
    schema = run_json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["name", "data"]
    assert at_path(schema, ("optimizer", "learningRate"))["default"] == 2e-4
    assert at_path(schema, ("evaluation", "suites", 0, "check"))["enum"] == ["exact", "contains", "regex", "tool"]
    run_json_schema()["properties"].clear()
    assert run_json_schema()["properties"]


def test_the_schema_is_json_in_the_names_of_yaml_without_pydantics_titles() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "global" in schema["properties"]
    assert '"title"' not in json.dumps({**schema, "title": None}).replace('"title": null', "")
    assert at_path(schema, ("llm", "models", "any", "replicas", "min"))["minimum"] == 0
    assert at_path(schema, ("llm", "models", "any", "prices"))["default"] == {
        "inputUsdPerMillionTokens": 0.1,
        "cachedInputUsdPerMillionTokens": 0.05,
        "outputUsdPerMillionTokens": 0.4,
    }


def test_changing_a_schema_that_was_handed_out_changes_nobody_elses() -> None:
    json_schema()["properties"].clear()
    assert json_schema()["properties"]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from parts(value)


@pytest.mark.parametrize(("file", "least"), [(Platform, 10), (Run, 5)])
def test_every_pattern_is_explained_in_words(file: type[Section], least: int) -> None:
    """Or a message would have to show a regular expression, or nothing."""
    explained = [part for part in parts(schema_of(file)) if part.get("type") == "string" and "pattern" in part]
    assert len(explained) > least
    for part in explained:
        assert part.get(EXPECTED), part


@pytest.mark.parametrize("file", FILES)
def test_what_a_value_must_be_can_be_said_of_every_key(file: type[Section]) -> None:
    schema = schema_of(file)
    for section in sections_of(file):
        place = schema if section is file else schema["$defs"][section.__name__]
        for name in place["properties"]:
            assert expected(at_path({**place, "$defs": schema["$defs"]}, (name,)), schema) != "another value", name


@pytest.mark.parametrize(("name", "begin"), [("docs/spec.md", BEGIN), ("docs/training/run-file.md", BEGIN_RUN)])
def test_the_tables_in_the_docs_are_current(name: str, begin: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert begin in page
    assert page == with_table(page), f"run: python -m stoker.spec {name}"


def test_a_table_spells_out_the_entries_of_a_list() -> None:
    rows = table(schema_of(Run)).splitlines()
    assert [row.partition(" | ")[0] for row in rows if "suites" in row.partition(" | ")[0]] == [
        f"| `evaluation.suites{key}`" for key in ("", *(f"[].{name}" for name in SUITE))
    ]


SUITE = ("name", "data", "check", "leastScore", "maxTokens")


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        with_table("no marks here")
