"""A request's body to what the engine is asked for. Pure but for decoding images; every refusal names its parameter.

Fields of OpenAI's API that change nothing here (`user`, `metadata`, `store`, ...) and fields that nobody knows are
passed over. A field that would have to change the answer and cannot (`n: 2`, `logprobs`, a JSON schema, a forced tool)
is refused: an answer that ignores it would be wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stoker.base.errors import InvalidInput, NotFound
from stoker.engine import images
from stoker.engine.sequences import Generation
from stoker.nn.bundle import Bundle
from stoker.nn.image import Floats, cell_features
from stoker.nn.sampling import Sampling
from stoker.nn.tokenizer import ROLES, ImagePart, Message

Json = Mapping[str, Any]

MAX_STOPS = 4
MAX_IMAGES = 8
COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions; a chat answer may be as long as the context allows."""


@dataclass(frozen=True)
class Served:
    """What this engine serves, and to whom it refuses what."""

    bundle: Bundle
    model: str
    task: str
    """general, code or vision; only vision takes images."""
    context: int


@dataclass(frozen=True)
class Asked:
    generation: Generation
    stream: bool
    include_usage: bool
    continuous_usage: bool


def chat(body: Json, served: Served) -> Asked:
    """Raises InvalidInput, NotFound for another model."""
    _check_common(body, served)
    _refuse_unless(body, "response_format", lambda value: value.get("type", "text") == "text", dict)
    _refuse_unless(body, "tool_choice", lambda value: value in ("none", "auto"), (str, dict))
    _refuse_unless(body, "function_call", lambda value: value in ("none", "auto"), (str, dict))
    _refuse_unless(body, "logprobs", lambda value: not value, bool)
    _refuse_unless(body, "modalities", lambda value: value == ["text"], list)
    messages, pixels = _messages(body, served)
    _refuse_huge(
        sum(len(part) for item in messages for part in item.parts if isinstance(part, str)), served, "messages"
    )
    prompt = served.bundle.tokenizer.chat_prompt(messages)
    return _asked(body, served, prompt, "messages", None, _soft_tokens(pixels, served))


def completion(body: Json, served: Served) -> Asked:
    """Raises InvalidInput, NotFound for another model."""
    _check_common(body, served)
    _refuse_unless(body, "best_of", lambda value: value == 1, int)
    _refuse_unless(body, "echo", lambda value: not value, bool)
    _refuse_unless(body, "suffix", lambda value: not value, str)
    _refuse_unless(body, "logprobs", lambda value: False, int)
    return _asked(body, served, _completion_prompt(body, served), "prompt", COMPLETION_TOKENS, None)


def _check_common(body: Json, served: Served) -> None:
    model = _get(body, "model", str, served.model)
    if model != served.model:
        raise NotFound(f"this engine serves {served.model!r}, not {model!r}", code="model_not_found")
    _refuse_unless(body, "n", lambda value: value == 1, int)


def _asked(
    body: Json, served: Served, prompt: list[int], param: str, default_tokens: int | None, soft: Floats | None
) -> Asked:
    room = served.context - len(prompt)
    if room < 1:
        raise _too_long(served, param, str(len(prompt)))
    stream = _get(body, "stream", bool, False)
    generation = Generation(
        prompt=prompt,
        max_tokens=min(_max_tokens(body, default_tokens) or room, room),
        sampling=Sampling(_number(body, "temperature", 0, 2, 1.0), _number(body, "top_p", 0, 1, 1.0)),
        seed=_get(body, "seed", int, None),
        stops=_stops(body),
        presence_penalty=_number(body, "presence_penalty", -2, 2, 0.0),
        frequency_penalty=_number(body, "frequency_penalty", -2, 2, 0.0),
        logit_bias=_logit_bias(body, served.bundle.tokenizer.vocab_size),
        soft_tokens=soft,
    )
    include_usage = _stream_option(body, stream, "include_usage")
    return Asked(generation, stream, include_usage, _stream_option(body, stream, "continuous_usage_stats"))


