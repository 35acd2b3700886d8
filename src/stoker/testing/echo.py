"""What the echo engine says: the words of the last message, one token each, in OpenAI's shapes. Pure.

The whole answer is made on its own, not put together from the stream, so that one can be tested against the other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.base.errors import InvalidInput

Json = dict[str, Any]
CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Echo:
    """One answer, before it is whole or a stream. `texts` are its tokens, the same for each of its `n` choices."""

    id: str
    model: str
    is_chat: bool
    texts: tuple[str, ...]
    finish: str
    n: int
    prompt_tokens: int
    cached_tokens: int
    tool: str | None
    with_logprobs: bool

    def usage(self, tokens: int) -> Json:
        """After `tokens` tokens of all choices together."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def whole(self) -> Json:
        return {
            **self._head("chat.completion" if self.is_chat else "text_completion"),
            "choices": [self._whole_choice(index) for index in range(self.n)],
            "usage": self.usage(self.n * len(self.texts)),
        }

    def chunks(self, *, continuous: bool) -> Iterator[Json]:
        """A chunk a token, then the end of each choice, then the usage, which clients may have asked not to get.

        `continuous`: the usage so far in every chunk, as vLLM's `continuous_usage_stats`; null otherwise.
        """
        head = self._head("chat.completion.chunk" if self.is_chat else "text_completion")
        done = 0
        for position, text in enumerate(self.texts):
            for index in range(self.n):
                done += 1
                choice = self._piece(index, position, text)
                yield {**head, "choices": [choice], "usage": self.usage(done) if continuous else None}
        for index in range(self.n):
            end: Json = {"delta": {}} if self.is_chat else {"text": ""}
            choice = {"index": index, **end, "logprobs": None, "finish_reason": self.finish}
            yield {**head, "choices": [choice], "usage": self.usage(done) if continuous else None}
        yield {**head, "choices": [], "usage": self.usage(done)}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": CREATED, "model": self.model}

    def _whole_choice(self, index: int) -> Json:
        text = "".join(self.texts)
        positions = range(len(self.texts))
        logprobs = self._logprobs(positions) if self.with_logprobs and self.texts else None
        if not self.is_chat:
            said: Json = {"text": text}
        elif self.tool is None:
            said = {"message": {"role": "assistant", "content": text}}
        else:
            call = {"id": f"call_{index}", "type": "function", "function": {"name": self.tool, "arguments": text}}
            said = {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": self.finish}

    def _piece(self, index: int, position: int, text: str) -> Json:
        logprobs = self._logprobs(range(position, position + 1)) if self.with_logprobs else None
        said = {"delta": self._delta(index, position, text)} if self.is_chat else {"text": text}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": None}

    def _delta(self, index: int, position: int, text: str) -> Json:
        role: Json = {"role": "assistant"} if position == 0 else {}
        if self.tool is None:
            return {**role, "content": text}
        function: Json = {"name": self.tool} if position == 0 else {}
        call: Json = {"id": f"call_{index}", "type": "function"} if position == 0 else {}
        return {**role, "tool_calls": [{"index": 0, **call, "function": {**function, "arguments": text}}]}

    def _logprobs(self, positions: range) -> Json:
        texts = [self.texts[position] for position in positions]
        values = [-1.0 - position for position in positions]
        if self.is_chat:
            pairs = zip(texts, values, strict=True)
            return {"content": [{"token": text, "logprob": value, "top_logprobs": []} for text, value in pairs]}
        return {"tokens": texts, "token_logprobs": values}


def echo_of(
    body: Json,
    *,
    is_chat: bool,
    number: int,
    model: str,
    cached_tokens: int,
    reply: str | None,
    ignores_length: bool = False,
) -> Echo:
    """What a body is answered with: `reply`, or the last message again, cut to `max_tokens` unless it
    `ignores_length`. Raises InvalidInput."""
    said = _texts_of(body, is_chat=is_chat)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise InvalidInput(f"max_tokens is {most!r}; it has to be a whole number, at least 1", param="max_tokens")
    if ignores_length:
        most = None
    tool = _tool_of(body)
    text = said[-1] if reply is None else reply
    texts = _tokens(json.dumps({"echo": text}) if tool else text)
    is_cut = most is not None and most < len(texts)
    return Echo(
        id=f"{'chatcmpl' if is_chat else 'cmpl'}-{number}",
        model=model,
        is_chat=is_chat,
        texts=texts[:most],
        finish="length" if is_cut else "tool_calls" if tool else "stop",
        n=body.get("n") or 1,
        prompt_tokens=sum(len(_tokens(each)) for each in said),
        cached_tokens=cached_tokens,
        tool=tool,
        with_logprobs=bool(body.get("logprobs")),
    )


def _tokens(text: str) -> tuple[str, ...]:
    """Words, each with the space before it, so that joining them is the text (with single spaces) again."""
    return tuple(word if index == 0 else f" {word}" for index, word in enumerate(text.split()))


def _texts_of(body: Json, *, is_chat: bool) -> list[str]:
    if not is_chat:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise InvalidInput(f"prompt is {prompt!r}; it has to be a string", param="prompt")
        return [prompt]
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput(f"messages is {messages!r}; it has to be a list with at least one", param="messages")
    return [_text_in(message.get("content")) for message in messages]


def _text_in(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""


def _tool_of(body: Json) -> str | None:
    tools = body.get("tools")
    return str(tools[0]["function"]["name"]) if tools else None
