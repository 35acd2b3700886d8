"""Values of a file's cells: what each kind of column takes, and what is wrong with what it does not take.

Each kind has two ways: `one` says exactly what a cell means or what is wrong with it; `many` does a whole column at
once, fast, and answers None where it is not sure, after which `one` decides. A test holds the two equal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MOST_TOKENS = 2**31 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253402300799.0  # the end of the year 9999, the last that Python's dates have
_SHOWN = 60


class Wrong(Exception):
    """What is wrong with a value, as the end of a sentence: `is 'x', which is no number`."""


class Kind(Protocol):
    def one(self, value: object) -> Any:
        """Raises Wrong."""

    def many(self, values: Sequence[Any]) -> NDArray[Any] | None: ...


@dataclass(frozen=True)
class Column:
    """`default` stands for what is empty or missing; None: then it is an error."""

    name: str
    kind: Kind
    default: Any = None
    is_required: bool = True
    """Whether the format is recognised by it."""


@dataclass(frozen=True)
class Seconds:
    """A time or a rate: finite, not negative. In the file it is `per_second` times as large."""

    per_second: float = 1.0
    is_positive: bool = False
    most: float = 1e9
    """Thirty years: what is larger counts from 1970, or in another unit."""

    def one(self, value: object) -> float:
        number = _number(value)
        if number < 0 or (self.is_positive and number == 0):
            raise Wrong(f"is {shown(value)}, which is {'negative' if number < 0 else 'not above 0'}")
        if number / self.per_second > self.most:
            raise Wrong(f"is {shown(value)}; {self.most * self.per_second:.0f} is the most")
        return number / self.per_second

    def many(self, values: Sequence[Any]) -> NDArray[np.float64] | None:
        if not _are(values, {str, int, float}):
            return None
        try:
            found = np.array(list(map(float, values)), dtype=np.float64)
        except (ValueError, OverflowError):
            return None
        least = found.min(initial=math.inf)
        if not np.isfinite(found).all() or least < 0 or (self.is_positive and least == 0):
            return None
        found /= self.per_second
        return None if found.max(initial=0) > self.most else found


@dataclass(frozen=True)
class Count:
    """Tokens, characters: whole, not negative. `12.0` is 12, as some tools write it."""

    def one(self, value: object) -> int:
        number = _number(value)
        if number < 0:
            raise Wrong(f"is {shown(value)}, which is negative")
        if number != int(number):
            raise Wrong(f"is {shown(value)}, which is no whole number")
        if number > MOST_TOKENS:
            raise Wrong(f"is {shown(value)}; {MOST_TOKENS} is the most")
        return int(number)

    def many(self, values: Sequence[Any]) -> NDArray[np.int32] | None:
        if not _are(values, {str, int}):
            return None
        try:
            found = np.array(list(map(int, values)), dtype=np.int64)
        except (ValueError, OverflowError):
            return None
        return None if found.min(initial=0) < 0 or found.max(initial=0) > MOST_TOKENS else found.astype(np.int32)


@dataclass(frozen=True)
class Moment:
    """ISO 8601 as whole microseconds since the epoch, so that differences are exact. `naive_is_utc`: where the format's
    authors say so; else a time without its zone is an error. `takes_epoch`: seconds since the epoch, too."""

    naive_is_utc: bool = False
    takes_epoch: bool = False

    def one(self, value: object) -> int:
        if self.takes_epoch and isinstance(value, int | float) and not isinstance(value, bool):
            return round(Seconds(most=_LATEST).one(value) * 1_000_000)
        if isinstance(value, datetime):
            return self._since_epoch(value, value)
        if not isinstance(value, str):
            raise Wrong("is missing" if value is None else f"is {shown(value)}, which is no ISO 8601 time")
        if not value.strip():
            raise Wrong("is empty")
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            raise Wrong(
                f"is {shown(value)}, which is no ISO 8601 time such as 2026-01-31T09:30:00Z{_if_number(value)}"
            ) from None
        return self._since_epoch(found, value)

    def _since_epoch(self, moment: datetime, value: object) -> int:
        if moment.tzinfo is None:
            if not self.naive_is_utc:
                raise Wrong(f"is {shown(value)}, which says no time zone; write it with Z or an offset such as +02:00")
            moment = moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
        if since.days < 0:
            raise Wrong(f"is {shown(value)}, which is before 1970")
        return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds

    def many(self, values: Sequence[Any]) -> NDArray[np.int64] | None:
        epoch = _EPOCH.replace(tzinfo=None) if self.naive_is_utc else _EPOCH
        try:
            if _are(values, {str}, underscores=True):
                # TypeError: one with a zone among those without, or the other way round
                since = [moment - epoch for moment in map(datetime.fromisoformat, values)]
                found = [(each.days * 86400 + each.seconds) * 1_000_000 + each.microseconds for each in since]
            else:
                found = [self.one(value) for value in values]
        except (Wrong, ValueError, TypeError):
            return None
        return None if min(found, default=0) < 0 else np.array(found, dtype=np.int64)


class Text:
    """Names, as numbers by the order in which they appear; -1 for none. One of these for one reading of one column."""

    def __init__(self, most: int = 2**31 - 1) -> None:
        self._numbers: dict[Any, int] = {"": -1, None: -1}
        self._most = most

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, number in self._numbers.items() if number >= 0)

    def one(self, value: object) -> int:
        if value is not None and not isinstance(value, str):
            raise Wrong(f"is {shown(value)}, which is no text")
        if value not in self._numbers:
            try:
                value.encode()  # type: ignore[union-attr]  # None is among them
            except UnicodeEncodeError:
                raise Wrong(f"is {shown(value)}, which is no UTF-8") from None
            if len(self._numbers) - 2 >= self._most:
                raise Wrong(f"is {shown(value)}; a trace has {self._most} different names at most")
            self._numbers[value] = len(self._numbers) - 2
        return self._numbers[value]

    def many(self, values: Sequence[Any]) -> NDArray[np.int32] | None:
        if not _are(values, {str, type(None)}, underscores=True):
            return None
        # In the order of appearance, so that numbers do not depend on how a file is cut into pieces.
        try:
            for value in dict.fromkeys(values):
                self.one(value)
        except Wrong:
            return None
        return np.array(list(map(self._numbers.__getitem__, values)), dtype=np.int32)


class Blocks:
    """Lists of ids of prompt blocks, as they are."""

    def one(self, value: object) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            raise Wrong(f"is {shown(value)}, which is no list of whole numbers")
        return value

    def many(self, values: Sequence[Any]) -> NDArray[Any] | None:
        try:
            lists = [self.one(value) for value in values]
        except Wrong:
            return None
        return objects(lists)


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Not by np.array, which would make a table of lists that are equally long."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _number(value: object) -> float:
    if value is None:
        raise Wrong("is missing")
    if isinstance(value, str):
        if not value.strip():
            raise Wrong("is empty")
        if "_" in value:  # Python would take it
            raise Wrong(f"is {shown(value)}, which is no number")
    elif type(value) not in (int, float):
        raise Wrong(f"is {shown(value)}, which is no number")
    try:
        number = float(value)  # type: ignore[arg-type]  # int, float or str, as just seen
    except OverflowError:
        raise Wrong(f"is {shown(value)}, which is too large") from None
    except ValueError:
        raise Wrong(f"is {shown(value)}, which is no number") from None
    if not math.isfinite(number):
        raise Wrong(f"is {shown(value)}, which is no finite number")
    return number


def _are(values: Sequence[Any], types: set[type], *, underscores: bool = False) -> bool:
    """Underscores are what Python takes in numbers, and nobody else."""
    found = set(map(type, values))
    if not found <= types:
        return False
    if underscores or str not in found:
        return True
    return "_" not in "".join(values if len(found) == 1 else [each for each in values if type(each) is str])


def _if_number(value: str) -> str:
    try:
        float(value)
    except ValueError:
        return ""
    return "; seconds since the trace began are the column at_s"
