"""A request's body to what the engine is asked for. Pure but for decoding images; every refusal names its parameter.

Fields of OpenAI's API that change nothing here (`user`, `metadata`, `store`, ...) and fields that nobody knows are
passed over. A field that would have to change the answer and cannot (`n: 2`, `logprobs`, a JSON schema, a forced tool)
is refused: an answer that ignores it would be wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stoker.base.errors import InvalidInput, NotFound
from stoker.engine import images
from stoker.engine.sequences import Generation
from stoker.engine.values import (
    COMPLETION_TOKENS,
    LENGTHS,
    dumped,
    get,
    missing,
    number,
    refuse_unless,
    shown,
    wrong_type,
)
from stoker.nn.bundle import Bundle
from stoker.nn.config import ImageConfig
from stoker.nn.image import Floats, cell_features
from stoker.nn.sampling import Sampling
from stoker.nn.tokenizer import ROLES, ImagePart, Message

Json = Mapping[str, Any]

MAX_STOPS = 4
MAX_IMAGES = 8


class Sees(Protocol):
    """What has to be known of a model to read messages that are for it."""

    @property
    def model(self) -> str: ...

    @property
    def image(self) -> ImageConfig | None:
        """None: it takes no images."""


@dataclass(frozen=True)
class Served:
    """What this engine serves, and to whom it refuses what."""

    bundle: Bundle
    model: str
    task: str
    """general, code or vision; only vision takes images."""
    context: int
    digest: str | None = None
    """Of the weights."""

    @property
    def image(self) -> ImageConfig | None:
        return self.bundle.config.image if self.task == "vision" else None


@dataclass(frozen=True)
class Asked:
    generation: Generation
    stream: bool
    include_usage: bool
    continuous_usage: bool


def chat(body: Json, served: Served) -> Asked:
    """Raises InvalidInput, NotFound for another model."""
    check_common(body, served)
    refuse_unless(body, "response_format", lambda value: value.get("type", "text") == "text", dict)
    refuse_unless(body, "tool_choice", lambda value: value in ("none", "auto"), (str, dict))
    refuse_unless(body, "function_call", lambda value: value in ("none", "auto"), (str, dict))
    refuse_unless(body, "logprobs", lambda value: not value, bool)
    refuse_unless(body, "modalities", lambda value: value == ["text"], list)
    messages, pixels = _messages(body, served)
    prompt = chat_tokens(messages, served, "messages", goes_on=_goes_on(body, messages))
    return asked(body, served, prompt, "messages", soft_tokens(pixels, served))


def completion(body: Json, served: Served) -> Asked:
    """Raises InvalidInput, NotFound for another model."""
    check_common(body, served)
    refuse_unless(body, "best_of", lambda value: value == 1, int)
    refuse_unless(body, "echo", lambda value: not value, bool)
    refuse_unless(body, "suffix", lambda value: not value, str)
    refuse_unless(body, "logprobs", lambda value: False, int)
    return asked(body, served, _completion_prompt(body, served), "prompt", None, default_tokens=COMPLETION_TOKENS)


def check_common(body: Json, served: Served) -> None:
    model = get(body, "model", str, served.model)
    if model != served.model:
        raise NotFound(f"this engine serves {served.model!r}, not {model!r}", code="model_not_found")
    refuse_unless(body, "n", lambda value: value == 1, int)


def asked(
    body: Json,
    served: Served,
    prompt: list[int],
    param: str,
    soft: Floats | None,
    *,
    default_tokens: int | None = None,
    lengths: tuple[str, ...] = LENGTHS,
) -> Asked:
    """What all endpoints that generate have in common. `lengths` are the names by which a body says how long the answer
    may be; the last one wins."""
    room = served.context - len(prompt)
    if room < 1:
        raise too_long(served, param, str(len(prompt)))
    stream = get(body, "stream", bool, False)
    generation = Generation(
        prompt=prompt,
        max_tokens=min(_max_tokens(body, lengths, default_tokens) or room, room),
        sampling=Sampling(number(body, "temperature", 0, 2, 1.0), number(body, "top_p", 0, 1, 1.0)),
        seed=get(body, "seed", int, None),
        stops=_stops(body),
        presence_penalty=number(body, "presence_penalty", -2, 2, 0.0),
        frequency_penalty=number(body, "frequency_penalty", -2, 2, 0.0),
        logit_bias=_logit_bias(body, served.bundle.tokenizer.vocab_size),
        soft_tokens=soft,
    )
    include_usage = _stream_option(body, stream, "include_usage")
    return Asked(generation, stream, include_usage, _stream_option(body, stream, "continuous_usage_stats"))


def refuse_huge(characters: int, served: Served, param: str) -> None:
    """A text that cannot fit is refused before its tokens are counted, which takes a second for a few megabytes."""
    least = served.bundle.tokenizer.least_tokens(characters)
    if least >= served.context:
        raise too_long(served, param, f"at least {least}")


def too_long(served: Served, param: str, count: str) -> InvalidInput:
    return InvalidInput(
        f"the context of {served.model} is {served.context} tokens; {param} has {count}, "
        "which leaves none for the answer",
        param=param,
        code="context_length_exceeded",
    )


def _max_tokens(body: Json, names: tuple[str, ...], default: int | None) -> int | None:
    found = default
    for name in names:
        value = get(body, name, int, None)
        if value is not None and value < 1:
            raise InvalidInput(f"{name} is {value}; it has to be at least 1", param=name)
        found = value if value is not None else found
    return found


def _stops(body: Json) -> list[str]:
    value = get(body, "stop", (str, list), [])
    stops = [value] if isinstance(value, str) else value
    if len(stops) > MAX_STOPS:
        raise InvalidInput(f"stop has {len(stops)} strings; {MAX_STOPS} are the most", param="stop")
    for position, stop in enumerate(stops):
        name = "stop" if isinstance(value, str) else f"stop[{position}]"
        if not isinstance(stop, str):
            raise wrong_type(name, stop, (str,))
        if not stop:
            raise InvalidInput(f"{name} is empty; it would end every answer before it begins", param=name)
    return stops


def _logit_bias(body: Json, vocabulary: int) -> dict[int, float]:
    bias = {}
    for key, value in get(body, "logit_bias", dict, {}).items():
        name = f"logit_bias.{shown(key)[1:-1]}"
        if not (key.isascii() and key.isdigit()) or int(key) >= vocabulary:
            raise InvalidInput(f"{name} is no token of this model; they go from 0 to {vocabulary - 1}", param=name)
        bias[int(key)] = number({name: value}, name, -100, 100, 0.0)
    return bias


def _stream_option(body: Json, stream: bool, name: str) -> bool:
    options = get(body, "stream_options", dict, None)
    if options is None:
        return False
    if not stream:
        raise InvalidInput("stream_options is only for stream: true", param="stream_options")
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_type(f"stream_options.{name}", value, (bool,))
    return bool(value)


# Prompts


def _goes_on(body: Json, messages: Sequence[Message]) -> bool:
    """Whether the last message is the beginning of the answer: vLLM's `continue_final_message`."""
    goes_on: bool = get(body, "continue_final_message", bool, False)
    # vLLM asks for a new message by default, and for both at once makes no sense.
    if get(body, "add_generation_prompt", bool, not goes_on) == goes_on:
        raise InvalidInput(
            f"continue_final_message is {shown(goes_on)}, and so is add_generation_prompt; "
            "the answer either goes on with the last message or is a new one",
            param="continue_final_message",
        )
    if goes_on and messages[-1].role != "assistant":
        raise InvalidInput(
            f"continue_final_message wants the last message to be the assistant's; it is of {messages[-1].role}",
            param="continue_final_message",
        )
    return goes_on


