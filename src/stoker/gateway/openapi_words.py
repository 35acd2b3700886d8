"""Small words for JSON Schema, of which the schemas of the OpenAPI document are made. Pure."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def some(schema: Schema) -> Schema:
    """This, or null."""
    kind = schema.get("type")
    if kind is None or "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}


def text(what: str = "", **more: object) -> Schema:
    return {"type": "string", **({"description": what} if what else {}), **more}


def word(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def whole(what: str = "", **more: object) -> Schema:
    return {"type": "integer", **({"description": what} if what else {}), **more}


def number(what: str = "", **more: object) -> Schema:
    return {"type": "number", **({"description": what} if what else {}), **more}


def yes_or_no(what: str = "") -> Schema:
    return {"type": "boolean", **({"description": what} if what else {})}


def array(items: Schema, **more: object) -> Schema:
    return {"type": "array", "items": items, **more}


def thing(properties: Mapping[str, Schema], *, leaves_out: tuple[str, ...] = (), **more: object) -> Schema:
    """An object that has all of these but those that it may leave out."""
    required = [name for name in properties if name not in leaves_out]
    return {"type": "object", "properties": dict(properties), "required": required, **more}


SOMETHING: Schema = {"not": {"type": "null"}}
NONE: Schema = {"not": {}}
TIME = number("Seconds since the epoch.")
TIME_OR_NONE = some(number("Seconds since the epoch."))
SECOND = whole("Seconds since the epoch.", minimum=0)
COUNT = whole(minimum=0)
USD = number("US dollars.")
