"""A line of data -> an example, or what is wrong with it. No tokens here, no torch.

Formats (`spec.run.Dataset.format`): chat, prompt, text, preference; `auto` by the keys of the line.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from stoker.base import json_text
from stoker.train.messages import Message, check_conversation, check_messages, check_tools, shown, wrong

MAX_LINE_BYTES = 16 << 20
_FORMATS = {
    "chat": ("messages",),
    "preference": ("chosen", "rejected"),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
}
"""The keys that each has to have, in the order in which `auto` looks for them."""

_FORMS = 'chat has "messages", prompt "prompt" and "completion", text "text", preference "chosen" and "rejected"'
_FOREIGN = {
    "conversations": 'ShareGPT\'s "conversations" would be "messages", each with role (user, assistant) and content',
    "instruction": 'Alpaca\'s "instruction" and "output" would be "prompt" and "completion"',
}


@dataclass(frozen=True)
class Chat:
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Prompt:
    prompt: str
    completion: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Preference:
    """`prompt` may be empty when both answers are whole conversations that begin alike."""

    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()


Example = Chat | Prompt | Text | Preference


@dataclass(frozen=True)
class BadLine:
    file: str
    line: int
    """From 1."""
    why: str
    """What, which value (cut), and what would be right."""


def example_of(value: object, format: str = "auto") -> Example:
    """Of the value of one line. Raises ValueError with the words of BadLine.why."""
    if not isinstance(value, Mapping):
        _refuse_no_object(value)
    kind = _format_of(value) if format == "auto" else format
    missing = [key for key in _FORMATS[kind] if key not in value]
    if missing:
        raise ValueError(f"has no {_quoted(missing)}, which the format {kind} has; {_what_was_meant(value, missing)}")
    readers: dict[str, Callable[[Mapping[str, Any]], Example]] = {
        "chat": _chat,
        "preference": _preference,
        "prompt": _prompt,
        "text": _text,
    }
    return readers[kind](value)


def read_lines(
    data: bytes, file: str, format: str = "auto"
) -> Iterator[tuple[int, Mapping[str, Any], Example] | BadLine]:
    """Line number, raw object and example of each line that is not blank; lines are UTF-8, at most 16 MiB. A byte order
    mark at the beginning and \\r\\n are fine. A file without any line is one bad line."""
    empty = True
    for number, line in lines_of(data):
        empty = False
        try:
            value = value_of(line)
            yield number, value, example_of(value, format)
        except ValueError as exc:
            yield BadLine(file, number, str(exc))
    if empty:
        yield BadLine(file, 1, f"the file has {len(data)} bytes and no line; one JSON object a line would be right")


def lines_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Those that are not blank, with their number, without copying all of the data."""
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    number = 0
    while start < len(data):
        number += 1
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end].strip(b" \t\r")
        if line:
            yield number, line
        start = end + 1


