"""The functions that Kubernetes and cel-go's extensions add to CEL, and which the evaluator lacks.

A method call `x.f(a)` arrives as `f(x, a)`. What CEL has as an opaque value (a quantity, a URL, an address, a version)
goes through the evaluator as a section with one marked key. A ValueError is an evaluation error of the rule.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from stoker.base.durations import seconds_of
from stoker.lint import names, patterns
from stoker.manifests import quantities

_QUANTITY, _URL, _IP, _CIDR, _SEMVER, _FORMAT = (
    "__quantity__",
    "__url__",
    "__ip__",
    "__cidr__",
    "__semver__",
    "__format__",
)
_SEMANTIC = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


def moment(text: str, form: str) -> Any:
    """A duration or a time; the text itself where it is none (the format's own fault says so)."""
    try:
        if form == "duration":
            return _duration(text)
        if form == "date":
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return text


def from_base64(text: str) -> Any:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text


def _duration(text: str) -> timedelta:
    return timedelta(seconds=float(seconds_of(text)))


# text


def _size(value: Any) -> int:
    if isinstance(value, str | bytes | list | tuple | dict):
        return len(value)
    raise ValueError(f"no size of a {type(value).__name__}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is wanted, not {type(value).__name__}")  # noqa: TRY004  # evaluation errors are these
    return value


def _pattern(text: str) -> re.Pattern[str]:
    found = patterns.compiled(_text(text))
    if found is None:
        raise ValueError(f"the pattern {text!r} cannot be read")
    return found


def _matches(text: str, pattern: str) -> bool:
    from stoker.lint.cel import matches

    found = matches(_text(pattern), _text(text))
    if found is None:
        raise ValueError(f"the pattern {pattern!r} cannot be read")
    return found


def _find(text: str, pattern: str) -> str:
    match = _pattern(pattern).search(_text(text))
    return match[0] if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in _pattern(pattern).finditer(_text(text))]
    return found if limit < 0 else found[:limit]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [_text(text)]
    if not separator:
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], text[limit - 1 :]]
    return _text(text).split(separator, -1 if limit < 0 else limit - 1)


def _join(parts: list[str], separator: str = "") -> str:
    return separator.join(_text(each) for each in parts)


def _index_of(where: Any, what: Any, start: int = 0) -> int:
    if isinstance(where, str):
        if not 0 <= start <= len(where):
            raise ValueError(f"index out of range: {start}")
        return where.find(_text(what), start)
    return next((i for i, each in enumerate(where) if _same(each, what)), -1)


def _last_index_of(where: Any, what: Any, start: int | None = None) -> int:
    if isinstance(where, str):
        return where.rfind(_text(what)) if start is None else where.rfind(_text(what), 0, start + len(what))
    return max((i for i, each in enumerate(where) if _same(each, what)), default=-1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise ValueError(f"index out of range: {start}, {end}")
    return text[start:end]


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise ValueError(f"index out of range: {index}")
    return text[index : index + 1]


def _lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in _text(text))


def _upper(text: str) -> str:
    return "".join(char.upper() if char.isascii() else char for char in _text(text))


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return _text(text).replace(old, new, limit)


def _format(text: str, values: list[Any]) -> str:
    left = list(values)
    out = []
    for piece in re.findall(r"%%|%(?:\.\d+)?[a-zA-Z]|[^%]+|%", text):
        if piece == "%%":
            out.append("%")
        elif piece.startswith("%") and len(piece) > 1:
            if not left:
                raise ValueError("format has more places than values")
            out.append(_formatted(piece, left.pop(0)))
        else:
            out.append(piece)
    return "".join(out)


def _formatted(place: str, value: Any) -> str:
    kind, width = place[-1], place[1:-1]
    if kind == "s":
        return _written(value)
    if kind == "d":
        return str(int(value))
    if kind in "fe":
        return f"{float(value):{width or '.6'}{kind}}"
    if kind in "xXob" and isinstance(value, int):
        return f"{value:{kind}}"
    if kind in "xX" and isinstance(value, str | bytes):
        digits = (value.encode() if isinstance(value, str) else value).hex()
        return digits.upper() if kind == "X" else digits
    raise ValueError(f"unknown place {place} in format")


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(_written(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(k)}: {_written(value[k])}" for k in sorted(value, key=str)) + "}"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _quote(text: str) -> str:
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(plain, written)
    return f'"{text}"'


# lists


def _same(a: Any, b: Any) -> bool:
    return bool(isinstance(a, bool) == isinstance(b, bool) and a == b)


