"""Arguments of tools, checked against a JSON Schema that may be somebody else's: in bounded time, with messages that
a model can act on.

Regular expressions of a schema are not run, since one of a few characters can take for ever; the server that wrote it
checks its own.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import exceptions, validators
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from stoker.agents.tools.interface import Json
from stoker.base import json_text
from stoker.base.errors import InvalidInput, TooLarge

MOST_BYTES = 200_000
MOST_DEPTH = 32
MOST_SCHEMA_BYTES = 50_000
MOST_STEPS = 50_000
"""Keywords of a schema that one check may look at."""

# The first two are regular expressions, and the third looks at them; the last compares each item with each other one.
_NOT_CHECKED = frozenset(("pattern", "patternProperties", "unevaluatedProperties", "uniqueItems"))


def bounded(arguments: object, tool: str) -> Json:
    """The arguments, if they are an object of a size that anybody would send. Raises InvalidInput, TooLarge."""
    if not isinstance(arguments, dict):
        kind = type(arguments).__name__
        raise InvalidInput(f"the arguments of {tool} have to be a JSON object such as {{}}; they are a {kind}")
    if not _is_shallow(arguments, MOST_DEPTH):
        raise TooLarge(f"the arguments of {tool} are nested more than {MOST_DEPTH} levels deep")
    try:
        size = len(json_text.dumps(arguments))
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"the arguments of {tool} are not JSON: {exc}") from exc
    if size > MOST_BYTES:
        raise TooLarge(f"the arguments of {tool} are {size} bytes of JSON; {MOST_BYTES} are the most")
    return arguments


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_is_shallow(each, levels - 1) for each in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_is_shallow(each, levels - 1) for each in value)
    return True


def fault_of(schema: object) -> str | None:
    """Why this cannot be the schema of a tool's arguments, or None."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return 'its schema is not one of an object: it has to say "type": "object"'
    if not _is_shallow(schema, 2 * MOST_DEPTH):
        return f"its schema is nested more than {2 * MOST_DEPTH} levels deep"
    if (size := len(json.dumps(schema))) > MOST_SCHEMA_BYTES:
        return f"its schema has {size} bytes; {MOST_SCHEMA_BYTES} are the most"
    try:
        validators.validator_for(schema, default=validators.Draft202012Validator).check_schema(schema)
    except exceptions.SchemaError as error:
        return f"its schema is not JSON Schema: {_cut(error.message)}"
    except RecursionError:
        return "its schema is nested too deeply"
    return None


def checker(tool: str, schema: Json) -> Callable[[Json], Json]:
    """A `BoundTool.check`. `schema` has no fault."""
    base = validators.validator_for(schema, default=validators.Draft202012Validator)

    def check(arguments: Json) -> Json:
        given = bounded(arguments, tool)
        validator = _counting(base)(schema, registry=Registry())  # no reference leads out of the schema
        try:
            found = sorted(validator.iter_errors(given), key=exceptions.relevance, reverse=True)
        except (_TooLong, RecursionError) as exc:
            raise InvalidInput(f"the arguments of {tool} take too long to check; send simpler ones") from exc
        except Unresolvable as exc:
            raise InvalidInput(f"{tool} cannot be called: its schema refers to {_cut(str(exc))}") from exc
        if found:
            said = "; ".join(_said(error) for error in found[:3])
            raise InvalidInput(f"the arguments of {tool} are wrong: {said}{_known(schema)}", param=_path(found[0]))
        return given

    return check


class _TooLong(Exception):
    pass


def _counting(base: Any) -> Any:
    """The validator class, without what takes for ever, and with a bound on all the rest."""
    left = MOST_STEPS

    def counted(function: Any) -> Any:
        def check(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooLong
            yield from function(validator, value, instance, schema) or ()

        return check

    def additional(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if "patternProperties" not in schema:
            yield from base.VALIDATORS["additionalProperties"](validator, value, instance, schema) or ()

    ours = {name: counted(function) for name, function in base.VALIDATORS.items()}
    ours |= {"additionalProperties": counted(additional)} | dict.fromkeys(_NOT_CHECKED)
    return validators.extend(base, ours)


def _said(error: Any) -> str:
    path = _path(error)
    return f"{path}: {_cut(error.message)}" if path else _cut(error.message)


def _path(error: Any) -> str:
    return ".".join(str(part) for part in error.absolute_path)[:100]


def _known(schema: Json) -> str:
    names = schema.get("properties") or {}
    needed = schema.get("required") or ()
    listed = ", ".join(f"{name} (required)" if name in needed else name for name in list(names)[:20])
    return f". It takes: {listed}" if listed else ". It takes no arguments"


def _cut(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
