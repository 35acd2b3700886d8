"""A line of data -> an example, or what is wrong with it. No tokens here, no torch.

Formats (`spec.run.Dataset.format`): chat, prompt, text, preference; `auto` by the keys of the line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]
"""OpenAI's: role, content (text, parts or null), name, tool_calls, tool_call_id. `weight: 0` of an assistant's message
keeps it out of the loss, as in OpenAI's format."""


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
    raise NotImplementedError


def read_lines(
    data: bytes, file: str, format: str = "auto"
) -> Iterator[tuple[int, Mapping[str, Any], Example] | BadLine]:
    """Line number, raw object and example of each line that is not blank; lines are UTF-8, at most 16 MiB. A byte order
    mark at the beginning and \\r\\n are fine."""
    raise NotImplementedError
