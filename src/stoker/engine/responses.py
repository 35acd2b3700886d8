"""`/v1/responses`: a body to what the engine is asked for, and what it generates to OpenAI's events. Pure but for
decoding images.

What would have to be remembered between requests, or done by tools that run at OpenAI, is refused. Nothing is stored:
`store` is taken and answered with false.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stoker.base.errors import InvalidInput
from stoker.base.ids import new_id
from stoker.engine import parsing, typed_events
from stoker.engine.parsing import Asked, Served
from stoker.engine.sequences import FinishReason
from stoker.engine.values import Json, dumped, get, missing, refuse_unless, shown, wrong_type
from stoker.nn.tokenizer import ROLES, ImagePart, Message

Event = dict[str, Any]

_IMPOSSIBLE = ("previous_response_id", "prompt", "conversation", "context_management")
_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def parse(body: Json, served: Served) -> Asked:
    """Raises InvalidInput, NotFound for another model."""
    parsing.check_common(body, served)
    for name in _IMPOSSIBLE:
        if body.get(name) is not None:
            raise InvalidInput(
                f"{name} is not possible: this engine keeps nothing; send all of it in input",
                param=name,
                code="unsupported_value",
            )
    get(body, "store", bool, None)
    refuse_unless(body, "background", lambda value: not value, bool)
    refuse_unless(body, "top_logprobs", lambda value: value == 0, int)
    refuse_unless(body, "include", lambda value: "message.output_text.logprobs" not in value, list)
    refuse_unless(body, "tool_choice", lambda value: value in ("none", "auto"), (str, dict))
    refuse_unless(body, "tools", lambda value: all(_is_function(tool) for tool in value), list)
    text_format = get(get(body, "text", dict, {}), "format", dict, {})
    if text_format.get("type", "text") != "text":
        raise InvalidInput(
            f"text.format is {shown(text_format)}; the embedded engine gives text only",
            param="text.format",
            code="unsupported_value",
        )
    pixels: list[np.ndarray] = []
    messages = _messages(body, served, pixels)
    prompt = parsing.chat_tokens(messages, served, "input")
    soft = parsing.soft_tokens(pixels, served)
    return parsing.asked(body, served, prompt, "input", soft, lengths=("max_output_tokens",))


def _is_function(tool: Any) -> bool:
    """Tools of the client's own are passed over, as in a chat; others would have to run here."""
    return isinstance(tool, dict) and tool.get("type") in ("function", "custom")


def _messages(body: Json, served: Served, pixels: list[np.ndarray]) -> list[Message]:
    said = get(body, "input", (str, list), None)
    if said is None:
        raise missing("input")
    if not said:
        raise InvalidInput("input is empty; it has to hold a text or at least one item", param="input")
    instructions = get(body, "instructions", str, "")
    first = [Message("system", [instructions])] if instructions else []
    if isinstance(said, str):
        return [*first, Message("user", [said])]
    return [*first, *(_item(item, f"input[{number}]", served, pixels) for number, item in enumerate(said))]


def _item(item: Any, path: str, served: Served, pixels: list[np.ndarray]) -> Message:
    if not isinstance(item, dict):
        raise wrong_type(path, item, (dict,))
    kind = item.get("type", "message")
    if not isinstance(kind, str):
        raise wrong_type(f"{path}.type", kind, (str,))
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or role not in ROLES:
            known = ", ".join(ROLES)
            raise InvalidInput(f"{path}.role is {shown(role)}; it has to be one of {known}", param=f"{path}.role")
        return Message(role, _parts(item.get("content"), f"{path}.content", served, pixels))
    if kind in _CALLS:
        return Message("assistant", [dumped({name: item.get(name) for name in ("name", "arguments", "input")})])
    if kind in _OUTPUTS:
        return Message("tool", _parts(item.get("output"), f"{path}.output", served, pixels))
    raise InvalidInput(
        f"{path}.type is {shown(kind)}; this engine takes messages, and calls of tools with their outputs",
        param=f"{path}.type",
        code="unsupported_value",
    )


