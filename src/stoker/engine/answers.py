"""One whole answer from the chunks of a streamed one, and what a chunk says of itself. Pure.

OpenAI's streams differ from its whole answers in three things: the object's name, `delta` instead of `message`, and
that strings come in pieces. Everything else is taken over as it is, also fields that we do not know.
"""

import copy
from collections.abc import Iterable
from typing import Any

from stoker.base.errors import UpstreamError

Json = dict[str, Any]

_WHOLE = {"chat.completion.chunk": "chat.completion"}


def assemble(chunks: Iterable[Json]) -> Json:
    """The answer that these chunks are the stream of. Raises ValueError when there is none among them."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name == "choices":
                for part in value:
                    _merge_choice(choices.setdefault(part.get("index", 0), {}), part)
            elif value is not None or name not in answer:
                answer[name] = value
    if not answer:
        raise ValueError("the stream ended without a chunk")
    answer["object"] = _WHOLE.get(answer.get("object", ""), answer.get("object"))
    answer["choices"] = [_finished(choices[index]) for index in sorted(choices)]
    return answer


def _finished(choice: Json) -> Json:
    """Calls are numbered in a stream only, where the number says which of them a piece belongs to."""
    for call in choice.get("message", {}).get("tool_calls") or ():
        call.pop("index", None)
    return choice


def _merge_choice(choice: Json, part: Json) -> None:
    for name, value in part.items():
        if name == "delta":
            message = choice.setdefault("message", {"role": "assistant", "content": None})
            _merge_delta(message, value or {})
        elif name == "text":
            choice["text"] = choice.get("text", "") + (value or "")
        elif name == "logprobs" and isinstance(value, dict):
            choice["logprobs"] = choice.get("logprobs") or {}
            _merge_delta(choice["logprobs"], value)
        elif value is not None or name not in choice:
            choice[name] = value


def _merge_delta(whole: Json, delta: Json) -> None:
    """Strings grow, lists grow (entries that carry an `index` are merged by it), the rest is replaced."""
    for name, value in delta.items():
        known = whole.get(name)
        if name in ("role", "id", "type", "index"):
            whole[name] = value
        elif isinstance(value, str) and isinstance(known, str):
            whole[name] = known + value
        elif isinstance(value, dict) and isinstance(known, dict):
            _merge_delta(known, value)
        elif isinstance(value, list) and (known is None or isinstance(known, list)):
            whole[name] = _merge_list(known or [], value)
        elif value is not None or name not in whole:
            whole[name] = value


def _merge_list(known: list[Any], parts: list[Any]) -> list[Any]:
    for part in parts:
        index = part.get("index") if isinstance(part, dict) else None
        same = next((k for k in known if index is not None and isinstance(k, dict) and k.get("index") == index), None)
        if same is None:
            known.append(copy.deepcopy(part))
        else:
            _merge_delta(same, part)
    return known


def check_chunk(chunk: Json) -> None:
    """Its choices, if it has any, are objects, and so is what they say. Raises UpstreamError."""
    choices = chunk.get("choices")
    if choices is None:
        return
    is_chunk = isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("delta") or {}, dict) for choice in choices
    )
    if not is_chunk:
        raise UpstreamError("the engine sent an event that is no part of an answer")


def text_bytes(chunk: Json) -> int:
    """Bytes of the text that this chunk adds to the answer: at least as many as its tokens."""
    total = 0
    stack: list[Any] = [chunk.get("choices")]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item.encode("utf-8", "surrogatepass"))
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(value for name, value in item.items() if name in _SAID)
    return total


_SAID = ("delta", "text", "content", "reasoning", "reasoning_content", "refusal", "tool_calls", "function", "arguments")


def has_content(chunk: Json) -> bool:
    """Whether this chunk carries something that was generated, and not only the role, an end or a count."""
    for choice in chunk.get("choices") or ():
        if choice.get("text"):
            return True
        delta = choice.get("delta") or {}
        if any(value for name, value in delta.items() if name != "role"):
            return True
    return False