def _sum(values: list[Any]) -> Any:
    if values and isinstance(values[0], timedelta):
        return sum(values, timedelta())
    return sum(values)


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def found(values: Any, *more: Any) -> Any:
        among = [values, *more] if more or not isinstance(values, list) else values
        if not among:
            raise ValueError("of an empty list")
        return choose(among)

    return found


def _is_sorted(values: list[Any]) -> bool:
    return all(a <= b for a, b in pairwise(values))


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for each in values:
        if not any(_same(each, other) for other in found):
            found.append(each)
    return found


def _flatten(values: list[Any], depth: int = 1) -> list[Any]:
    found: list[Any] = []
    for each in values:
        found.extend(_flatten(each, depth - 1) if isinstance(each, list) and depth > 1 else _as_list(each))
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(values):
        raise ValueError(f"index out of range: {start}, {end}")
    return values[start:end]


def _contains_all(values: list[Any], wanted: list[Any]) -> bool:
    return all(any(_same(a, b) for b in values) for a in wanted)


# quantities and versions


def _quantity(text: Any) -> dict[str, str]:
    number = quantities.amount(_text(text))
    if number is None:
        raise ValueError(f"{text!r} is no quantity")
    return {_QUANTITY: str(number)}


def _number(value: Any) -> Fraction:
    if isinstance(value, dict) and _QUANTITY in value:
        return Fraction(value[_QUANTITY])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Fraction(value)
    raise ValueError("a quantity is wanted")


def _semver(text: Any, lenient: bool = False) -> dict[str, str]:
    text = _text(text)
    if lenient:
        text = text.removeprefix("v")
        head, sign, tail = re.fullmatch(r"([^-+]*)([-+]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # it always matches
        parts = [str(int(each)) if each.isdecimal() else each for each in head.split(".")]
        text = ".".join(parts + ["0"] * (3 - len(parts))) + sign + tail
    if not _SEMANTIC.fullmatch(text):
        raise ValueError(f"{text!r} is no semantic version")
    return {_SEMVER: text}


def _order(value: Any) -> tuple[Any, ...]:
    """What two versions are compared by; build metadata does not count, and a pre-release comes before its release."""
    match = _SEMANTIC.fullmatch(value[_SEMVER])
    assert match is not None  # noqa: S101  # made by _semver
    before = match[4]
    parts = [(0, int(each), "") if each.isdecimal() else (1, 0, each) for each in before.split(".")] if before else []
    return (int(match[1]), int(match[2]), int(match[3]), 0 if before else 1, parts)


def _compare(a: Any, b: Any) -> int:
    if isinstance(a, dict) and _SEMVER in a:
        left, right = _order(a), _order(b)
        return (left > right) - (left < right)
    x, y = _number(a), _number(b)
    return (x > y) - (x < y)


def _sign(value: Any) -> int:
    number = _number(value)
    return (number > 0) - (number < 0)


def _is_integer(value: Any) -> bool:
    number = _number(value)
    return number.denominator == 1 and -(2**63) <= number < 2**63


def _as_integer(value: Any) -> int:
    if not _is_integer(value):
        raise ValueError("the quantity is no whole number")
    return int(_number(value))


def _added(sign: int) -> Callable[[Any, Any], dict[str, str]]:
    return lambda a, b: {_QUANTITY: str(_number(a) + sign * _number(b))}


# URLs and addresses


def _url(text: Any) -> dict[str, str]:
    if not patterns.FORMATS["uri"][0](_text(text)):
        raise ValueError(f"{text!r} is no URL")
    return {_URL: text}


def _parts(url: dict[str, str]) -> SplitResult:
    return urlsplit(url[_URL])


def _host(url: dict[str, str]) -> str:
    return _parts(url).netloc.rpartition("@")[2]


def _hostname(url: dict[str, str]) -> str:
    return re.sub(r":\d*$", "", _host(url)).strip("[]")


def _port(url: dict[str, str]) -> str:
    match = re.search(r":(\d*)$", _host(url))
    return match[1] if match else ""


def _address(text: Any) -> Any:
    if isinstance(text, dict) and _CIDR in text:  # the method of a network
        return {_IP: str(ipaddress.ip_interface(text[_CIDR]).ip)}
    found = ipaddress.ip_address(_text(text))
    if "%" in text or getattr(found, "ipv4_mapped", None):
        raise ValueError(f"{text!r} has a zone or holds an IPv4 address")
    return {_IP: str(found)}


def _ip(value: Any) -> Any:
    return ipaddress.ip_address(value[_IP] if isinstance(value, dict) else value)


def _cidr(text: Any) -> dict[str, str]:
    if "/" not in _text(text):
        raise ValueError(f"{text!r} is no network")
    return {_CIDR: str(ipaddress.ip_interface(text))}


def _network(value: Any) -> Any:
    return ipaddress.ip_network(value[_CIDR] if isinstance(value, dict) else value, strict=False)


def _contains_ip(network: Any, address: Any) -> bool:
    return _ip(address) in _network(network)


def _contains_cidr(network: Any, other: Any) -> bool:
    outer, inner = _network(network), _network(other)
    return bool(outer.version == inner.version and inner.subnet_of(outer))


def _is_global_unicast(value: Any) -> bool:
    found = _ip(value)
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)


