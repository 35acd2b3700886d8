"""The answer of a stream, as its client gets it, for the span of its request: where the tenant wants it to be recorded,
and nowhere else. Of other streams nothing is kept."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from stoker.base import json_text
from stoker.base.clock import Clock
from stoker.gateway import spans
from stoker.gateway.spans import MOST_CONTENT
from stoker.telemetry.spans import Span

Json = dict[str, Any]
CUT = "..."
_PART_CHARS = 40
"""What a part counts for beside its text, so that many empty ones are bounded, too."""
_NAME_CHARS = 128
_TYPED = {"response.output_text.delta": "text", "response.refusal.delta": "text"}


@dataclass(slots=True)
class _Part:
    type: str
    about: Json
    said: list[str] = field(default_factory=list)

    def shown(self) -> Json:
        return {"type": self.type, **self.about, "arguments" if self.type == "tool_call" else "content": self.text}

    @property
    def text(self) -> str:
        return "".join(self.said)


class Recorded:
    """Up to MOST_CONTENT characters of one answer: texts joined in their order, and calls of tools; CUT stands where
    more came. What is no event of an answer is passed over."""

    def __init__(self) -> None:
        self._left = MOST_CONTENT
        self._parts: dict[tuple[int, str, int], _Part] = {}  # by choice, type and place in it
        self.is_cut = False

    def saw(self, passed: bytes) -> None:
        """Whole server-sent events, as they go to the client."""
        for line in [] if self.is_cut else passed.split(b"\n"):
            if line.startswith(b"data: {"):
                try:
                    said = json_text.loads(line[6:])
                except ValueError:
                    continue
                if isinstance(said.get("type"), str):
                    self._typed(said)
                for choice in _objects(said.get("choices")):
                    self._choice(choice)

    def messages(self) -> str | None:
        """As OpenTelemetry's conventions write `gen_ai.output.messages`: JSON, a message for each choice."""
        said: dict[int, list[Json]] = {}
        for (choice, _, _), part in self._parts.items():
            said.setdefault(choice, []).append(part.shown())
        if not said:
            return None
        return json_text.dumps([{"role": "assistant", "parts": parts} for _, parts in sorted(said.items())]).decode()

    def tell(self, span: Span) -> None:
        if (said := self.messages()) is not None:
            span.say("gen_ai.output.messages", said)

    def _choice(self, choice: Json) -> None:
        index, delta = _number(choice.get("index")), choice.get("delta")
        if isinstance(delta, dict):
            self._say((index, "reasoning", 0), delta.get("reasoning_content"))
            self._say((index, "text", 0), delta.get("content"))
            for call in _objects(delta.get("tool_calls")):
                function = call.get("function")
                if isinstance(function, dict):
                    about = {"id": call.get("id"), "name": function.get("name")}
                    self._say((index, "tool_call", _number(call.get("index"))), function.get("arguments"), about)
        else:
            self._say((index, "text", 0), choice.get("text"))

    def _typed(self, event: Json) -> None:
        kind, place = event["type"], _number(event.get("output_index"))
        item = event.get("item")
        if kind == "response.output_item.added" and isinstance(item, dict) and item.get("type") == "function_call":
            self._say((0, "tool_call", place), "", {"id": item.get("call_id"), "name": item.get("name")})
        elif kind == "response.function_call_arguments.delta":
            self._say((0, "tool_call", place), event.get("delta"))
        elif kind in _TYPED:
            self._say((0, _TYPED[kind], place), event.get("delta"))

    def _say(self, where: tuple[int, str, int], text: object, about: Json | None = None) -> None:
        if self.is_cut or not isinstance(text, str) or not (text or about):
            return
        part = self._parts.get(where)
        if part is None:
            known = {name: value[:_NAME_CHARS] for name, value in (about or {}).items() if isinstance(value, str)}
            self._left -= _PART_CHARS + sum(map(len, known.values()))
            if self._left < 0:
                self.is_cut = True
                return
            part = self._parts[where] = _Part(where[1], known)
        if text:
            part.said.append(text[: self._left])
            self.is_cut = len(text) > self._left
            self._left -= len(part.said[-1])
            if self.is_cut:
                part.said.append(CUT)


def of(span: Span | None) -> Recorded | None:
    """None: nobody wants it, or it goes nowhere."""
    return Recorded() if span is not None and span.with_content and span.is_sampled else None


async def recorded(span: Span, events: AsyncGenerator[bytes, None], clock: Clock) -> AsyncGenerator[bytes, None]:
    """The same events, with which the span ends; where its tenant wants it, they are on it."""
    span.ends_later = True
    made = _recorded(span, of(span), events, clock)
    await anext(made)
    return made


async def _recorded(
    span: Span, record: Recorded | None, events: AsyncGenerator[bytes, None], clock: Clock
) -> AsyncGenerator[bytes, None]:
    """Its first step yields nothing: a generator that was never started closes nothing."""
    try:
        async with aclosing(events):
            yield b""
            async for piece in events:
                if record is not None:
                    record.saw(piece)
                yield piece
    finally:
        if record is not None:
            record.tell(span)
        spans.answered_with(span, 200, clock.now())


def _objects(value: object) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