def _parts(content: Any, path: str, served: Served, pixels: list[np.ndarray]) -> list[str | ImagePart]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise wrong_type(path, content, (str, list))
    return [_part(part, f"{path}[{number}]", served, pixels) for number, part in enumerate(content)]


def _part(part: Any, path: str, served: Served, pixels: list[np.ndarray]) -> str | ImagePart:
    if not isinstance(part, dict):
        raise wrong_type(path, part, (dict,))
    kind = part.get("type")
    if kind == "input_image":
        return parsing.image_part(part.get("image_url"), path, f"{path}.image_url", served, pixels)
    if kind not in ("input_text", "output_text", "text", "refusal"):
        raise InvalidInput(
            f"{path}.type is {shown(kind)}; this engine takes input_text and input_image",
            param=f"{path}.type",
            code="unsupported_value",
        )
    name = "refusal" if kind == "refusal" else "text"
    text = part.get(name)
    if not isinstance(text, str):
        raise wrong_type(f"{path}.{name}", text, (str,))
    return text


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One response, as it grows. `continuous_usage`: each event says the usage so far."""

    body: Json
    model: str
    created: int
    prompt_tokens: int
    max_output_tokens: int | None
    continuous_usage: bool = False
    id: str = field(default_factory=lambda: new_id("resp"))
    item_id: str = field(default_factory=lambda: new_id("msg"))
    _texts: list[str] = field(default_factory=list)
    _numbered: int = 0

    def begin(self) -> list[Event]:
        response = self._response("in_progress", [], None)
        return self._events(
            [
                {"type": "response.created", "response": response},
                {"type": "response.in_progress", "response": response},
                {"type": "response.output_item.added", "output_index": 0, "item": self._item("in_progress", [])},
                {"type": "response.content_part.added", **self._here, "part": _output_text("")},
            ],
            0,
        )

    def more(self, text: str, tokens: int) -> list[Event]:
        """`tokens`: so far."""
        if not text:
            return []
        self._texts.append(text)
        delta = {"type": "response.output_text.delta", **self._here, "delta": text, "logprobs": []}
        return self._events([delta], tokens)

    def end(self, reason: FinishReason | None, tokens: int) -> list[Event]:
        text = "".join(self._texts)
        whole = self.whole(text, reason, tokens)
        return self._events(
            [
                {"type": "response.output_text.done", **self._here, "text": text, "logprobs": []},
                {"type": "response.content_part.done", **self._here, "part": _output_text(text)},
                {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
                {"type": f"response.{whole['status']}", "response": whole},
            ],
            tokens,
        )

    def failed(self, error: Event) -> Event:
        """`error` as OpenAI's errors over HTTP have it: its SDKs look for it there."""
        said = {name: error.get(name) for name in ("code", "message", "param")}
        return {"type": "error", **said, "sequence_number": self._numbered, "error": error}

    def whole(self, text: str, reason: FinishReason | None, tokens: int) -> Event:
        status = "incomplete" if reason == "length" else "completed"
        usage = typed_events.usage(self.prompt_tokens, tokens)
        return self._response(status, [self._item(status, [_output_text(text)])], usage)

    @property
    def _here(self) -> Event:
        return {"item_id": self.item_id, "output_index": 0, "content_index": 0}

    def _events(self, events: list[Event], tokens: int) -> list[Event]:
        for event in events:
            event["sequence_number"] = self._numbered
            self._numbered += 1
            if self.continuous_usage:
                event["usage"] = typed_events.usage(self.prompt_tokens, tokens)
        return events

    def _item(self, status: str, content: list[Event]) -> Event:
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _response(self, status: str, output: list[Event], usage: Event | None) -> Event:
        said = self.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": said.get("instructions"),
            "max_output_tokens": self.max_output_tokens,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": said.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0 if said.get("temperature") is None else said["temperature"],
            "text": {"format": {"type": "text"}},
            "tool_choice": said.get("tool_choice") or "auto",
            "tools": said.get("tools") or [],
            "top_p": 1.0 if said.get("top_p") is None else said["top_p"],
            "truncation": "disabled",
            "usage": usage,
            "user": said.get("user"),
            "metadata": said.get("metadata") or {},
        }


def _output_text(text: str) -> Event:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
