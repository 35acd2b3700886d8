"""What a chat template may use, beside jinja2's sandbox: turns of loops, characters, and numbers that make long texts.

A count and no clock: whether a conversation can be written must not depend on how busy the machine is. What is left are
chains of filters that each stay within a bound, such as `replace`; where they run out of memory that is told.
"""

import functools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_TURNS = 1_000_000
"""Of loops and macros, in one conversation."""
MOST_CHARACTERS = 64 << 20
"""Of all that it writes, and of any text or list on the way; four times the longest line of data."""
MOST_NUMBER = 1_000_000
"""For how often, or how wide."""

_LONG_NUMBER = re.compile(r"\d{7}")
_WITH_NUMBERS = ("center", "indent", "slice", "batch", "round", "wordwrap", "tojson")
_spent = threading.local()


@contextmanager
def counted() -> Iterator[None]:
    """Around one conversation. What goes beyond a bound raises SecurityError."""
    _spent.turns = _spent.characters = 0
    try:
        yield
    finally:
        _spent.turns = _spent.characters = 0


class Turns(jinja2.ext.Extension):
    """Each turn of a loop, and each call of a macro, is one."""

    identifier = "stoker.turns"

    @property
    def turn(self) -> None:
        """Counts as it is read, which is several times quicker than a call by the sandbox."""
        _spent.turns = getattr(_spent, "turns", 0) + 1
        if _spent.turns > MOST_TURNS:
            raise SecurityError(f"its loops take more than {MOST_TURNS:,} turns")

    def joined(self, *parts: Any) -> Any:
        _refuse_long(sum(len(part) for part in parts if isinstance(part, str)))
        return "".join(map(str, parts))


class Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=_written, **options)
        self.add_extension(Turns)
        del self.globals["lipsum"]
        for name in self.filters:
            self.filters[name] = _bounded(self.filters[name], name)

    def _generate(self, source: nodes.Template, *args: Any, **more: Any) -> str:
        again: list[nodes.For | nodes.Macro | nodes.CallBlock] = [
            *source.find_all(nodes.For),
            *source.find_all(nodes.Macro),
            *source.find_all(nodes.CallBlock),
        ]
        for each in again:
            turn = nodes.ExprStmt(nodes.ExtensionAttribute(Turns.identifier, "turn"))
            each.body.insert(0, turn.set_lineno(each.lineno))
        _replace_joins(source)
        source.set_environment(self)
        return super()._generate(source, *args, **more)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(other, int):
                    _refuse_long(len(one) * other)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _refuse_number(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str):
            _refuse_format(left, right)
        return _of_length(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        method = getattr(__obj, "__wrapped__", __obj)
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            if method.__name__ in ("format", "format_map"):
                _refuse_format(text, (*args, *kwargs.values()))
            for each in (*args, *kwargs.values()):
                _refuse_number(each)
        return _of_length(super().call(__context, __obj, *args, **kwargs))


def _replace_joins(node: nodes.Node) -> None:
    """`a ~ b`, which is no operator that the sandbox shows."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_without_join(each) for each in value]
        else:
            setattr(node, field, _without_join(value))


def _without_join(value: Any) -> Any:
    if isinstance(value, nodes.Node):
        _replace_joins(value)
    if not isinstance(value, nodes.Concat):
        return value
    return nodes.Call(nodes.ExtensionAttribute(Turns.identifier, "joined"), value.nodes, [], None, None)


def _written(value: Any) -> Any:
    if isinstance(value, str):
        _spent.characters = getattr(_spent, "characters", 0) + len(value)
        _refuse_long(_spent.characters)
    return value


def _bounded(filter: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(filter)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        if name in _WITH_NUMBERS:
            for each in (*args[1:], *kwargs.values()):
                _refuse_number(each)
        if name == "format":
            _refuse_format(str(args[0]), (*args[1:], *kwargs.values()))
        return _of_length(filter(*args, **kwargs))

    return bounded


def _of_length(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)):
        _refuse_long(len(value))
    return value


def _refuse_long(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise SecurityError(f"it writes more than {MOST_CHARACTERS:,} characters")


def _refuse_number(value: Any) -> None:
    if isinstance(value, int) and value > MOST_NUMBER:
        raise SecurityError(f"it asks for a number above {MOST_NUMBER:,} where a text or list becomes as long")


def _refuse_format(text: str, given: Any) -> None:
    if found := _LONG_NUMBER.search(text):
        _refuse_number(int(found[0]) * 10)
    if "*" in text or "{" in text:
        for each in given if isinstance(given, tuple) else (given,):
            _refuse_number(each)
