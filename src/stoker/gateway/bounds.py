"""The most that a request can cost, before anybody has counted its tokens. Pure.

A bound must never be too small, or a budget could be overspent. A byte-level tokenizer makes at most one token of a
byte (vLLM's and OpenAI's models have such; so has the embedded engine), so the text's length in UTF-8 bounds its
tokens. What the engine's chat template adds is bounded by the model's `promptOverheadTokens` and a few tokens for each
message. All that a template may write out as JSON (calls of tools, and every field that is not known to stay out of the
prompt) counts as it is in the longest form of JSON.
"""

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from json.encoder import encode_basestring_ascii
from typing import Any

from stoker.meter.cost import Prices, cost_nano_usd
from stoker.policy.budgets import Amounts
from stoker.spec import Model

Json = dict[str, Any]

# Role, begin and end marks, line breaks: ChatML has 5 tokens for each message, Llama 3 has 5, Mistral fewer.
TOKENS_PER_MESSAGE = 8
# Of several prompts in one request, each begins (and with some models ends) with a mark of its own.
TOKENS_PER_PROMPT = 2


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so many tokens of prompt, of answer, and nano-dollars."""

    prompt_tokens: int
    completion_tokens: int
    nano_usd: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def amounts(self) -> Amounts:
        """What has to be reserved for one request of this size."""
        return Amounts(1, self.tokens, self.nano_usd, 1)


# An answer that is shortened to what a budget has left has at least so many tokens: less is no answer.
LEAST_OUTPUT = 16


@dataclass(frozen=True, slots=True)
class Quote:
    """What a request costs at most, for every length of its answer. `output_tokens` is what one of its `answers` may
    have; when the client did not say (`is_elastic`), it may be shortened to what a budget has left."""

    prompt_tokens: int
    answers: int
    output_tokens: int
    is_elastic: bool
    prices: Prices

    def bound(self, output_tokens: int | None = None) -> Bound:
        """At most this, with answers of so many tokens (None: as long as they may be)."""
        prompt = self.prompt_tokens
        completion = self.answers * (self.output_tokens if output_tokens is None else output_tokens)
        prices = self.prices
        # A prompt that is not cached is the dearer one wherever caching is a discount; where it is not, the other is.
        is_discount = prices.cached_input_usd_per_million_tokens <= prices.input_usd_per_million_tokens
        cached = 0 if is_discount else prompt
        nano_usd = cost_nano_usd(prices, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
        return Bound(prompt, completion, nano_usd)

    @property
    def least(self) -> Bound:
        """What it costs at most with answers as short as they may be made."""
        return self.bound(min(LEAST_OUTPUT, self.output_tokens) if self.is_elastic else None)

    def shortened(self, *, tokens: int | None = None, nano_usd: int | None = None) -> "Quote | None":
        """The same with the longest answers that fit so many tokens and so much money (None: any). None when that is
        shorter than `LEAST_OUTPUT`, or when the length is the client's own wish."""

        def fits(output_tokens: int) -> bool:
            bound = self.bound(output_tokens)
            return (tokens is None or bound.tokens <= tokens) and (nano_usd is None or bound.nano_usd <= nano_usd)

        if not self.is_elastic:
            return None
        lengths = range(LEAST_OUTPUT, self.output_tokens + 1)
        # Longer answers cost more, so those that fit come first: the first one that does not is found by halving.
        most = bisect.bisect_left(lengths, True, key=lambda length: not fits(length))
        return None if most == 0 else replace(self, output_tokens=lengths[most - 1])


def quote_of(body: Mapping[str, Any], model: Model, *, output_tokens: int, is_elastic: bool) -> Quote:
    """`output_tokens` is what one answer may have. Malformed bodies get some quote too; the engine refuses them."""
    return Quote(
        prompt_tokens=prompt_bound(body, image_tokens=model.image_tokens, overhead=model.prompt_overhead_tokens),
        answers=_answers(body),
        output_tokens=output_tokens,
        is_elastic=is_elastic,
        prices=model.prices,
    )


def bound_of(body: Mapping[str, Any], model: Model, *, output_tokens: int) -> Bound:
    return quote_of(body, model, output_tokens=output_tokens, is_elastic=False).bound()


def prompt_bound(body: Mapping[str, Any], *, image_tokens: int, overhead: int) -> int:
    total = overhead
    for name, value in body.items():
        if value is None or name in _NOT_PROMPT:
            continue
        if name == "messages" and isinstance(value, list):
            for message in value:
                total += TOKENS_PER_MESSAGE + _message(message, image_tokens)
        elif name == "prompt":
            total += _texts(value, _bytes) + TOKENS_PER_PROMPT * (_prompts(body) - 1)
        elif name == "input":
            total += _input(value, image_tokens)
        elif name == "instructions" and isinstance(value, str):
            total += TOKENS_PER_MESSAGE + len("developer") + _bytes(value)
        else:
            total += _as_json(value)
    return total


