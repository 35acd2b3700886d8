"""The formulas of KEDA's `scalingModifiers`, as far as they are arithmetic over the names of triggers.

The grammar and its precedence are those of expr-lang, which KEDA evaluates them with (pkg/scaling/modifiers): numbers,
names, `+ - * / % **`, comparisons, `&& || !` and their words, `? :`, `??`, and a few functions of numbers or of a list.
Its closures (`count([a, b], {# > 1})`), text and member access are refused. Exact: fractions where KEDA has floats.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, trunc

Value = Fraction | bool | None
"""None is nil: the value of a trigger that failed."""


@dataclass(frozen=True, slots=True)
class Formula:
    """`kind` is the operator or the function, or `number` or `name`; `parts` are what it is applied to."""

    kind: str
    parts: tuple["Formula", ...] = ()
    number: Fraction = Fraction(0)
    name: str = ""


class _Undefined(Exception):
    """An operator met nil, or a value of the wrong kind."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\?\?|\*\*|&&|\|\||==|!=|<=|>=|[-+*/%^<>!?:,()\[\]]))"
)
# The tighter an operator binds, the larger its number.
_BINDING = {
    "||": 10,
    "&&": 15,
    **dict.fromkeys(("==", "!=", "<", ">", "<=", ">="), 20),
    **dict.fromkeys("+-", 30),
    **dict.fromkeys("*/%", 60),
    "**": 100,
    "??": 500,
}
_WORDS = {"and": "&&", "or": "||", "not": "!", "^": "**"}
_UNARY = 90
_DEEPEST = 50
_LONGEST = 2000
_MOST_BITS = 1024  # of a power: more than a float has


def parse(text: str) -> Formula:
    """Raises ValueError saying what is not understood."""
    if len(text) > _LONGEST:
        raise ValueError(f"a formula of {len(text)} characters; at most {_LONGEST} are read")
    reader = _Reader(_tokens(text))
    formula = reader.conditional(0)
    if reader.next:
        raise ValueError(f"{reader.next!r} is not expected there")
    return formula


def names(formula: Formula) -> tuple[str, ...]:
    """The triggers that it reads, each once, as they come."""
    found = [formula.name] if formula.kind == "name" else []
    for each in formula.parts:
        found += names(each)
    return tuple(dict.fromkeys(found))


def value(formula: Formula, values: Mapping[str, Fraction | None]) -> Fraction | None:
    """None where it has none: nil in arithmetic, or a result that is no number. A division by zero gives 0, as KEDA
    takes infinite values and NaN."""
    try:
        found = _value(formula, values)
    except _Undefined:
        return None
    except ZeroDivisionError:
        return Fraction(0)
    return None if isinstance(found, bool) else found


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(
                f"{text[at:].strip()[:20]!r} is not understood: numbers, names of triggers, + - * / and ?:"
            )
        found.append(match[0].strip())
        at = match.end()
    return [_WORDS.get(each, each) for each in found]