def value_of(line: bytes) -> Mapping[str, Any]:
    """The object of a line. Raises ValueError in words."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line has {len(line):,} bytes; {MAX_LINE_BYTES:,} are the most")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        hint = "it looks like UTF-16; " if b"\0" in line[:64] or line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(
            f"is not UTF-8: byte {line[exc.start]:#04x} at {exc.start + 1}; {hint}save the file as UTF-8"
        ) from None
    try:
        # What reads quickly takes NaN, too, which is not JSON.
        might_be_nan = "NaN" in text or "Infinity" in text
        value = json.loads(text, parse_constant=_refuse_constant) if might_be_nan else json_text.loads(text)
    except json.JSONDecodeError as exc:
        array = "; one object a line would be right, not one array" if text.startswith("[") else ""
        what = exc.msg.removesuffix(" at")  # "Unterminated string starting at"
        raise ValueError(f"is not JSON: {what} at character {exc.pos + 1} of {shown(text)}{array}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, Mapping):
        _refuse_no_object(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not JSON; a number or null would be right")


def _refuse_no_object(value: object) -> NoReturn:
    raise ValueError(f"is {shown(value)}, which is not an object; {_FORMS}")


def _format_of(value: Mapping[str, Any]) -> str:
    for kind, keys in _FORMATS.items():
        if all(key in value for key in keys):
            return kind
    # One of two keys says what was meant.
    for kind in ("preference", "prompt"):
        if any(key in value for key in _FORMATS[kind]):
            return kind
    raise ValueError(f"has {_keys(value)}, which is no known format; {_what_was_meant(value, _ALL_KEYS)}")


_ALL_KEYS = [key for keys in _FORMATS.values() for key in keys]


def _what_was_meant(value: Mapping[str, Any], wanted: Sequence[str]) -> str:
    for key, words in _FOREIGN.items():
        if key in value:
            return words
    for key in value:
        close = get_close_matches(str(key), wanted, n=1, cutoff=0.7)
        if close and key not in wanted:
            return f"did you mean {_quoted(close)}, not {shown(key)}?"
    return _FORMS


def _keys(value: Mapping[str, Any]) -> str:
    return f"the keys {shown(list(value))}" if value else "no keys"


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)


def _text(value: Mapping[str, Any]) -> Text:
    return Text(_string(value, "text"))


def _string(value: Mapping[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise wrong(key, text, "a string")
    if not text:
        raise ValueError(f"{key} is empty; there is nothing to learn from it")
    return text


def _chat(value: Mapping[str, Any]) -> Chat:
    messages = check_messages(value["messages"], "messages")
    check_conversation(messages, "messages")
    return Chat(messages, check_tools(value.get("tools")))


def _prompt(value: Mapping[str, Any]) -> Prompt | Chat:
    prompt, completion = value["prompt"], value["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return Prompt(prompt, _string(value, "completion"))
    if isinstance(prompt, list) and isinstance(completion, list):
        before = check_messages(prompt, "prompt")
        after = check_messages(completion, "completion")
        check_conversation([*before, *after], "prompt and completion", answers=after, where="completion")
        return Chat([*map(_out_of_the_loss, before), *after], check_tools(value.get("tools")))
    at_fault = "completion" if isinstance(prompt, (str, list)) else "prompt"
    raise ValueError(
        f"{at_fault} is {shown(value[at_fault])}; prompt and completion would be two strings, or two lists of messages"
    )


def _out_of_the_loss(message: Message) -> Message:
    return {**message, "weight": 0} if message["role"] == "assistant" else message


def _preference(value: Mapping[str, Any]) -> Preference:
    asked = value.get("prompt")
    prompt = [] if asked in (None, "", []) else _spoken(asked, "prompt", "user")
    chosen, rejected = (_spoken(value[key], key, "assistant") for key in ("chosen", "rejected"))
    both_have_it = chosen[: len(prompt)] == prompt == rejected[: len(prompt)]
    if both_have_it and min(len(chosen), len(rejected)) > len(prompt):
        prompt = [*prompt, *_alike(chosen[len(prompt) :], rejected[len(prompt) :])]
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if chosen == rejected:
        raise ValueError(f"chosen and rejected are the same, {shown(value['chosen'])}; they have to differ")
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        check_conversation([*prompt, *answer], f"prompt and {name}", answers=answer, where=name)
    return Preference(prompt, chosen, rejected, check_tools(value.get("tools")))


def _spoken(value: object, name: str, role: str) -> list[Message]:
    """A text is what that role says."""
    if isinstance(value, str):
        if not value:
            raise ValueError(f"{name} is empty; a string or a list of messages would be right")
        return [{"role": role, "content": value}]
    return check_messages(value, name)


def _alike(one: Sequence[Message], other: Sequence[Message]) -> Sequence[Message]:
    """What both begin with, at least one message left of each."""
    count = 0
    while count < min(len(one), len(other)) - 1 and one[count] == other[count]:
        count += 1
    return one[:count]