_OPTIONS = """
    model stream stream_options max_tokens max_completion_tokens min_tokens n best_of echo conversation
    temperature top_p top_k min_p seed stop stop_token_ids ignore_eos logit_bias logprobs top_logprobs prompt_logprobs
    presence_penalty frequency_penalty repetition_penalty reasoning_effort verbosity parallel_tool_calls
    user metadata store service_tier safety_identifier prompt_cache_key modalities
    max_output_tokens max_tool_calls truncation include encoding_format dimensions prompt_cache_retention background
"""
_NOT_PROMPT = frozenset(_OPTIONS.split())
# Whose content templates write as it stands; that of others (tools) some write as JSON.
_PLAIN_ROLES = ("system", "developer", "user", "assistant")
_TEXTS = ("text", "refusal", "input_text", "output_text")
_IMAGES = ("image_url", "input_image", "image")


def _input(value: Any, image_tokens: int) -> int:
    """Of a response: a text, which is a message, or items. To embed: a text, a list of texts, token ids, or lists of
    them."""
    if isinstance(value, str):
        return TOKENS_PER_MESSAGE + len("user") + _bytes(value)
    if not isinstance(value, list):
        return _as_json(value)
    total = 0
    for item in value:
        if isinstance(item, dict):
            total += TOKENS_PER_MESSAGE + _item(item, image_tokens)
        elif isinstance(item, str | list):
            total += TOKENS_PER_PROMPT + _texts(item, _bytes)
        else:
            total += 1
    return total


def _item(item: Json, image_tokens: int) -> int:
    """A message, or a call of a tool or its output, which may hold pictures."""
    output = item.get("output")
    if not isinstance(output, list):
        return _message(item, image_tokens)
    rest = {name: value for name, value in item.items() if name != "output"}
    return _message(rest, image_tokens) + sum(_part(part, image_tokens, _escaped) for part in output)


def _message(message: Any, image_tokens: int) -> int:
    if not isinstance(message, dict):
        return _as_json(message)
    role, content = message.get("role"), message.get("content")
    size = _bytes if role in _PLAIN_ROLES else _escaped
    total = size(role) if isinstance(role, str) else _as_json(role)
    if isinstance(content, list):
        for part in content:
            total += _part(part, image_tokens, size)
    else:
        total += _texts(content, size)
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    return total + _as_json(rest) if rest else total


def _part(part: Any, image_tokens: int, size: Callable[[str], int]) -> int:
    if not isinstance(part, dict):
        return _texts(part, size)
    kind = part.get("type")
    if kind in _IMAGES:
        return image_tokens
    if kind in _TEXTS and len(part) == 2:
        text = part.get("refusal" if kind == "refusal" else "text")
        if isinstance(text, str):
            return len(kind) + size(text)
    return _as_json(part) + (0 if kind in _TEXTS else image_tokens)


def _texts(value: Any, size: Callable[[str], int]) -> int:
    """A text, a token id, or a list of them."""
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += size(item)
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            total += _as_json(item)
        elif item is not None:
            total += 1
    return total


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _escaped(text: str) -> int:
    """Bytes of a text as JSON, where every character that is not ASCII is written by its number: the longest form."""
    return len(encode_basestring_ascii(text))


def _as_json(value: Any) -> int:
    """Bytes of a value as JSON with everything escaped and each item on a line of its own, indented by four."""
    total = 0
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        item, indent = stack.pop()
        if isinstance(item, str):
            total += _escaped(item)
        elif isinstance(item, dict | list):
            inner = indent + 4
            total += 3 + indent + len(item) * (inner + 2)
            if isinstance(item, dict):
                total += sum(_escaped(str(name)) + 2 for name in item)
                stack.extend((each, inner) for each in item.values())
            else:
                stack.extend((each, inner) for each in item)
        elif isinstance(item, int):
            total += 5 + item.bit_length() // 3  # digits and sign; `false`
        else:
            total += 25  # the longest float
    return total


def _answers(body: Mapping[str, Any]) -> int:
    """How many answers are asked for: `n` or `best_of`, for each of several prompts."""
    several = max((value for name in ("n", "best_of") if isinstance(value := body.get(name), int)), default=1)
    return max(1, several) * _prompts(body)


def _prompts(body: Mapping[str, Any]) -> int:
    prompt = body.get("prompt")
    return max(1, sum(not isinstance(item, int) for item in prompt)) if isinstance(prompt, list) else 1