class _Reader:
    """Reads by precedence; one token ahead."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise ValueError(f"{expected or 'a value'!r} is missing {f'before {token!r}' if token else 'at the end'}")
        self._at += 1
        return token

    def conditional(self, depth: int) -> Formula:
        condition = self._binary(0, depth + 1)
        if self.next != "?":
            return condition
        self._take()
        yes = self.conditional(depth + 1)
        self._take(":")
        return Formula("?:", (condition, yes, self.conditional(depth + 1)))

    def _binary(self, least: int, depth: int) -> Formula:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        left = self._unary(depth)
        while (binding := _BINDING.get(self.next, -1)) >= least:
            sign = self._take()
            # `**` alone is read from the right.
            right = self._binary(binding if sign == "**" else binding + 1, depth + 1)
            left = Formula(sign, (left, right))
        return left

    def _unary(self, depth: int) -> Formula:
        if self.next in ("-", "+", "!"):
            sign = self._take()
            return Formula(f"unary {sign}", (self._binary(_UNARY, depth + 1),))
        return self._primary(depth)

    def _primary(self, depth: int) -> Formula:
        token = self._take()
        if token == "(":  # noqa: S105 - a bracket
            inner = self.conditional(depth + 1)
            self._take(")")
            return inner
        if token == "[":  # noqa: S105 - a bracket
            return Formula("list", self._listed("]", depth))
        if token[0].isdigit() or token[0] == ".":
            return Formula("number", number=Fraction(token.replace("_", "")))
        if not (token[0].isalpha() or token[0] == "_"):
            raise ValueError(f"{token!r} is not expected there")
        if token in ("true", "false", "nil"):
            return Formula(token)
        if self.next == "(":
            if token not in _FUNCTIONS:
                raise ValueError(f"the function {token} is not known here: {', '.join(_FUNCTIONS)}")
            self._take()
            return Formula(f"{token}()", self._listed(")", depth))
        return Formula("name", name=token)

    def _listed(self, end: str, depth: int) -> tuple[Formula, ...]:
        found = []
        while self.next != end:
            found.append(self.conditional(depth + 1))
            if self.next != end:
                self._take(",")
        self._take(end)
        return tuple(found)


def _value(formula: Formula, values: Mapping[str, Fraction | None]) -> Value:
    parts = formula.parts
    match formula.kind:
        case "number":
            return formula.number
        case "name":
            if formula.name not in values:
                raise _Undefined
            return values[formula.name]
        case "true" | "false":
            return formula.kind == "true"
        case "nil":
            return None
        case "?:":
            return _value(parts[1] if _truth(_value(parts[0], values)) else parts[2], values)
        case "??":
            left = _value(parts[0], values)
            return _value(parts[1], values) if left is None else left
        case "&&":
            return _truth(_value(parts[0], values)) and _truth(_value(parts[1], values))
        case "||":
            return _truth(_value(parts[0], values)) or _truth(_value(parts[1], values))
        case "==" | "!=":
            return (_value(parts[0], values) == _value(parts[1], values)) is (formula.kind == "==")
        case "unary !":
            return not _truth(_value(parts[0], values))
        case "unary -":
            return -_number(_value(parts[0], values))
        case "unary +":
            return _number(_value(parts[0], values))
        case "list":
            raise _Undefined
    if formula.kind.endswith("()"):
        return _FUNCTIONS[formula.kind.removesuffix("()")](_numbers(parts, values))
    return _OPERATORS[formula.kind](_number(_value(parts[0], values)), _number(_value(parts[1], values)))


def _numbers(parts: tuple[Formula, ...], values: Mapping[str, Fraction | None]) -> list[Fraction]:
    """Of a function: its arguments, those of a list one by one."""
    each = [inner for part in parts for inner in (part.parts if part.kind == "list" else (part,))]
    return [_number(_value(one, values)) for one in each]


def _number(found: Value) -> Fraction:
    if found is None or isinstance(found, bool):
        raise _Undefined
    return found


def _truth(found: Value) -> bool:
    if not isinstance(found, bool):
        raise _Undefined
    return found


def _power(a: Fraction, b: Fraction) -> Fraction:
    size = max(a.numerator.bit_length(), a.denominator.bit_length())
    if b.denominator != 1 or abs(b) * size > _MOST_BITS:
        raise _Undefined
    return a ** int(b)


def _modulo(a: Fraction, b: Fraction) -> Fraction:
    """As Go's: of whole numbers, with the sign of the first."""
    if a.denominator != 1 or b.denominator != 1:
        raise _Undefined
    return a - b * trunc(a / b)


def _some(function: Callable[[list[Fraction]], Fraction]) -> Callable[[list[Fraction]], Fraction]:
    def of_some(numbers: list[Fraction]) -> Fraction:
        if not numbers:
            raise _Undefined
        return function(numbers)

    return of_some


def _one(function: Callable[[Fraction], Fraction | int]) -> Callable[[list[Fraction]], Fraction]:
    def of_one(numbers: list[Fraction]) -> Fraction:
        if len(numbers) != 1:
            raise _Undefined
        return Fraction(function(numbers[0]))

    return of_one


def _rounded(a: Fraction) -> int:
    """Half away from zero."""
    return trunc(a + Fraction(1, 2)) if a >= 0 else -trunc(-a + Fraction(1, 2))


_OPERATORS: dict[str, Callable[[Fraction, Fraction], Value]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": _modulo,
    "**": _power,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS: dict[str, Callable[[list[Fraction]], Fraction]] = {
    "max": _some(max),
    "min": _some(min),
    "sum": lambda numbers: sum(numbers, Fraction(0)),
    "mean": _some(lambda numbers: sum(numbers, Fraction(0)) / len(numbers)),
    "median": _some(lambda numbers: Fraction(statistics.median(numbers))),
    "abs": _one(abs),
    "ceil": _one(ceil),
    "floor": _one(floor),
    "round": _one(_rounded),
    "int": _one(trunc),
    "float": _one(lambda a: a),
}
