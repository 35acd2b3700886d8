"""The triggers of KEDA and their parameters, of the version in `data/keda/SOURCES.md`. Read when first asked for."""

import difflib
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

VERSION = "2.20.2"
FROM_ENV = "FromEnv"
"""`addressFromEnv: REDIS` reads `address` from the variable REDIS of the scaled container."""

_DATA = Path(__file__).with_name("data") / "keda" / "scalers.json.gz"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a trigger, and the ways in which it may be given. Every value is text."""

    name: str
    optional: bool
    """As declared. One that is not optional and has no default may still be one of several (`address`, `host`)."""
    default: str | None
    allowed: tuple[str, ...]
    """The only values it may have; empty where any will do."""
    from_metadata: bool
    """`triggers[].metadata.<name>`"""
    from_env: bool
    """`triggers[].metadata.<name>FromEnv`"""
    from_auth: bool
    """A TriggerAuthentication."""
    separator: str | None = None
    """Where the value is a list: what stands between the items."""
    range_separator: str | None = None
    deprecated: str | None = None
    """KEDA's words when it is written as `metadata.<name>` although it no longer may be: the scaler is refused."""
    announced: str | None = None
    """KEDA's words about its end in a version to come."""

    @property
    def is_required(self) -> bool:
        return not self.optional and self.default is None


@dataclass(frozen=True, eq=False)
class Trigger:
    type: str
    parameters: Mapping[str, Parameter]

    def written_as(self, key: str) -> Parameter | None:
        """The parameter that a key of `metadata` gives: `address` and `addressFromEnv` give `address`. None for a key
        that this trigger does not read from there."""
        plain = self.parameters.get(key)
        if plain is not None and (plain.from_metadata or plain.deprecated):
            return plain
        if key.endswith(FROM_ENV):
            named = self.parameters.get(key.removesuffix(FROM_ENV))
            return named if named is not None and named.from_env else None
        return None

    def metadata_keys(self) -> tuple[str, ...]:
        """Every key that `metadata` may have."""
        plain = (name for name, each in self.parameters.items() if each.from_metadata)
        by_env = (f"{name}{FROM_ENV}" for name, each in self.parameters.items() if each.from_env)
        return (*plain, *by_env)

    def nearest(self, key: str) -> str | None:
        """The key that was perhaps meant."""
        return nearest(key, self.metadata_keys())


def trigger(type_: str) -> Trigger | None:
    return _triggers().get(type_)


def trigger_types() -> tuple[str, ...]:
    return tuple(_triggers())


def nearest_type(type_: str) -> str | None:
    """The trigger type that was perhaps meant."""
    return nearest(type_, trigger_types())


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar of the words, whatever the case of letters; None when none is similar."""
    by_lower = {each.lower(): each for each in words}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None


@cache
def _triggers() -> Mapping[str, Trigger]:
    read = json.loads(gzip.decompress(_DATA.read_bytes()))
    return MappingProxyType({type_: Trigger(type_, _parameters(rows)) for type_, rows in read.items()})


def _parameters(rows: list[list[Any]]) -> Mapping[str, Parameter]:
    found: dict[str, Parameter] = {}
    for row in rows:
        each = _parameter(row)
        found[each.name] = _both(found[each.name], each) if each.name in found else each
    return MappingProxyType(found)


def _parameter(row: list[Any]) -> Parameter:
    name, flags, default, allowed, separator, range_separator, deprecated, announced = row + [None] * (8 - len(row))
    return Parameter(
        name=name,
        optional="o" in flags,
        default=default,
        allowed=tuple(allowed or ()),
        from_metadata="m" in flags and not deprecated,
        from_env="e" in flags,
        from_auth="a" in flags,
        separator=separator,
        range_separator=range_separator,
        deprecated=deprecated,
        announced=announced,
    )


def _both(a: Parameter, b: Parameter) -> Parameter:
    """One parameter declared twice: one way to give it has ended, the others go on (`authToken` of influxdb)."""
    return Parameter(
        name=a.name,
        optional=a.optional and b.optional,
        default=a.default if a.default is not None else b.default,
        allowed=a.allowed or b.allowed,
        from_metadata=a.from_metadata or b.from_metadata,
        from_env=a.from_env or b.from_env,
        from_auth=a.from_auth or b.from_auth,
        separator=a.separator or b.separator,
        range_separator=a.range_separator or b.range_separator,
        deprecated=a.deprecated or b.deprecated,
        announced=a.announced or b.announced,
    )
