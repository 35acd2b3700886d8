"""An answer that one engine has begun and another goes on with: what it came to, what the other is asked, and how the
rest is read. For the worker, which hands unfinished work back. Pure.

An answer can be gone on with if it is plain text, and if nothing in its request reaches over the seam: a stop string, a
seed, a penalty or a grammar would be of the whole answer, and the other engine sees its own part only. What is unknown
here may do so, too. Any other answer begins anew.

The engine is asked as vLLM is: the text so far is the last message, with `continue_final_message` and without
`add_generation_prompt`; of a completion it is the end of the prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stoker.engine import wires
from stoker.engine.answers import check_chunk
from stoker.engine.values import COMPLETION_TOKENS, LENGTHS

Json = dict[str, Any]

CHAT, COMPLETIONS = wires.CHAT.path, wires.COMPLETIONS.path

# What reaches over no seam whatever its value is.
_HARMLESS = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "temperature",
        "top_p",
        "logit_bias",
        "stream",
        "stream_options",
        "user",
        "metadata",
    }
    | {"store", "safety_identifier", "prompt_cache_key", "service_tier", *LENGTHS}
)
_HARMLESS_IF: Mapping[str, Callable[[Any, Json], bool]] = {
    "n": lambda value, body: value == 1,
    "best_of": lambda value, body: value == 1,
    "response_format": lambda value, body: value == {"type": "text"},
    "modalities": lambda value, body: value == ["text"],
    "tool_choice": lambda value, body: not body.get("tools"),
    "seed": lambda value, body: body.get("temperature") == 0,
    "logprobs": lambda value, body: value is False,
}


def so_far(chunks: Sequence[Json]) -> Json | None:
    """One chunk that says what all of these do, without the usage. None: there is no text in them, or more than text,
    or the answer has ended."""
    texts: list[str] = []
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            text = _plain_text(choice)
            if text is None:
                return None
            texts.append(text)
    text = "".join(texts)
    if not text:
        return None
    head = {name: value for name, value in chunks[0].items() if name not in ("choices", "usage")}
    is_chat = any("delta" in choice for chunk in chunks for choice in chunk.get("choices") or ())
    said: Json = {"delta": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    return {**head, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": None}]}


def asking(path: str, body: Json, answer: Json, *, completion_tokens: int) -> Json | None:
    """The body by which an engine goes on with `answer` (`so_far`), which has so many tokens. None: it cannot."""
    if path not in (CHAT, COMPLETIONS) or not all(_is_harmless(name, body) for name in body):
        return None
    length = _length(path, body, completion_tokens)
    if length is None:
        return None
    [choice] = answer["choices"]
    if path == COMPLETIONS:
        prompt = body.get("prompt")
        return {**body, **length, "prompt": prompt + choice["text"]} if isinstance(prompt, str) else None
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or _role(messages[-1]) in (None, "assistant"):
        return None
    begun = {"role": "assistant", "content": choice["delta"]["content"]}
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    return {**body, **length, **flags, "messages": [*messages, begun]}


def has_said_all(path: str, body: Json, chunks: Sequence[Json], *, completion_tokens: int) -> bool:
    """Whether nothing is missing but the word that it is over: it has its length, or has ended."""
    has_ended = any(choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices") or ())
    return has_ended or _length(path, body, completion_tokens) is None


def rest(chunk: Json, answer: Json, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Json | None:
    """A chunk of the engine that goes on, as one of the whole answer: by its name, and with its counts. None: it says
    only that an answer begins. The counts are those of `answer`. Raises UpstreamError for nonsense."""
    if chunk.get("error"):
        return chunk
    check_chunk(chunk)
    whole = dict(chunk)
    if chunk.get("choices"):
        whole["choices"] = [_without_role(choice) for choice in chunk["choices"]]
        if not any(_says_something(choice) for choice in whole["choices"]):
            return None
    for name in ("id", "created", "model", "system_fingerprint"):
        if name in answer:
            whole[name] = answer[name]
    if isinstance(chunk.get("usage"), dict):
        more = chunk["usage"].get("completion_tokens")
        completion = completion_tokens + (more if type(more) is int else 0)
        whole["usage"] = {
            **chunk["usage"],
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        }
    return whole


def _role(message: Any) -> str | None:
    return message.get("role") if isinstance(message, dict) else None


def _plain_text(choice: Json) -> str | None:
    """What a choice's piece says; None when it is not only text, or the last one."""
    said = (choice["delta"] or {}) if "delta" in choice else choice
    more = {"role", "content", "text", "index", "logprobs", "finish_reason"}
    is_plain = (
        choice.get("index", 0) == 0
        and not choice.get("finish_reason")
        and not choice.get("logprobs")
        and not any(value for name, value in said.items() if name not in more)
    )
    text = said.get("content") or said.get("text") or ""
    return text if is_plain and isinstance(text, str) else None


def _is_harmless(name: str, body: Json) -> bool:
    value = body[name]
    if name in _HARMLESS or value is None:
        return True
    if name in _HARMLESS_IF:
        return _HARMLESS_IF[name](value, body)
    return not value


def _length(path: str, body: Json, used: int) -> Json | None:
    """How long the rest may be, under the names that the request has; None: there is no rest."""
    said = {name: body[name] for name in LENGTHS if type(body.get(name)) is int}
    if not said and path == COMPLETIONS:
        said = {"max_tokens": COMPLETION_TOKENS}
    left = {name: value - used for name, value in said.items()}
    return left if all(value > 0 for value in left.values()) else None


def _without_role(choice: Json) -> Json:
    if "delta" not in choice:
        return choice
    return {**choice, "delta": {name: value for name, value in choice["delta"].items() if name != "role"}}


def _says_something(choice: Json) -> bool:
    return bool(choice.get("finish_reason") or choice.get("text") or any((choice.get("delta") or {}).values()))