def chat_tokens(messages: Sequence[Message], served: Served, param: str, *, goes_on: bool = False) -> list[int]:
    """Raises InvalidInput for what cannot fit."""
    refuse_huge(sum(len(part) for item in messages for part in item.parts if isinstance(part, str)), served, param)
    return served.bundle.tokenizer.chat_prompt(messages, goes_on=goes_on)


def _completion_prompt(body: Json, served: Served) -> list[int]:
    prompt = get(body, "prompt", (str, list), None)
    if prompt is None:
        raise missing("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        if len(prompt) > 1:
            raise InvalidInput(f"prompt holds {len(prompt)} prompts; one request takes one", param="prompt")
        prompt = prompt[0]
    return text_tokens(prompt, served, "prompt")


def text_tokens(text: object, served: Served, param: str) -> list[int]:
    """The tokens of a plain text; of an array of tokens, those. Raises InvalidInput."""
    if isinstance(text, str):
        refuse_huge(len(text), served, param)
        return served.bundle.tokenizer.text_prompt(text)
    vocabulary = served.bundle.tokenizer.vocab_size
    if not isinstance(text, list) or not text:
        raise InvalidInput(f"{param} is {shown(text)}; it has to be a string or an array of tokens", param=param)
    for token in text:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary:
            raise InvalidInput(
                f"{param} holds {shown(token)}, which is no token of this model; they go from 0 to {vocabulary - 1}",
                param=param,
            )
    return text


def _messages(body: Json, served: Served) -> tuple[list[Message], list[np.ndarray]]:
    messages = get(body, "messages", list, None)
    if messages is None:
        raise missing("messages")
    if not messages:
        raise InvalidInput("messages is empty; it has to hold at least one message", param="messages")
    return messages_of(messages, served)


def messages_of(items: Sequence[Any], sees: Sees) -> tuple[list[Message], list[np.ndarray]]:
    """Messages of OpenAI's API as the tokenizer takes them, and the pictures in them. Raises InvalidInput."""
    pixels: list[np.ndarray] = []
    return [_message(item, f"messages[{number}]", sees, pixels) for number, item in enumerate(items)], pixels


def _message(item: Any, path: str, sees: Sees, pixels: list[np.ndarray]) -> Message:
    if not isinstance(item, dict):
        raise wrong_type(path, item, (dict,))
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidInput(
            f"{path}.role is {shown(role)}; it has to be one of {', '.join(ROLES)}", param=f"{path}.role"
        )
    content = item.get("content")
    parts: list[str | ImagePart] = []
    if isinstance(content, str):
        parts = [content]
    elif isinstance(content, list):
        parts = [_part(part, f"{path}.content[{number}]", sees, pixels) for number, part in enumerate(content)]
    elif not (content is None and role == "assistant"):  # an assistant that called tools has no content
        raise wrong_type(f"{path}.content", content, (str, list))
    if item.get("tool_calls"):
        parts.append(dumped(item["tool_calls"]))
    return Message(role, parts)


def _part(part: Any, path: str, sees: Sees, pixels: list[np.ndarray]) -> str | ImagePart:
    if not isinstance(part, dict):
        raise wrong_type(path, part, (dict,))
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise wrong_type(f"{path}.{kind}", text, (str,))
        return text
    if kind == "image_url":
        return _image(part, path, sees, pixels)
    raise InvalidInput(
        f"{path}.type is {shown(kind)}; this engine takes text and image_url",
        param=f"{path}.type",
        code="unsupported_value",
    )


def _image(part: Json, path: str, sees: Sees, pixels: list[np.ndarray]) -> ImagePart:
    holder = part.get("image_url")
    url = holder.get("url") if isinstance(holder, dict) else None
    return image_part(url, path, f"{path}.image_url.url", sees, pixels)


def image_part(url: object, path: str, param: str, sees: Sees, pixels: list[np.ndarray]) -> ImagePart:
    """Adds the picture behind `url`, which stands at `param`, to `pixels`. Raises InvalidInput."""
    if sees.image is None:
        raise InvalidInput(
            f"{sees.model} takes no images; send them to the vision model (/v1/vision)",
            param=path,
            code="image_not_supported",
        )
    if len(pixels) == MAX_IMAGES:
        raise InvalidInput(f"the request has more than {MAX_IMAGES} images", param=path)
    if not isinstance(url, str):
        raise wrong_type(param, url, (str,))
    pixels.append(images.read(url, param))
    return ImagePart(sees.image.tokens)


def soft_tokens(pixels: list[np.ndarray], served: Served) -> Floats | None:
    image, projector = served.bundle.config.image, served.bundle.projector
    if not pixels or image is None or projector is None:
        return None
    return projector.project(features_of(pixels, image))


def features_of(pixels: Sequence[np.ndarray], image: ImageConfig) -> Floats:
    """[cells, numbers] of all pictures, one after the other."""
    return np.concatenate([cell_features(picture, image.grid) for picture in pixels])
