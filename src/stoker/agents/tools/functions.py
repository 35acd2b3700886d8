"""Python functions as tools: their JSON Schema from type hints, their description from the docstring.

A function is found by `module:name`, or by `path/to/file.py:name` below the folder of platform.yaml. It may have one
parameter annotated `Place`, which it gets and the model does not see. One that is not async runs in a thread.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from stoker.agents.tools import schemas
from stoker.agents.tools.interface import Json, Place, Result
from stoker.agents.tools.threads import in_thread
from stoker.base import json_text
from stoker.base.errors import InvalidInput, StokerError
from stoker.spec.agents import Approval, Effect

F = TypeVar("F", bound=Callable[..., Any])

_MOST_DESCRIPTION = 4000
_MARKS = "__stoker_tool__"
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


@dataclass(frozen=True, slots=True)
class Marks:
    """What a function says of itself. None: the default; platform.yaml wins."""

    effect: Effect | None = None
    repeatable: bool | None = None
    approval: Approval | None = None


def tool(
    *, effect: Effect | None = None, repeatable: bool | None = None, approval: Approval | None = None
) -> Callable[[F], F]:
    """Say of a function what it does to the world. It stays the function that it was."""

    def marked(function: F) -> F:
        setattr(function, _MARKS, Marks(effect, repeatable, approval))
        return function

    return marked


class Function:
    """One `python` tool."""

    def __init__(self, listed_as: str, found: Callable[..., Any]) -> None:
        """Raises InvalidInput for one whose parameters cannot be described to a model."""
        self.marks: Marks = getattr(found, _MARKS, Marks())
        self.description = (inspect.getdoc(found) or "")[:_MOST_DESCRIPTION]
        self._name = listed_as
        self._function = found
        self._is_async = inspect.iscoroutinefunction(found)
        self._place, self._model = _described(listed_as, found)
        self.parameters = _schema_of(listed_as, self._model)

    def check(self, arguments: Json) -> Json:
        """Raises InvalidInput for arguments that do not fit the hints: a number in quotes is no number."""
        self._taken(schemas.bounded(arguments, self._name))
        return arguments

    async def call(self, arguments: Json, place: Place) -> Result:
        taken = self._taken(arguments)
        if self._place is not None:
            taken[self._place] = place
        try:
            if self._is_async:
                return _result(await self._function(**taken))
            return await in_thread(lambda: _result(self._function(**taken)))
        except StokerError:
            raise
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {error}"
            return Result(text=said if str(error) else type(error).__name__, is_error=True)

    def _taken(self, arguments: Json) -> dict[str, Any]:
        """Python's values by the names of the parameters."""
        try:
            # As JSON: then an array may be a tuple, and a string a date, which strict Python would refuse.
            made = self._model.model_validate_json(json_text.dumps(arguments))
        except ValidationError as exc:
            raise _wrong(self._name, exc, self.parameters) from exc
        return {str(made_of.alias): getattr(made, key) for key, made_of in type(made).model_fields.items()}


def _result(value: object) -> Result:
    if isinstance(value, Result):
        return value
    if isinstance(value, str):
        return Result(text=value)
    return Result(text=_ANY.dump_json(value, fallback=str).decode())


def _wrong(name: str, error: ValidationError, parameters: Json) -> InvalidInput:
    found = error.errors(include_url=False, include_context=False)
    said = "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        + ("" if each["type"] in ("missing", "extra_forbidden") else f", not {str(each['input'])[:100]!r}")
        for each in found[:3]
    )
    names = ", ".join(
        f"{key} (required)" if key in parameters.get("required", ()) else key for key in parameters["properties"]
    )
    takes = f"It takes: {names}" if names else "It takes no arguments"
    return InvalidInput(
        f"the arguments of {name} are wrong: {said}. {takes}", param=".".join(map(str, found[0]["loc"])) or None
    )


# --- its parameters -----------------------------------------------------------------------------------------------


def _described(name: str, found: Callable[..., Any]) -> tuple[str | None, type[BaseModel]]:
    """The parameter that gets the place, and a model of all others, each under the alias that is its name."""
    try:
        hints = typing.get_type_hints(found, include_extras=True)
        parameters = inspect.signature(found).parameters.values()
    except (NameError, TypeError, ValueError) as exc:
        raise InvalidInput(f"{name}: the type hints of its function cannot be read: {exc}") from exc
    place: str | None = None
    fields: dict[str, Any] = {}
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise InvalidInput(
                f"{name}: its function has {each}; a tool's parameters have names, each with a type hint"
            )
        if each.name not in hints:
            raise InvalidInput(f"{name}: the parameter {each.name} of its function needs a type hint")
        if hints[each.name] is Place:
            place = each.name
            continue
        default = ... if each.default is each.empty else each.default
        # Not under its own name, which may be one that a model has itself, such as `copy`.
        fields[f"field_{len(fields)}"] = (hints[each.name], Field(default, alias=each.name))
    config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=False)
    try:
        return place, create_model(name, __config__=config, **fields)
    except PydanticUserError as exc:
        raise InvalidInput(f"{name}: a type hint of its function has no JSON: {exc.message[:300]}") from exc


def _schema_of(name: str, model: type[BaseModel]) -> Json:
    try:
        schema = model.model_json_schema(by_alias=True)
    except PydanticUserError as exc:
        raise InvalidInput(f"{name}: a type hint of its function has no JSON Schema: {exc.message[:300]}") from exc
    schema.pop("title", None)
    schema.setdefault("properties", {})
    for each in schema["properties"].values():
        each.pop("title", None)
    return schema


# --- finding it ---------------------------------------------------------------------------------------------------


def function_at(path: str, base: Path) -> Callable[..., Any]:
    """The function that `module:name` or `file.py:name` names. Raises InvalidInput."""
    found: Callable[..., Any] = object_at(path, base)
    if not callable(found) or inspect.isclass(found):
        raise InvalidInput(f"{path} is not a function; it is a {type(found).__name__}")
    return found


def object_at(path: str, base: Path) -> Any:
    """What `module:name` or `file.py:name` names; a file is relative to `base`. Raises InvalidInput."""
    home, _, name = path.rpartition(":")
    try:
        module = _module_of(base / home) if home.endswith(".py") else importlib.import_module(home)
    except Exception as exc:
        raise InvalidInput(f"{path} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    if not hasattr(module, name):
        known = ", ".join(each for each, value in vars(module).items() if callable(value) and each[0] != "_")[:300]
        raise InvalidInput(f"{home} has no {name}; it has: {known or 'no function'}")
    return getattr(module, name)


def _module_of(path: Path) -> ModuleType:
    """Loaded once for each file."""
    whole = path.resolve(strict=True)
    name = f"stoker_file_{whole.stem}_{hashlib.sha256(str(whole).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, whole)
    if spec is None or spec.loader is None:
        raise ImportError(f"{whole.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
