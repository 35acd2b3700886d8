"""The most that a request can cost, before anybody has counted its tokens. Pure.

A bound must never be too small, or a budget could be overspent. A byte-level tokenizer makes at most one token of a
byte (vLLM's and OpenAI's models have such; so has the embedded engine), so the text's length in UTF-8 bounds its
tokens. What the engine's chat template adds is bounded by the model's `promptOverheadTokens` and a few tokens for each
message.
"""

import bisect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.meter.cost import Prices, cost_nano_usd
from stoker.policy.budgets import Amounts
from stoker.spec import Model

Json = dict[str, Any]

# Role, begin and end marks, line breaks: ChatML has 5 tokens for each message, Llama 3 has 5, Mistral fewer.
TOKENS_PER_MESSAGE = 8


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
        # A prompt that is not cached is the dearer one wherever caching is a discount; where it is not, the other is.
        nano_usd = max(
            cost_nano_usd(self.prices, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
            for cached in (0, prompt)
        )
        return Bound(prompt, completion, nano_usd)

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
    messages = body.get("messages")
    if isinstance(messages, list):
        for message in messages:
            total += TOKENS_PER_MESSAGE + _tokens_in(message, image_tokens)
    total += _tokens_in(body.get("prompt"), image_tokens)
    for name in ("tools", "functions", "response_format", "documents", "chat_template_kwargs"):
        if body.get(name) is not None:
            # Templates write these out as JSON, perhaps indented: twice its compact length is more than that adds.
            total += 2 * len(json.dumps(body[name], ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return total


def _tokens_in(value: Any, image_tokens: int) -> int:
    """Bytes of every text in a value of the prompt; a token id is a token; an image is what the model says it is."""
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
        elif isinstance(item, dict):
            if item.get("type") in ("image_url", "input_image", "image"):
                total += image_tokens
            else:
                stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif item is not None:
            total += 1
    return total


def _answers(body: Mapping[str, Any]) -> int:
    """How many answers are asked for: `n` or `best_of`, for each of several prompts."""
    several = max((value for name in ("n", "best_of") if isinstance(value := body.get(name), int)), default=1)
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return max(1, several) * prompts