def _can(make: Callable[..., Any]) -> Callable[..., bool]:
    def can(*arguments: Any) -> bool:
        try:
            make(*arguments)
        except ValueError:
            return False
        return True

    return can


def _of_format(form: str) -> Callable[[str], str]:
    fits, example = patterns.FORMATS[form]
    return lambda text: "" if fits(text) else f"is not {example}"


_NAMED_FORMATS: dict[str, Callable[[str], str]] = {
    "dns1123Label": names.dns_label,
    "dns1123Subdomain": names.dns_subdomain,
    "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.label_key,
    "labelValue": names.label_value,
    **{form: _of_format(form) for form in ("uri", "uuid", "byte", "date")},
    "datetime": _of_format("date-time"),
}


def _named(name: str) -> Callable[[], dict[str, str]]:
    return lambda: {_FORMAT: name}


def _validate(form: dict[str, str], text: str) -> Any:
    from stoker.lint.cel import engine

    wrong = _NAMED_FORMATS[form[_FORMAT]](_text(text))
    return engine().OptionalValue.of([wrong]) if wrong else engine().OptionalValue.none()


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("1", "t", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "false", "FALSE", "False"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _added(1),
    "asApproximateFloat": lambda value: float(_number(value)),
    "asInteger": _as_integer,
    "base64.decode": lambda text: base64.b64decode(text, validate=True),
    "base64.encode": lambda data: base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode(),
    "bool": _bool,
    "charAt": _char_at,
    "cidr": _cidr,
    "compareTo": _compare,
    "containsCIDR": _contains_cidr,
    "containsIP": _contains_ip,
    "distinct": _distinct,
    "family": lambda value: _ip(value).version,
    "find": _find,
    "findAll": _find_all,
    "flatten": _flatten,
    "format": _format,
    "getEscapedPath": lambda url: _parts(url).path,
    "getHost": _host,
    "getHostname": _hostname,
    "getPort": _port,
    "getQuery": lambda url: parse_qs(_parts(url).query, keep_blank_values=True),
    "getScheme": lambda url: _parts(url).scheme,
    "indexOf": _index_of,
    "ip": _address,
    "ip.isCanonical": lambda text: str(ipaddress.ip_address(text)) == text,
    "isCIDR": _can(_cidr),
    "isGlobalUnicast": _is_global_unicast,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "isIP": _can(_address),
    "isInteger": _is_integer,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "isLinkLocalMulticast": lambda value: _ip(value).is_multicast and str(_ip(value)).startswith(("224.0.0.", "ff02")),
    "isLinkLocalUnicast": lambda value: _ip(value).is_link_local,
    "isMatchedBy": _matches,
    "isLoopback": lambda value: _ip(value).is_loopback,
    "isQuantity": _can(_quantity),
    "isSemver": _can(_semver),
    "isSorted": _is_sorted,
    "isURL": _can(_url),
    "isUnspecified": lambda value: _ip(value).is_unspecified,
    "join": _join,
    "lastIndexOf": _last_index_of,
    "lists.range": lambda count: list(range(count)),
    "lowerAscii": _lower,
    "major": lambda version: _order(version)[0],
    "masked": lambda value: {_CIDR: str(_network(value))},
    "math.greatest": _extreme(max),
    "math.least": _extreme(min),
    "max": _extreme(max),
    "min": _extreme(min),
    "minor": lambda version: _order(version)[1],
    "patch": lambda version: _order(version)[2],
    "prefixLength": lambda value: _network(value).prefixlen,
    "quantity": _quantity,
    "replace": _replace,
    "reverse": lambda value: value[::-1],
    "semver": _semver,
    "sets.contains": _contains_all,
    "sets.equivalent": lambda a, b: _contains_all(a, b) and _contains_all(b, a),
    "sets.intersects": lambda a, b: any(_same(x, y) for x in a for y in b),
    "sign": _sign,
    "sizeOf": _size,
    "slice": _slice,
    "sort": sorted,
    "split": _split,
    "strings.quote": _quote,
    "sub": _added(-1),
    "substring": _substring,
    "sum": _sum,
    "trim": lambda text: _text(text).strip(),
    "upperAscii": _upper,
    "url": _url,
    "validate": _validate,
    **{f"format.{name}": _named(name) for name in _NAMED_FORMATS},
}
