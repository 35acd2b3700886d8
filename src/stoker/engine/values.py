"""Values out of a request's body, checked: every refusal names its parameter, what it was, and what would be right."""

import json
from collections.abc import Mapping
from typing import Any

from stoker.base.errors import InvalidInput

Json = Mapping[str, Any]

LENGTHS = ("max_tokens", "max_completion_tokens")
"""How long an answer may be; the newer name wins."""
COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions; a chat answer may be as long as the context allows."""


def get(body: Json, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """The value, or the default where it is missing or null; a boolean is no number."""
    value = body.get(name)
    if value is None:
        return default
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise wrong_type(name, value, kinds)
    return value


def wrong_type(name: str, value: object, kinds: tuple[type, ...]) -> InvalidInput:
    wanted = " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)
    return InvalidInput(f"{name} is {shown(value)}; it has to be {wanted}", param=name, code="invalid_type")


_KINDS = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "an array",
}


def shown(value: object) -> str:
    text = dumped(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # JSON that was read may be nested too deeply to be written from here
        return "(nested too deeply)"


def number(body: Json, name: str, low: float, high: float, default: float) -> float:
    value: float = get(body, name, (int, float), default)
    if not low <= value <= high:
        raise InvalidInput(f"{name} is {value}; it has to be between {low} and {high}", param=name)
    return float(value)


def refuse_unless(body: Json, name: str, is_harmless: Any, kind: type | tuple[type, ...]) -> None:
    value = get(body, name, kind, None)
    if value is not None and not is_harmless(value):
        raise InvalidInput(
            f"{name} is {shown(value)}; the embedded engine cannot do that, and takes no other value than its default",
            param=name,
            code="unsupported_value",
        )


def missing(name: str) -> InvalidInput:
    return InvalidInput(f"{name} is missing", param=name, code="missing_required_parameter")
