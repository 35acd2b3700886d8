"""Chat templates of other people's models: a conversation -> its text, and where the assistant speaks in it.

The one home of jinja2, with `template_bounds`. A template is somebody else's program: it runs in jinja2's sandbox and
within bounds, and is given what `transformers` gives it. Only the date is not that of the day, but always `TODAY`: a
row of a run must not depend on when it was made.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser

from stoker.base.errors import InvalidInput
from stoker.train import template_bounds
from stoker.train.messages import Message, arguments_of, shown

TODAY = datetime(2024, 7, 26)
"""What Llama 3.1's template says where it does not know the date."""

_BEGIN, _END = "\ufdd0", "\ufdd1"
"""Characters that are none, by Unicode, for use inside a program: they mark what {% generation %} encloses."""

_MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

_TROUBLES = (
    *(jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError),
    MemoryError,
)


@dataclass(frozen=True)
class Said:
    """`text[start:end]` is what the assistant says in message `message`, the end of its turn included."""

    message: int
    start: int
    end: int


class ChatTemplate:
    def __init__(
        self, source: str, special: Mapping[str, str], *, enders: frozenset[str], added: frozenset[str]
    ) -> None:
        """`special`: bos_token, eos_token and so on. `enders`: tokens that end a turn. `added`: all tokens that stand
        as they are. Raises InvalidInput for a template that is none."""
        self._special = dict(special)
        self._enders = enders
        self._added = tuple(added)
        self._marks = _MARKS.search(source) is not None
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError) as exc:
            raise InvalidInput(
                f"the chat template cannot be read: {str(exc) or type(exc).__name__}", param="base"
            ) from exc

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, asks: bool) -> str:
        """`asks`: with what begins the assistant's next message. Raises ValueError in words."""
        return self._render([_plain(message) for message in messages], tools, asks)

    def said(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[str, list[Said]]:
        """The text of the whole conversation, and what the assistant says in it. Raises ValueError in words: the
        template refuses the conversation, leaves out a message, or writes the beginning in another way once more
        follows."""
        plain = [_plain(message) for message in messages]
        text = self._render(plain, tools, False)
        speakers = [number for number, message in enumerate(plain) if message["role"] == "assistant"]
        if self._marks:
            text, spans = _unmarked(text)
            if len(spans) != len(speakers):
                raise ValueError(
                    f"the chat template marks {len(spans)} passages as generated; the assistant has {len(speakers)} "
                    "messages"
                )
            found = [Said(number, *span) for number, span in zip(speakers, spans, strict=True)]
        else:
            found = [self._by_prefix(plain, tools, text, number) for number in speakers]
        _refuse_left_out(plain, text)
        return text, [self._with_end(text, each) for each in found]

    def _by_prefix(self, plain: list[dict[str, Any]], tools: Any, text: str, number: int) -> Said:
        """From where the engine would be asked for the message on."""
        asked = self._render(plain[:number], tools, True)
        until = text if number == len(plain) - 1 else self._render(plain[: number + 1], tools, False)
        if not (text.startswith(asked) and until.startswith(asked)):
            raise ValueError(
                f"the chat template writes what comes before message {number + 1} in another way once more follows, "
                "so that the model would be asked otherwise than it is trained; cut the conversation there, or mark "
                "what is said with {% generation %} in the template"
            )
        if text.startswith(until):
            return Said(number, len(asked), len(until))
        # Some write an answer in another way (Qwen3: without its thoughts) once it is not the last: up to its end then.
        ends = [at + len(token) for token in self._enders if (at := text.find(token, len(asked))) >= 0]
        if not ends:
            raise ValueError(
                f"the chat template writes message {number + 1} in another way once more follows, and where it ends is "
                "not known; cut the conversation there, or mark what is said with {% generation %} in the template"
            )
        return Said(number, len(asked), min(ends))

    def _with_end(self, text: str, said: Said) -> Said:
        """With the token that ends the turn, and without the white space behind it, which no engine asks for."""
        start, end = said.start, said.end
        spoken = text[start:end].rstrip()
        if spoken.endswith(self._added):
            return Said(said.message, start, start + len(spoken))
        ender = next((token for token in self._enders if text.startswith(token, end)), "")
        return Said(said.message, start, end + len(ender))

    def _render(self, plain: list[dict[str, Any]], tools: Any, asks: bool) -> str:
        given = {"messages": plain, "tools": list(tools) or None, "documents": None, "add_generation_prompt": asks}
        try:
            with template_bounds.counted():
                return self._template.render(**given, **self._special)
        except _TROUBLES as exc:
            roles = ", ".join(message["role"] for message in plain)
            raise ValueError(
                f"the chat template refuses the messages of {shown(roles)}: {str(exc) or type(exc).__name__}"
            ) from exc


def _plain(message: Message) -> dict[str, Any]:
    """As engines give it to a template (vLLM's): arguments as objects, text parts joined, nothing that is null."""
    plain = {key: value for key, value in message.items() if value is not None and key != "weight"}
    content = plain.get("content", "")
    if isinstance(content, list):
        if any(part["type"] == "image_url" for part in content):
            raise ValueError("holds an image, and the model sees none; content of text would be right")
        content = "\n".join(part[part["type"]] for part in content)
    plain["content"] = content
    if plain.get("tool_calls"):
        plain["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": arguments_of(call)}} for call in plain["tool_calls"]
        ]
    else:
        plain.pop("tool_calls", None)
    thought = next((plain[key] for key in ("reasoning_content", "thinking", "reasoning") if key in plain), None)
    return plain if thought is None else {"thinking": thought, **plain, "reasoning_content": thought}


def _refuse_left_out(plain: Sequence[Mapping[str, Any]], text: str) -> None:
    for number, message in enumerate(plain):
        if message["role"] in ("system", "developer", "user") and message["content"].strip() not in text:
            raise ValueError(
                f"the chat template leaves out message {number + 1}, {shown(message['content'])}; it does not know the "
                f"role {message['role']} there"
            )


def _unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Without the marks, and where they were."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length, rest = 0, text
    while _BEGIN in rest or _END in rest:
        before, begin, rest = rest.partition(_BEGIN)
        inside, end, rest = rest.partition(_END)
        if not (begin and end) or _END in before or _BEGIN in inside:
            raise ValueError("the text holds U+FDD0 or U+FDD1, which are no characters; take them out")
        spans.append((length + len(before), length + len(before) + len(inside)))
        pieces += [before, inside]
        length = spans[-1][1]
    return "".join([*pieces, rest]), spans


# What a template can use


class _Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %}: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{_BEGIN}{caller()}{_END}"


class _Namespace(jinja2.utils.Namespace):
    """Of plain names alone: none that Python gives a meaning."""

    def __init__(*args: Any, **values: Any) -> None:  # jinja2's own, so that any name can be set
        for name in dict(*args[1:], **values):
            _refuse_private(name)
        jinja2.utils.Namespace.__init__(*args, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: str) -> None:
    if name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"the chat template sets {name!r} of a namespace")


def _environment() -> template_bounds.Environment:
    environment = template_bounds.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _dict
    environment.globals["namespace"] = _Namespace
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not jinja2's own, which escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return TODAY.strftime(form)


def _dict(*args: Any, **values: Any) -> dict[str, Any]:
    """A function and no class, which would have more attributes than a template needs."""
    return dict(*args, **values)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
