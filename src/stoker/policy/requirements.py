"""What is asked of a node's labels, as sets of values that can be intersected: the algebra of Karpenter's scheduler.

A requirement allows some values of one label, and says whether a node without the label will do. `In [a, b]` allows
two, `NotIn [a]` all but one and a node without it, `Gt 4` the whole numbers above. Pods, pools and instance types are
compared by intersecting theirs.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """The values allowed are `values`, or all but `values` if `complement`; with a bound, only whole numbers within."""

    key: str
    values: frozenset[str] = frozenset()
    complement: bool = False
    above: int | None = None
    below: int | None = None
    absent: bool = False
    """Whether a node without the label will do."""

    def allows(self, value: str | None) -> bool:
        """Whether a node will do whose label has this value; None is a node without the label."""
        if value is None:
            return self.absent
        return (value in self.values) is not self.complement and self._within(value)

    def intersect(self, other: "Requirement") -> "Requirement":
        """What both allow."""
        if self.key != other.key:
            raise ValueError(f"requirements of two labels have no intersection: {self.key} and {other.key}")
        above = _tighter(max, self.above, other.above)
        below = _tighter(min, self.below, other.below)
        absent = self.absent and other.absent
        if above is not None and below is not None and above + 1 >= below:
            return Requirement(self.key, absent=absent)
        if self.complement and other.complement:
            return Requirement(self.key, self.values | other.values, True, above, below, absent)
        if self.complement:
            values = other.values - self.values
        elif other.complement:
            values = self.values - other.values
        else:
            values = self.values & other.values
        bounds = Requirement(self.key, complement=True, above=above, below=below)
        return Requirement(self.key, frozenset(each for each in values if bounds.allows(each)), absent=absent)

    @property
    def is_empty(self) -> bool:
        """No node whatever will do."""
        return not self.complement and not self.values and not self.absent

    def _within(self, value: str) -> bool:
        if self.above is None and self.below is None:
            return True
        if _WHOLE.fullmatch(value) is None:
            return False
        number = int(value)
        return (self.above is None or number > self.above) and (self.below is None or number < self.below)

    def __str__(self) -> str:
        """As a person would say it: `spot or on-demand`, `not arm64`, `above 4`, `any value`, `no such label`."""
        listed = " or ".join(sorted(self.values))
        if not self.complement:
            nothing = "no such label" if self.absent else "nothing"
            return listed or nothing
        said = [f"above {self.above}"] if self.above is not None else []
        said += [f"below {self.below}"] if self.below is not None else []
        said += [f"not {listed}"] if listed else []
        return " and ".join(said) or "any value"


def requirement(key: str, operator: str, values: Sequence[str] = ()) -> Requirement:
    """One line of `matchExpressions` or of a pool's `requirements`. Raises ValueError for what the API would refuse."""
    match operator:
        case "In":
            return Requirement(key, frozenset(values))
        case "NotIn":
            return Requirement(key, frozenset(values), complement=True, absent=True)
        case "Exists":
            return Requirement(key, complement=True)
        case "DoesNotExist":
            return Requirement(key, absent=True)
        case "Gt" | "Gte" | "Lt" | "Lte":
            bound = _bound(key, operator, values)
            if operator in ("Gt", "Gte"):
                return Requirement(key, complement=True, above=bound if operator == "Gt" else bound - 1)
            return Requirement(key, complement=True, below=bound if operator == "Lt" else bound + 1)
    raise ValueError(f"{operator!r} is no operator: write one of {', '.join(OPERATORS)}")


Requirements = Mapping[str, Requirement]
"""By label. A label that is not in it is not asked for."""


def of_labels(labels: Mapping[str, str]) -> dict[str, Requirement]:
    """A node selector, or the labels that a pool gives: each exactly this value."""
    return {key: Requirement(key, frozenset({value})) for key, value in labels.items()}


def all_of(requirements: Iterable[Requirement]) -> dict[str, Requirement]:
    """Several lines that must all hold; those of one label become one."""
    found: dict[str, Requirement] = {}
    for each in requirements:
        found[each.key] = found[each.key].intersect(each) if each.key in found else each
    return found


def both(a: Requirements, b: Requirements) -> dict[str, Requirement]:
    return all_of([*a.values(), *b.values()])


def _bound(key: str, operator: str, values: Sequence[str]) -> int:
    if len(values) != 1 or _WHOLE.fullmatch(values[0]) is None:
        raise ValueError(f"{key} {operator} needs one whole number, and has {list(values)}")
    return int(values[0])


def _tighter(choose: Callable[[int, int], int], a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return choose(a, b)
