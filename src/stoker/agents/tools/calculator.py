"""Exact arithmetic. Numbers are fractions, so 0.1 + 0.2 is 0.3; roots, logarithms and pi are exact to 50 digits, and
what is made of them is called "about". Everything is bounded, so that no expression takes long.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

from stoker.agents.tools.interface import Json, Place, Result
from stoker.base.errors import InvalidInput

MOST_CHARACTERS = 1000
MOST_DIGITS = 1000
_MOST_BITS = math.ceil(MOST_DIGITS * math.log2(10))
_MOST_FACTORIAL = 449  # 450! has more digits
_MOST_DEPTH = 50
_SHOWN_DIGITS = 20
_LONGEST_DECIMAL = 50

DESCRIPTION = (
    "Exact arithmetic: + - * / // (quotient rounded down) % (remainder) ** (power), parentheses, the functions "
    "abs ceil exp factorial floor gcd lcm ln log10 max min round sqrt sum, the constants pi and e. "
    "round(x, digits) rounds halves away from zero. No percentages: write 15/100. No thousands separators."
)
PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "expression": {"type": "string", "maxLength": MOST_CHARACTERS, "description": "Such as (2 + 3) * 4 / 1.5"}
    },
    "required": ["expression"],
    "additionalProperties": False,
}


async def call(arguments: Json, place: Place) -> Result:
    try:
        return Result(text=value_of(arguments["expression"]))
    except InvalidInput as error:
        return Result(text=error.message, is_error=True)


def value_of(expression: str) -> str:
    """The value, as text. Raises InvalidInput, whose message says what would be right."""
    if len(expression) > MOST_CHARACTERS:
        raise InvalidInput(f"the expression has {len(expression)} characters; {MOST_CHARACTERS} are the most")
    return _Parser(_tokens(expression)).whole().shown()


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction
    is_exact: bool = True

    def __post_init__(self) -> None:
        if max(self.value.numerator.bit_length(), self.value.denominator.bit_length()) > _MOST_BITS:
            raise _too_large()

    def shown(self) -> str:
        value = self.value
        if not self.is_exact:
            return f"about {_digits(value)}"
        if value.denominator == 1:
            return str(value.numerator)
        decimal = _terminating(value)
        return decimal or f"{value} (about {_digits(value)})"


def _too_large() -> InvalidInput:
    return InvalidInput(f"a number here has more than {MOST_DIGITS} digits, which is more than this calculator holds")


def _terminating(value: Fraction) -> str | None:
    """The whole decimal fraction, if it ends within some digits."""
    rest, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest != 1 or places > _LONGEST_DECIMAL:
        return None
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _digits(value: Fraction) -> str:
    rounded = _decimal(value, Context(prec=_SHOWN_DIGITS, Emax=9999, Emin=-9999))
    text = format(rounded, "f") if -10 < rounded.adjusted() < _SHOWN_DIGITS else format(rounded, "e")
    if "." in text:
        head, mark, exponent = text.partition("e")
        text = head.rstrip("0").rstrip(".") + mark + exponent
    return text


# --- reading ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6})?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|//|[-+*/%(),^])|(?P<end>$))",
    re.ASCII,
)
_SAME = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})


def _tokens(expression: str) -> list[tuple[str, str]]:
    """Kind and text of each part; the last one is the end."""
    text = expression.translate(_SAME).strip()
    at, tokens = 0, []
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            near = text[at : at + 20].strip()
            raise InvalidInput(f'"{near}" is not arithmetic; use numbers, + - * / // % **, parentheses and functions')
        kind = str(found.lastgroup)
        tokens.append((kind, found[kind].replace("^", "**")))
        if kind == "end":
            return tokens
        at = found.end()


class _Parser:
    """sum = product (+|- product)*; product = signed (*|/|//|% signed)*; signed = -signed | power;
    power = atom (** signed)?; so -2 ** 2 is -4, and 2 ** 3 ** 2 is 2 ** 9."""

    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Number:
        if self._tokens[0][0] == "end":
            raise InvalidInput("the expression is empty; send one such as 6 * 7")
        value = self._sum()
        kind, text = self._tokens[self._at]
        if kind != "end":
            if text == ",":
                raise InvalidInput("a comma stands between arguments of a function only; write 1000 for 1,000")
            raise InvalidInput(f'"{text}" stands where an operator was expected, such as * or +')
        return value

    def _sum(self) -> Number:
        value = self._product()
        while sign := self._next_of("+", "-"):
            value = _BINARY[sign](value, self._product())
        return value

    def _product(self) -> Number:
        value = self._signed()
        while sign := self._next_of("*", "/", "//", "%"):
            if sign == "%" and (self._tokens[self._at][0] == "end" or self._tokens[self._at][1] in "+-*/),"):
                raise InvalidInput("% is the remainder of a division, as in 7 % 3; for 15 percent write 15/100")
            value = _BINARY[sign](value, self._signed())
        return value

    def _signed(self) -> Number:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise InvalidInput(f"the expression is nested more than {_MOST_DEPTH} levels deep; send it in parts")
        try:
            if self._next_of("+"):
                return self._signed()
            if self._next_of("-"):
                inner = self._signed()
                return Number(-inner.value, inner.is_exact)
            base = self._atom()
            return _power(base, self._signed()) if self._next_of("**") else base
        finally:
            self._depth -= 1

    def _atom(self) -> Number:
        kind, text = self._tokens[self._at]
        self._at += kind != "end"
        if kind == "number":
            return _number(text)
        if kind == "name":
            return self._named(text)
        if text == "(":
            value = self._sum()
            self._close()
            return value
        where = "at the end" if kind == "end" else f'before "{text}"'
        raise InvalidInput(f"a number is missing {where}")

    def _named(self, name: str) -> Number:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in _FUNCTIONS:
            known = ", ".join((*_FUNCTIONS, *_CONSTANTS))
            raise InvalidInput(f'"{name[:40]}" is not known; these are: {known}. For words like "times" write *')
        least, most, function = _FUNCTIONS[name]
        if not self._next_of("("):
            raise InvalidInput(f"{name} needs its arguments in parentheses: {name}(...)")
        arguments = [self._sum()]
        while self._next_of(","):
            arguments.append(self._sum())
        self._close()
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise InvalidInput(f"{name} takes {wanted} arguments; it got {len(arguments)}")
        return function(*arguments)

    def _close(self) -> None:
        if not self._next_of(")"):
            raise InvalidInput("a closing parenthesis is missing")

    def _next_of(self, *signs: str) -> str | None:
        kind, text = self._tokens[self._at]
        if kind != "sign" or text not in signs:
            return None
        self._at += 1
        return text


def _number(text: str) -> Number:
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > MOST_DIGITS or abs(int(exponent or 0)) > MOST_DIGITS:
        raise _too_large()
    return Number(Fraction(text))


# --- arithmetic ---------------------------------------------------------------------------------------------------

_CONTEXT = Context(prec=50, Emax=MOST_DIGITS, Emin=-MOST_DIGITS, traps=[DivisionByZero, InvalidOperation, Overflow])


def _decimal(value: Fraction, context: Context = _CONTEXT) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _about(make: Callable[[], Decimal]) -> Number:
    try:
        return Number(Fraction(make()), is_exact=False)
    except Overflow as exc:
        raise _too_large() from exc
    except DecimalException as exc:
        raise InvalidInput("this has no value among the real numbers") from exc


def _both(function: Callable[[Fraction, Fraction], Fraction | int]) -> Callable[[Number, Number], Number]:
    return lambda a, b: Number(Fraction(function(a.value, b.value)), a.is_exact and b.is_exact)


def _by(function: Callable[[Fraction, Fraction], Fraction | int]) -> Callable[[Number, Number], Number]:
    def divide(a: Number, b: Number) -> Number:
        if b.value == 0:
            raise InvalidInput("division by zero has no value")
        return _both(function)(a, b)

    return divide


_BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": _both(lambda a, b: a + b),
    "-": _both(lambda a, b: a - b),
    "*": _both(lambda a, b: a * b),
    "/": _by(lambda a, b: a / b),
    "//": _by(lambda a, b: a // b),
    "%": _by(lambda a, b: a % b),
}


def _power(base: Number, exponent: Number) -> Number:
    if base.value == 0 and exponent.value < 0:
        raise InvalidInput("division by zero has no value")
    if exponent.value.denominator != 1:
        if base.value < 0:
            raise InvalidInput("a negative number to a power that is not whole is no real number")
        if exponent.value == Fraction(1, 2):
            return _sqrt(Number(base.value, base.is_exact and exponent.is_exact))
        return _about(lambda: _CONTEXT.power(_decimal(base.value), _decimal(exponent.value)))
    bits = max(base.value.numerator.bit_length(), base.value.denominator.bit_length())
    if abs(base.value) not in (0, 1) and (bits - 1) * abs(exponent.value) > _MOST_BITS:
        raise _too_large()
    return Number(Fraction(base.value ** int(exponent.value)), base.is_exact and exponent.is_exact)


def _sqrt(number: Number) -> Number:
    value = number.value
    if value < 0:
        raise InvalidInput("the square root of a negative number is no real number")
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if (top * top, bottom * bottom) == (value.numerator, value.denominator):
        return Number(Fraction(top, bottom), number.is_exact)
    return _about(lambda: _CONTEXT.sqrt(_decimal(value)))


def _whole(name: str, number: Number) -> int:
    if number.value.denominator != 1:
        raise InvalidInput(f"{name} takes whole numbers; {number.shown()} is not one")
    return number.value.numerator


def _factorial(number: Number) -> Number:
    whole = _whole("factorial", number)
    if not 0 <= whole <= _MOST_FACTORIAL:
        raise InvalidInput(f"factorial takes 0 to {_MOST_FACTORIAL}; it got {number.shown()[:40]}")
    return Number(Fraction(math.factorial(whole)))


def _round(number: Number, places: Number = Number(Fraction(0))) -> Number:
    count = _whole("round", places)
    if abs(count) > 100:
        raise InvalidInput(f"round takes -100 to 100 digits; it got {places.shown()[:40]}")
    scale = Fraction(10) ** count
    size = math.floor(abs(number.value) * scale + Fraction(1, 2)) / scale
    return Number(size if number.value >= 0 else -size, number.is_exact)


def _log(name: str, function: Callable[[Decimal], Decimal]) -> Callable[[Number], Number]:
    def log(number: Number) -> Number:
        if number.value <= 0:
            raise InvalidInput(f"{name} takes numbers above 0")
        return _about(lambda: function(_decimal(number.value)))

    return log


def _log10(number: Number) -> Number:
    whole = len(str(number.value.numerator)) - 1
    if number.value == 10**whole:
        return Number(Fraction(whole), number.is_exact)
    return _log("log10", _CONTEXT.log10)(number)


def _each(function: Callable[[Fraction], Fraction | int]) -> Callable[[Number], Number]:
    return lambda number: Number(Fraction(function(number.value)), number.is_exact)


def _all(function: Callable[[list[Fraction]], Fraction]) -> Callable[..., Number]:
    return lambda *numbers: Number(function([n.value for n in numbers]), all(n.is_exact for n in numbers))


def _integers(name: str, function: Callable[..., int]) -> Callable[..., Number]:
    return lambda *numbers: Number(Fraction(function(*(_whole(name, n) for n in numbers))))


_MANY = MOST_CHARACTERS
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Number]]] = {
    "abs": (1, 1, _each(abs)),
    "ceil": (1, 1, _each(math.ceil)),
    "exp": (1, 1, lambda number: _about(lambda: _CONTEXT.exp(_decimal(number.value)))),
    "factorial": (1, 1, _factorial),
    "floor": (1, 1, _each(math.floor)),
    "gcd": (1, 10, _integers("gcd", math.gcd)),
    "lcm": (1, 10, _integers("lcm", math.lcm)),
    "ln": (1, 1, _log("ln", _CONTEXT.ln)),
    "log10": (1, 1, _log10),
    "max": (1, _MANY, _all(max)),
    "min": (1, _MANY, _all(min)),
    "round": (1, 2, _round),
    "sqrt": (1, 1, _sqrt),
    "sum": (1, _MANY, _all(lambda values: sum(values, Fraction(0)))),
}
_CONSTANTS = {
    "pi": Number(Fraction("3.14159265358979323846264338327950288419716939937511"), is_exact=False),
    "e": Number(Fraction("2.71828182845904523536028747135266249775724709369996"), is_exact=False),
}
