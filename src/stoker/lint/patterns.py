"""Patterns of Go (RE2) run by Python, and formats that the API server knows. Knows no schema and no object."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from functools import lru_cache
from urllib.parse import urlsplit

from stoker.base.durations import is_duration

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_PIECE = re.compile(
    r"\\Q.*?(?:\\E|$)|\\z|\\C|\\[pP](?:\{\^?\w+\}|\w)|\\x\{[0-9A-Fa-f]+\}|\\.|\[:\^?\w+:\]|\[\^?\]?|\]|\$|\(\?\w+\)|\(\?P?<|.",
    re.DOTALL,
)


class CannotTranslate(ValueError):
    """A pattern that Python's `re` has no words for."""


@lru_cache(maxsize=2048)
def compiled(pattern: str) -> re.Pattern[str] | None:
    """The pattern of Go as one of Python; None for one that cannot be translated."""
    try:
        return re.compile(translated(pattern), re.ASCII)
    except (re.error, CannotTranslate, RecursionError, OverflowError):
        return None


def translated(pattern: str) -> str:
    """RE2's spelling in Python's: `\\z`, POSIX classes, `\\Q...\\E`, and `$`, which in Go is the very end."""
    out: list[str] = []
    flags = ""
    inside = False
    for piece in _PIECE.findall(pattern):
        if piece.startswith("\\Q"):
            out.append(re.escape(piece[2:].removesuffix("\\E")))
        elif piece.startswith("[:") and inside:
            name = piece[2:-2]
            if name.startswith("^") or name not in _CLASSES:
                raise CannotTranslate(f"the class {piece}")
            out.append(_CLASSES[name])
        elif piece.startswith("[") and not inside:
            inside = True
            out.append(piece)
        elif piece.startswith("["):
            out.append("\\" + piece)  # Python warns of a '[' within a class: it may come to mean a nested set
        elif piece == "]" and inside:
            inside = False
            out.append(piece)
        elif piece == "\\z":
            out.append(r"\Z")
        elif piece == "$" and not inside:
            out.append("$" if "m" in flags else r"\Z")
        elif piece.startswith("\\x{"):
            out.append(re.escape(chr(int(piece[3:-1], 16))))
        elif piece[:2] in ("\\p", "\\P", "\\C"):
            raise CannotTranslate(f"the class {piece}")
        elif re.fullmatch(r"\(\?\w+\)", piece):
            if "U" in piece or out:
                raise CannotTranslate(f"the flags {piece}")
            flags = piece[2:-1]
            out.append(piece)
        elif piece == "(?<":
            out.append("(?P<")
        elif inside and piece in ("&", "~", "|", "-") and out and out[-1] == piece:
            out.append("\\" + piece)  # the same warning for '&&', '~~', '||' and '--'
        else:
            out.append(piece)
    return "".join(out)


_RUST = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}


def in_rust(pattern: str) -> str:
    """RE2's spelling in that of Rust, whose `\\d`, `\\w` and `\\s` are not ASCII alone, and whose classes nest."""
    out: list[str] = []
    inside = False
    for piece in _PIECE.findall(pattern):
        low = piece[1:].lower()
        if piece.startswith("\\Q"):
            out.append(re.escape(piece[2:].removesuffix("\\E")))
        elif piece[:1] == "\\" and low in _RUST and inside:
            out.append(f"[^{_RUST[low]}]" if piece[1].isupper() else _RUST[low])
        elif piece[:1] == "\\" and low in _RUST:
            out.append(f"[{'^' if piece[1].isupper() else ''}{_RUST[low]}]")
        elif piece[:1] == "[" and piece[1:2] != ":":
            out.append("\\" + piece if inside else piece)
            inside = True
        else:
            if inside and piece in ("&", "~", "-") and out[-1] == piece:
                piece = "\\" + piece
            inside = inside and piece != "]"
            out.append(piece)
    return "".join(out)


def _date_time(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text, re.ASCII):
        return False
    return _parses(datetime.fromisoformat, re.sub(r"\.\d+", "", text).upper())


def _date(text: str) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII)) and _parses(date.fromisoformat, text)


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text.replace("\n", "").replace("\r", "").encode(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    if any(char.isspace() or ord(char) < 0x20 for char in text):
        return False
    return text.startswith("/") or bool(parts.scheme and ":" in text)


def _cidr(text: str) -> bool:
    return "/" in text and _parses(lambda each: ipaddress.ip_network(each, strict=False), text)


_LONG_DURATION = re.compile(
    r"(\d+(\.\d+)? ?(ns|nanos?(econds?)?|us|µs|micros?(econds?)?|ms|millis?(econds?)?|s|secs?|seconds?|m|mins?|minutes?"
    r"|h|hrs?|hours?|d|days?|w|weeks?|wks?) ?)+",
    re.ASCII,
)


def _duration(text: str) -> bool:
    return is_duration(text) or bool(_LONG_DURATION.fullmatch(text))


def _ip(version: int) -> Callable[[str], bool]:
    return lambda text: _parses(ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address, text)


def _parses(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _matching(pattern: str) -> Callable[[str], bool]:
    found = re.compile(pattern, re.ASCII)
    return lambda text: bool(found.fullmatch(text))


FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "byte": (_base64, "base64"),
    "cidr": (_cidr, "a network such as 10.0.0.0/16"),
    "date": (_date, "a date such as 2026-01-31"),
    "date-time": (_date_time, "a time such as 2026-01-31T12:00:00Z"),
    "datetime": (_date_time, "a time such as 2026-01-31T12:00:00Z"),
    "duration": (_duration, "a duration such as 90s or 1h30m"),
    "ipv4": (_ip(4), "an IPv4 address"),
    "ipv6": (_ip(6), "an IPv6 address"),
    "mac": (_matching(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"), "a MAC address"),
    "uri": (_uri, "a URI such as https://example.com"),
    "uuid": (_matching(r"(?i:[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12})"), "a UUID"),
}
"""Format -> (is this text one?, what one looks like). One that is not here is not checked, as on the API server."""
