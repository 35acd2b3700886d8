"""Text to `Platform` or `Run`, and back. The door at which pydantic's findings become faults that a person can act on.

What a value must be is read from the JSON Schema of its place, so that the message, the schema and the documentation
cannot say different things.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from pydantic import ValidationError

from stoker.spec import yaml
from stoker.spec.faults import HINT, BrokenRules, Fault, Path, Position, refusal, refused_request, shown
from stoker.spec.schema import Schema, at_path, expected, is_secret, schema, schema_of
from stoker.spec.section import Section, plain, yaml_name

if TYPE_CHECKING:
    from stoker.spec.platform import Platform
    from stoker.spec.run import Run

# Types are imported where they are used: who reads a run does not wait for a platform's, nor the other way round.

_S = TypeVar("_S", bound=Section)

_RUN_HINT = "examples/finetune.yaml is a run file; docs/training/run-file.md lists every key with its default"


class _Where(Protocol):
    def __call__(self, path: Path, *, key: bool = False) -> Position | None: ...


def load(path: FilePath | None) -> "Platform":
    """The platform that the file describes, or the default one for None. Raises SpecInvalid with every fault."""
    if path is None:
        return loads("")
    return loads(_read(path, hint="`stoker init` writes one"), str(path))


def load_run(path: FilePath) -> "Run":
    """The run that the file describes. Raises SpecInvalid with every fault."""
    return run_of(_read(path, hint=_RUN_HINT), str(path))


def _read(path: FilePath, *, hint: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(yaml.MAX_BYTES + 1)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise refusal(str(path), [Fault((), f"cannot be read: {why}")], hint=hint) from error


DEFAULT_FILE = FilePath("platform.yaml")


def load_chosen(path: FilePath | None) -> "tuple[Platform, str]":
    """What a command works on, and a line that says so: the file that was asked for, or platform.yaml of the current
    directory where there is one, or the defaults. Raises SpecInvalid as `load`."""
    chosen = path if path is not None else DEFAULT_FILE if DEFAULT_FILE.exists() else None
    platform = load(chosen)
    if chosen is not None:
        return platform, f"platform: {chosen}"
    return platform, "platform: built-in defaults (no platform.yaml here; `stoker init`)"


def loads(text: str | bytes, name: str = "platform.yaml") -> "Platform":
    """As `load`, for text that is called `name` in messages. Empty text means the defaults."""
    from stoker.spec.platform import Platform

    document = yaml.parse(text, name)
    return Platform() if document.data is None else _validated(Platform, document, name, schema)


def run_of(text: str | bytes, name: str = "run.yaml") -> "Run":
    """As `load_run`, for text that is called `name` in messages."""
    from stoker.spec.run import Run

    return _validated(Run, yaml.parse(text, name), name, lambda: schema_of(Run), hint=_RUN_HINT)


def _validated(
    kind: type[_S], document: yaml.Document, name: str, whole: Callable[[], Schema], *, hint: str = HINT
) -> _S:
    if not isinstance(document.data, dict):
        fault = Fault((), f"the file is {shown(document.data)}; it must be keys with values", document.where(()))
        raise refusal(name, [fault], hint=hint)
    try:
        return kind.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        if mistaken := _mistaken(kind, document.data):
            raise refusal(name, [Fault((), mistaken)], hint=hint) from error
        raise refusal(name, _all_faults(error, document.where, whole()), hint=hint) from error


def _mistaken(kind: type[Section], data: Mapping[Any, Any]) -> str | None:
    """Where all that can be known of the file is that it is of the other kind: its keys would be so many faults."""
    from stoker.spec.platform import Platform
    from stoker.spec.run import Run

    platform, run = ({yaml_name(name) for name in each.model_fields} for each in (Platform, Run))
    if kind is Run and data.keys() & (platform - run) and not data.keys() & (run - platform):
        return "is a platform.yaml, and not the run file that is wanted here"
    if kind is Platform and data.keys() & (run - platform) and not data.keys() & (platform - run):
        return "is a run file of `stoker train`, and not the platform.yaml that is wanted here"
    return None


def read_section(kind: type[_S], data: object) -> _S:
    """A section that came as JSON: from a request, or from the store. Raises InvalidInput with every fault, in the
    words that `load` has for them."""
    if not isinstance(data, dict):
        raise refused_request([Fault((), f"{shown(data)} does not fit; it must be keys with values")])
    try:
        return kind.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise refused_request(_all_faults(error, _nowhere, schema_of(kind))) from error


def dump(section: "Platform | Run") -> str:
    """Normalised YAML: every key with its value. It loads back equal, and has no secrets because a spec has none."""
    return yaml.dump(plain(section))


def _nowhere(path: Path, *, key: bool = False) -> None:
    """The place in a text, where there was none."""


def _all_faults(error: ValidationError, where: _Where, whole: Schema) -> list[Fault]:
    return [
        fault
        for found in error.errors(include_url=False)
        for fault in _faults(cast(Mapping[str, Any], found), where, whole)
    ]


def _faults(found: Mapping[str, Any], where: _Where, whole: Schema) -> list[Fault]:
    kind, value = found["type"], found["input"]
    # Pydantic marks a fault of a key, whose input is the key; a person may have written the same as a key.
    is_key = found["loc"][-1:] == ("[key]",) and found["loc"][-2:-1] == (value,) and kind != "extra_forbidden"
    path = _without_tags(found["loc"][:-1] if is_key else found["loc"])
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, BrokenRules):
        return [Fault(full, fault.message, where(full)) for fault in cause.faults for full in [(*path, *fault.path)]]
    if kind == "extra_forbidden":
        return [Fault(path, _unknown(path, whole), where(path, key=True))]
    if is_key:
        must = expected(at_path(whole, path[:-1]).get("propertyNames", {}), whole)
        return [Fault(path, f"{shown(path[-1])} cannot be a name; it must be {must}", where(path, key=True))]
    place = at_path(whole, path)
    must = expected(place, whole)
    if kind == "missing":
        return [Fault(path, f"is missing; it must be {must}", where(path))]
    said = "the value (not repeated, in case it is a secret)" if _hides(place, whole, value) else shown(value)
    return [Fault(path, f"{said} does not fit; it must be {must}{_advice(value, must)}", where(path))]


def _without_tags(loc: Path) -> Path:
    """Pydantic names the kind of engine that it tried in the path, right after `engine`; nobody wrote that."""
    from stoker.spec.llm import ENGINE_TAGS

    return tuple(
        part for index, part in enumerate(loc) if not (part in ENGINE_TAGS and index and loc[index - 1] == "engine")
    )


def _hides(place: Schema, whole: Schema, value: object) -> bool:
    """A key may be pasted where the name of its variable belongs, and a password into a URL."""
    harmless = not isinstance(value, str) or ("://" in value and not any(char in value for char in "@?#"))
    return is_secret(place, whole) and not harmless


def _advice(value: object, must: str) -> str:
    if value is None:
        return "; leave the key out for its default"
    if isinstance(value, str) and "number" in must and isinstance(yaml.scalar_or_text(value), int | float):
        return "; take the quotes away"
    if isinstance(value, int | float) and must.startswith("text"):
        return "; put it in quotes"
    return ""


def _unknown(path: Path, whole: Schema) -> str:
    key, known = str(path[-1]), sorted(at_path(whole, path[:-1]).get("properties", {}))
    by_camel = [name for name in known if name.lower() == key.replace("_", "").replace("-", "").lower()]
    by_case = {name.lower(): name for name in known}
    near = by_camel or [by_case[name] for name in difflib.get_close_matches(key.lower(), by_case, n=1, cutoff=0.6)]
    if near:
        return f"no such key; did you mean {near[0]}?"
    return f"no such key; the keys here are: {', '.join(known)}"