def _refuse_huge(characters: int, served: Served, param: str) -> None:
    """A text that cannot fit is refused before its tokens are counted, which takes a second for a few megabytes."""
    least = served.bundle.tokenizer.least_tokens(characters)
    if least >= served.context:
        raise _too_long(served, param, f"at least {least}")


def _too_long(served: Served, param: str, count: str) -> InvalidInput:
    return InvalidInput(
        f"the context of {served.model} is {served.context} tokens; {param} has {count}, "
        "which leaves none for the answer",
        param=param,
        code="context_length_exceeded",
    )


# Values


def _get(body: Json, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """The value, or the default where it is missing or null; a boolean is no number."""
    value = body.get(name)
    if value is None:
        return default
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _wrong_type(name, value, kinds)
    return value


def _wrong_type(name: str, value: object, kinds: tuple[type, ...]) -> InvalidInput:
    wanted = " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)
    return InvalidInput(f"{name} is {_shown(value)}; it has to be {wanted}", param=name, code="invalid_type")


_KINDS = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "an array",
}


def _shown(value: object) -> str:
    text = _dumped(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # JSON that was read may be nested too deeply to be written from here
        return "(nested too deeply)"


def _number(body: Json, name: str, low: float, high: float, default: float) -> float:
    value: float = _get(body, name, (int, float), default)
    if not low <= value <= high:
        raise InvalidInput(f"{name} is {value}; it has to be between {low} and {high}", param=name)
    return float(value)


def _refuse_unless(body: Json, name: str, is_harmless: Any, kind: type | tuple[type, ...]) -> None:
    value = _get(body, name, kind, None)
    if value is not None and not is_harmless(value):
        raise InvalidInput(
            f"{name} is {_shown(value)}; the embedded engine cannot do that, and takes no other value than its default",
            param=name,
            code="unsupported_value",
        )


def _max_tokens(body: Json, default: int | None) -> int | None:
    found = default
    for name in ("max_tokens", "max_completion_tokens"):
        value = _get(body, name, int, None)
        if value is not None and value < 1:
            raise InvalidInput(f"{name} is {value}; it has to be at least 1", param=name)
        found = value if value is not None else found  # max_completion_tokens is the newer name and wins
    return found


def _stops(body: Json) -> list[str]:
    value = _get(body, "stop", (str, list), [])
    stops = [value] if isinstance(value, str) else value
    if len(stops) > MAX_STOPS:
        raise InvalidInput(f"stop has {len(stops)} strings; {MAX_STOPS} are the most", param="stop")
    for number, stop in enumerate(stops):
        name = "stop" if isinstance(value, str) else f"stop[{number}]"
        if not isinstance(stop, str):
            raise _wrong_type(name, stop, (str,))
        if not stop:
            raise InvalidInput(f"{name} is empty; it would end every answer before it begins", param=name)
    return stops


def _logit_bias(body: Json, vocabulary: int) -> dict[int, float]:
    bias = {}
    for key, value in _get(body, "logit_bias", dict, {}).items():
        name = f"logit_bias.{_shown(key)[1:-1]}"
        if not (key.isascii() and key.isdigit()) or int(key) >= vocabulary:
            raise InvalidInput(f"{name} is no token of this model; they go from 0 to {vocabulary - 1}", param=name)
        bias[int(key)] = _number({name: value}, name, -100, 100, 0.0)
    return bias


def _stream_option(body: Json, stream: bool, name: str) -> bool:
    options = _get(body, "stream_options", dict, None)
    if options is None:
        return False
    if not stream:
        raise InvalidInput("stream_options is only for stream: true", param="stream_options")
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(f"stream_options.{name}", value, (bool,))
    return bool(value)


# Prompts


def _completion_prompt(body: Json, served: Served) -> list[int]:
    prompt = _get(body, "prompt", (str, list), None)
    if prompt is None:
        raise InvalidInput("prompt is missing", param="prompt", code="missing_required_parameter")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise InvalidInput(f"prompt holds {len(prompt)} prompts; one request takes one", param="prompt")
        prompt = prompt[0]
    if isinstance(prompt, str):
        _refuse_huge(len(prompt), served, "prompt")
        return served.bundle.tokenizer.text_prompt(prompt)
    vocabulary = served.bundle.tokenizer.vocab_size
    if not isinstance(prompt, list) or not prompt:
        raise InvalidInput(f"prompt is {_shown(prompt)}; it has to be a string or an array of tokens", param="prompt")
    for token in prompt:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary:
            raise InvalidInput(
                f"prompt holds {_shown(token)}, which is no token of this model; they go from 0 to {vocabulary - 1}",
                param="prompt",
            )
    return prompt


def _messages(body: Json, served: Served) -> tuple[list[Message], list[np.ndarray]]:
    messages = _get(body, "messages", list, None)
    if messages is None:
        raise InvalidInput("messages is missing", param="messages", code="missing_required_parameter")
    if not messages:
        raise InvalidInput("messages is empty; it has to hold at least one message", param="messages")
    pixels: list[np.ndarray] = []
    return [_message(item, f"messages[{number}]", served, pixels) for number, item in enumerate(messages)], pixels


def _message(item: Any, path: str, served: Served, pixels: list[np.ndarray]) -> Message:
    if not isinstance(item, dict):
        raise _wrong_type(path, item, (dict,))
    role = item.get("role")
    if role not in ROLES:
        raise InvalidInput(
            f"{path}.role is {_shown(role)}; it has to be one of {', '.join(ROLES)}", param=f"{path}.role"
        )
    content = item.get("content")
    parts: list[str | ImagePart] = []
    if isinstance(content, str):
        parts = [content]
    elif isinstance(content, list):
        parts = [_part(part, f"{path}.content[{number}]", served, pixels) for number, part in enumerate(content)]
    elif not (content is None and role == "assistant"):  # an assistant that called tools has no content
        raise _wrong_type(f"{path}.content", content, (str, list))
    if item.get("tool_calls"):
        parts.append(_dumped(item["tool_calls"]))
    return Message(role, parts)


def _part(part: Any, path: str, served: Served, pixels: list[np.ndarray]) -> str | ImagePart:
    if not isinstance(part, dict):
        raise _wrong_type(path, part, (dict,))
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise _wrong_type(f"{path}.{kind}", text, (str,))
        return text
    if kind == "image_url":
        return _image(part, path, served, pixels)
    raise InvalidInput(
        f"{path}.type is {_shown(kind)}; this engine takes text and image_url",
        param=f"{path}.type",
        code="unsupported_value",
    )


def _image(part: Json, path: str, served: Served, pixels: list[np.ndarray]) -> ImagePart:
    image = served.bundle.config.image
    if served.task != "vision" or image is None:
        raise InvalidInput(
            f"{served.model} takes no images; send them to the vision model (/v1/vision)",
            param=path,
            code="image_not_supported",
        )
    if len(pixels) == MAX_IMAGES:
        raise InvalidInput(f"the request has more than {MAX_IMAGES} images", param=path)
    holder = part.get("image_url")
    url = holder.get("url") if isinstance(holder, dict) else None
    if not isinstance(url, str):
        raise _wrong_type(f"{path}.image_url.url", url, (str,))
    pixels.append(images.read(url, f"{path}.image_url.url"))
    return ImagePart(image.tokens)


def _soft_tokens(pixels: list[np.ndarray], served: Served) -> Floats | None:
    image, projector = served.bundle.config.image, served.bundle.projector
    if not pixels or image is None or projector is None:
        return None
    return projector.project(np.concatenate([cell_features(picture, image.grid) for picture in pixels]))
