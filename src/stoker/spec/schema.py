"""The JSON Schema of `platform.yaml`, and that of run files; and questions to one: what stands at a path, and what must
a value there be."""

import ast
import copy
import functools
import inspect
import itertools
from typing import Any, cast, get_args

from pydantic.json_schema import GenerateJsonSchema

from stoker.spec.faults import Path
from stoker.spec.section import EXPECTED, MAY_HOLD_KEY, Section, plain

Schema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Schema:
    """A copy of `schema()`, to be written out or changed."""
    return copy.deepcopy(schema())


def run_json_schema() -> Schema:
    """Of the run file of `stoker train`, as `json_schema`."""
    from stoker.spec.run import Run

    return copy.deepcopy({"$schema": _DRAFT, "title": "the run file of stoker train", **schema_of(Run)})


@functools.cache
def schema() -> Schema:
    """Draft 2020-12, with the names of YAML, descriptions and defaults. For editors, and for our own messages.

    It is stricter than the loader in one thing: the loader takes a section that is null for one that is not written.
    """
    from stoker.spec.platform import Platform  # whose types take longer to make than a run's, which has a schema, too

    return {"$schema": _DRAFT, "title": "platform.yaml", **schema_of(Platform)}


@functools.cache
def schema_of(kind: type[Section]) -> Schema:
    """As `schema`, of any section by itself."""
    made = cast(Schema, _tidy(kind.model_json_schema(by_alias=True, schema_generator=_Generator)))
    for section in sections_of(kind):
        place = made if section is kind else made["$defs"][section.__name__]
        for field, text in field_docs(section).items():
            place["properties"][section.model_fields[field].alias]["description"] = text
    return made


def sections_of(kind: type[Section]) -> list[type[Section]]:
    """`kind` and all kinds of section in it, each once."""
    found: dict[type[Section], None] = {}
    left: list[Any] = [kind]
    while left:
        part = left.pop()
        left += get_args(part)
        if isinstance(part, type) and issubclass(part, Section) and part not in found:
            found[part] = None
            for field in part.model_fields.values():
                left += [field.annotation, *field.metadata]
    return list(found)


def field_docs(section: type[Section]) -> dict[str, str]:
    """The docstring under each field. Read from the source when asked for, since pydantic's own way takes a tenth of a
    second at every import."""
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(section)).body[0]).body
    return {
        field.target.id: " ".join(doc.value.value.split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    }


def at_path(schema: Schema, path: Path) -> Schema:
    """The part of the schema that describes the value at `path`; empty when nothing does."""
    here = resolved(schema, schema)
    for part in path:
        if isinstance(part, int):
            here = here.get("items", {})
        elif part in here.get("properties", {}):
            here = here["properties"][part]
        else:
            here = next(iter(here.get("patternProperties", {}).values()), {})  # a name that somebody chose
        here = resolved(here, schema)
    return here


def resolved(part: Schema, schema: Schema) -> Schema:
    """`part` with its reference followed and the alternatives null and "embedded" left aside, its own words kept."""
    for _ in range(4):  # a field that may be null, of a referenced kind that has alternatives itself
        own = {key: value for key, value in part.items() if key not in ("$ref", "anyOf", "oneOf")}
        if "$ref" in part:
            part = {**schema["$defs"][part["$ref"].rpartition("/")[2]], **own}
            continue
        choices = [one for key in ("anyOf", "oneOf") for one in part.get(key, ()) if _is_open(one)]
        if not choices:
            break
        part = {**choices[0], **own}
    return part


def is_secret(part: Schema, schema: Schema) -> bool:
    """Whether a wrong value at this place may be a secret that was pasted there."""
    return bool(part.get(MAY_HOLD_KEY)) or any(
        is_secret(one, schema) for key in ("anyOf", "oneOf") for one in part.get(key, ())
    )


def expected(part: Schema, schema: Schema) -> str:
    """Completes "it must be ..."."""
    if EXPECTED in part:
        return str(part[EXPECTED])
    if "enum" in part:
        words = [str(word) for word in part["enum"]]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    match part.get("type"):
        case "integer":
            return "a whole number" + _range(part)
        case "number":
            return "a number" + _range(part)
        case "boolean":
            return "true or false"
        case "array":
            return f"a list of {_count(part.get('minItems', 0), part['maxItems'])} values"
        case "object":
            return _section(part)
        case "string":
            return "text"
    return "another value"


def _section(part: Schema) -> str:
    if "properties" in part:
        return f"a section with keys such as {next(iter(part['properties']))}"
    return f"a section of {_count(part.get('minProperties', 0), part['maxProperties'])} names with their values"


def _count(least: int, most: int) -> str:
    return f"{least} to {most}" if least else f"at most {most}"


def _range(part: Schema) -> str:
    least, above = part.get("minimum"), part.get("exclusiveMinimum")
    most, below = part.get("maximum"), part.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    if least is not None and below is not None:
        return f" from {_number(least)} to below {_number(below)}"
    return f" above {_number(above)} and at most {_number(most)}" if above is not None and most is not None else ""


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_open(choice: Schema) -> bool:
    return choice.get("type") != "null" and "const" not in choice


class _Generator(GenerateJsonSchema):
    def encode_default(self, default: Any) -> Any:
        """Defaults as YAML has them; pydantic would write a price as text."""
        return plain(default)


def _tidy(part: Any, *, names: bool = False) -> Any:
    """Without pydantic's titles, which repeat the names, and with descriptions on one line.

    `names` is True inside `properties`, where a key `title` would be a name.
    """
    if isinstance(part, list):
        return [_tidy(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: " ".join(value.split())
        if key == "description" and isinstance(value, str)
        else _tidy(value, names=key in ("properties", "$defs") and not names)
        for key, value in part.items()
        if names or key != "title"
    }
