"""The most that a request can cost, before anybody has counted its tokens. Pure.

A bound must never be too small, or a budget could be overspent. A byte-level tokenizer makes at most one token of a
byte (vLLM's and OpenAI's models have such; so has the embedded engine), so the text's length in UTF-8 bounds its
tokens. What the engine's chat template adds is bounded by the model's `promptOverheadTokens` and a few tokens for each
message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.meter.cost import cost_nano_usd
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


def bound_of(body: Mapping[str, Any], model: Model, *, output_tokens: int) -> Bound:
    """`output_tokens` is what one answer may have. Malformed bodies get some bound too; the engine refuses them."""
    prompt = prompt_bound(body, image_tokens=model.image_tokens, overhead=model.limits.prompt_overhead_tokens)
    completion = output_tokens * _answers(body)
    # A prompt that is not cached is the dearer one wherever caching is a discount; where it is not, the other is.
    nano_usd = max(
        cost_nano_usd(model.prices, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
        for cached in (0, prompt)
    )
    return Bound(prompt, completion, nano_usd)


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
