"""What a request holds, as far as `model: auto` goes by it. Pure, deterministic, and bounded whatever the body is:
MAX_PARTS parts and MAX_CHARACTERS characters are looked at, the newest first: what is asked for stands at the end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from stoker.policy.code_signs import looks_like_code
from stoker.policy.hard_signs import looks_hard

PREFIX_CHARACTERS = 1024
LEAST_CHARACTERS = 256  # a shorter beginning is computed anew sooner than it is worth a busier replica
FIRST_PARTS = 64

MAX_CHARACTERS = 4096
MAX_PARTS = 256  # so that a body of a million empty ones costs no more

_IMAGES = frozenset(("image_url", "input_image", "image"))
_INSTRUCTIONS = frozenset(("system", "developer"))
_OF_OTHERS = frozenset(("assistant", "tool", "function"))


@dataclass(frozen=True, slots=True)
class RequestFeatures:
    """`characters` counts all text, that of system prompts included, as far as MAX_PARTS parts hold it."""

    has_image: bool = False
    has_code: bool = False
    has_tools: bool = False
    is_hard: bool = False
    characters: int = 0


def features_of(body: Mapping[str, Any]) -> RequestFeatures:
    """What a body of any endpoint holds. Never raises: a malformed body is for the engine to refuse, in better words.

    System prompts are looked at for their length alone: agents' prompts are full of fences and JSON whatever is asked.
    Whether it looks hard goes by what the person said, not by what was answered.
    """
    if not isinstance(body, Mapping):
        return RequestFeatures()
    seen = _Seen()
    seen.messages(body.get("messages"))
    seen.messages(body.get("input"))
    seen.messages(body.get("prompt"))
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        seen.characters += len(instructions)
    return RequestFeatures(
        has_image=seen.has_image,
        has_code=looks_like_code("\n".join(reversed(seen.texts))),
        has_tools=_offers_tools(body),
        is_hard=looks_hard("\n".join(reversed(seen.asked))),
        characters=seen.characters,
    )


def beginning_of(body: Mapping[str, Any]) -> str | None:
    """The first PREFIX_CHARACTERS of a prompt with the roles in it: what prompts with a cache in common begin with.
    None when it has fewer than LEAST_CHARACTERS. Looks at FIRST_PARTS parts at most."""
    found: list[str] = []
    room = PREFIX_CHARACTERS
    for text in islice(_from_the_front(body), FIRST_PARTS):
        if text:
            found.append(text[:room])
            room -= len(found[-1])
        if room <= 0:
            break
    return "\0".join(found) if PREFIX_CHARACTERS - room >= LEAST_CHARACTERS else None


def _from_the_front(body: Mapping[str, Any]) -> Iterator[str]:
    for key in ("instructions", "messages", "input", "prompt"):
        value = body.get(key)
        for message in value if isinstance(value, list) else (value,):
            content = message
            if isinstance(message, dict):
                role = message.get("role")
                yield role if isinstance(role, str) else ""
                content = message.get("content", message.get("text"))
            for part in content if isinstance(content, list) else (content,):
                text = part.get("text") if isinstance(part, dict) else part
                yield text if isinstance(text, str) else ""


def _offers_tools(body: Mapping[str, Any]) -> bool:
    """Tools that the model may not call are none."""
    for offered, choice in (("tools", "tool_choice"), ("functions", "function_call")):
        tools = body.get(offered)
        if isinstance(tools, list) and tools and body.get(choice) != "none":
            return True
    return False


class _Seen:
    """The newest parts of a body, until one of the two bounds is reached. `texts` and `asked` are newest first."""

    __slots__ = ("asked", "characters", "has_image", "left", "room", "texts")

    def __init__(self) -> None:
        self.has_image = False
        self.characters = 0
        self.texts: list[str] = []  # all but system prompts
        self.asked: list[str] = []  # of those, what a person said
        self.room = MAX_CHARACTERS
        self.left = MAX_PARTS

    def messages(self, value: object) -> None:
        """Chat messages, the items of a response's input, or prompts."""
        if isinstance(value, str):
            self._text(value, None)
            return
        if not isinstance(value, list):
            return
        for message in reversed(value):
            if self.left <= 0:
                return
            if not isinstance(message, dict):
                self._text(message, None)
                continue
            content, role = message.get("content", message.get("output")), message.get("role")
            if isinstance(content, list):
                self._content(content, role)
            elif content is None:
                self._part(message, role)
            else:
                self._text(content, role)

    def _content(self, content: list[Any], role: object) -> None:
        for part in reversed(content):
            if self.left <= 0:
                return
            if isinstance(part, dict):
                self._part(part, role)
            else:
                self._text(part, role)

    def _part(self, part: dict[str, Any], role: object) -> None:
        kind = part.get("type")
        if isinstance(kind, str) and kind in _IMAGES:
            self.has_image = True
            self.left -= 1
        else:
            self._text(part.get("text"), role)

    def _text(self, text: object, role: object) -> None:
        self.left -= 1
        if not isinstance(text, str) or not text:
            return
        self.characters += len(text)
        if self.room > 0 and not (isinstance(role, str) and role in _INSTRUCTIONS):
            seen = text[-self.room :]
            self.room -= len(seen)
            self.texts.append(seen)
            if not (isinstance(role, str) and role in _OF_OTHERS):
                self.asked.append(seen)
