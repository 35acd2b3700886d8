"""Story: the schema, the docs and the types say the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.spec import Run, json_schema
from stoker.spec.reference import BEGIN, BEGIN_RUN, with_table
from stoker.spec.schema import Schema, at_path, expected, schema_of
from stoker.spec.section import EXPECTED, Section, yaml_name

DOCUMENTS = {"Platform": json_schema(), "Run": schema_of(Run)}
# Those of platform.yaml and of run files; requests to the admin API are sections too.
SECTIONS = [kind for kind in Section.__subclasses__() if kind.__module__ != "stoker.spec.requests"]


def places() -> Iterator[tuple[type[Section], Schema, Schema]]:
    """Each section, its place, and the schema of the document that it is part of."""
    for section in SECTIONS:
        name = section.__name__
        whole = DOCUMENTS.get(name) or next(each for each in DOCUMENTS.values() if name in each["$defs"])
        yield section, whole if name in DOCUMENTS else whole["$defs"][name], whole


def test_every_section_is_in_the_schema_and_every_key_is_described() -> None:
    for section, place, _ in places():
        assert set(place["properties"]) == {yaml_name(name) for name in section.model_fields}
        assert place["additionalProperties"] is False
        for name, entry in place["properties"].items():
            assert len(entry.get("description", "")) > 10, f"{section.__name__}.{name} wants a docstring under it"
    assert len(SECTIONS) == sum(len(each["$defs"]) + 1 for each in DOCUMENTS.values())


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


def test_every_pattern_is_explained_in_words() -> None:
    """Or a message would have to show a regular expression, or nothing."""
    explained = [part for part in parts(DOCUMENTS) if part.get("type") == "string" and "pattern" in part]
    assert len(explained) > 10
    for part in explained:
        assert part.get(EXPECTED), part


def test_what_a_value_must_be_can_be_said_of_every_key() -> None:
    for _, place, schema in places():
        for name in place["properties"]:
            assert expected(at_path({**place, "$defs": schema["$defs"]}, (name,)), schema) != "another value", name


@pytest.mark.parametrize(("name", "begin"), [("spec.md", BEGIN), ("training/run-file.md", BEGIN_RUN)])
def test_the_tables_in_the_docs_are_current(name: str, begin: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8")
    assert begin in page
    assert page == with_table(page), f"run: python -m stoker.spec docs/{name}"


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        with_table("no marks here")
