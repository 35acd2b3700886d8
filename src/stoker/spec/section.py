"""What every section of `platform.yaml` has in common, and the kinds of value that several sections use.

A section is frozen, knows all its keys, is written in camelCase and read in snake_case, and takes no value of another
type than it says: the text "8" is not a number. The docstring under each field gives its unit, its reason and the
meaning of null; the JSON Schema, docs/spec.md and the file of `stoker init` are made from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from stoker.spec.faults import BrokenRules, Fault

EXPECTED = "x-expected"  # in the JSON Schema: what a value must be, in words, where a pattern would not help a person
MAY_HOLD_KEY = "x-secret"  # in the JSON Schema: a wrong value may be a secret pasted here, so no message repeats it


def yaml_name(field: str) -> str:
    """`min_replicas` -> `minReplicas`; `global_`, which Python cannot spell otherwise, -> `global`."""
    return to_camel(field.rstrip("_"))


class Section(BaseModel):
    leaves_out_defaults: ClassVar[bool] = False
    """Whether writing it leaves out the keys that have their default: for what there may be very many of, so that the
    normalised file stays within what is read."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,  # a wrong value may be a secret, and tracebacks are logged
        alias_generator=yaml_name,
        populate_by_name=True,
    )

    def broken_rules(self) -> Iterator[Fault]:
        """Faults that only show when several fields are seen together. Paths are relative to this section."""
        return iter(())

    @model_validator(mode="before")
    @classmethod
    def _nothing_written_is_the_default(cls, data: Any) -> Any:
        """`karpenter:` with all its lines commented out is null to YAML; the writer meant "leave it as it is"."""
        if not isinstance(data, dict):
            return data
        kept: dict[Any, Any] = {}
        for key, value in data.items():
            kind = cls.containers().get(key)
            if kind is None or value is not None:
                of_sections = kind == "sections" and isinstance(value, dict)
                kept[key] = {name: {} if one is None else one for name, one in value.items()} if of_sections else value
        return kept

    @classmethod
    def containers(cls) -> dict[str, str]:
        """The keys, in both spellings, that hold more than one value, and what of."""
        found: dict[str, str] = {}
        for name, info in cls.model_fields.items():
            kind, inner = get_origin(info.annotation) or info.annotation, get_args(info.annotation)
            if kind is Mapping:
                found[name] = "sections" if _is_section(inner[1]) else "values"
            elif kind is tuple or _is_section(kind):
                found[name] = "values"
        return found | {yaml_name(name): kind for name, kind in found.items()}

    def complete(self) -> None:
        """Fill in what was left unwritten and follows from other fields. Runs before the rules."""

    def settle(self, field: str, value: object) -> None:
        """Set a field from within `complete`: frozen is for readers, and the section is still being made."""
        object.__setattr__(self, field, value)

    @model_validator(mode="after")
    def _complete_and_sound(self) -> Self:
        self.complete()
        broken = list(self.broken_rules())
        if broken:
            raise BrokenRules(broken)
        return self


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


@dataclass(frozen=True)
class Expected:
    """Says in the JSON Schema what a value must be, completing "it must be ..."; a secret one is never repeated."""

    words: str
    secret: bool = False

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        schema[EXPECTED] = self.words
        if self.secret:
            schema[MAY_HOLD_KEY] = True
        return schema


NAME_PATTERN = "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    Expected("a name of 1 to 40 lower-case letters, digits and hyphens that begins with a letter"),
]
"""Fits a Kubernetes Service with room for a suffix, a Redis key and a part of a URL."""

EnvName = Annotated[
    str,
    StringConstraints(pattern="^[A-Z_][A-Z0-9_]{0,127}$"),
    Expected("the NAME of an environment variable, in capitals, that holds the secret; never the secret", secret=True),
]

Quantity = Annotated[
    str,
    StringConstraints(pattern="^[1-9][0-9]{0,9}(Ki|Mi|Gi|Ti)?$"),
    Expected("an amount of bytes as Kubernetes writes it, such as 24Gi"),
]

Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Bytes = Annotated[int, Field(ge=1024, le=1 << 30)]


def decimal_as_written(value: object) -> object:
    """YAML's numbers are binary; the shortest decimal that stands for one is what was written."""
    return Decimal(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Usd = Annotated[
    Decimal,
    BeforeValidator(decimal_as_written),
    Field(ge=0, le=1_000_000, decimal_places=6, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1_000_000}),
    Expected("an amount in US dollars from 0 to 1000000 with at most 6 decimals, as a number"),
]
"""Exact: sums of prices are compared with budgets to the last digit, which binary fractions cannot do."""


def plain(value: object, *, whole: bool = False) -> Any:
    """A section as YAML's own types; whole numbers without a fraction. `whole`: with the keys that a section leaves out
    when they have their default, as far as that is not null."""
    if isinstance(value, Section):
        kept = (name for name in type(value).model_fields if _is_written(value, name, whole=whole))
        return {yaml_name(name): plain(getattr(value, name), whole=whole) for name in kept}
    if isinstance(value, Mapping):
        return {key: plain(entry, whole=whole) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [plain(entry, whole=whole) for entry in value]
    if isinstance(value, float | Decimal):
        return int(value) if value == int(value) else float(value)
    return value


def _is_written(section: Section, name: str, *, whole: bool) -> bool:
    value = getattr(section, name)
    if not section.leaves_out_defaults or (whole and value is not None):
        return True
    return bool(value != type(section).model_fields[name].default)
