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

    def events(self, options: Json) -> Iterator[Json]:
        """What goes over the wire, as the stream's options have it."""
        wants_usage = options.get("include_usage") is True
        for chunk in self.chunks(continuous=wants_usage and options.get("continuous_usage_stats") is True):
            if not wants_usage:
                if not chunk["choices"]:
                    continue
                del chunk["usage"]
            yield chunk

    def produced(self, sent: int) -> int:
        """Tokens of so many events."""
        return min(sent, self.n * len(self.texts))

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


@dataclass(frozen=True, slots=True)
class EchoResponse:
    """One answer to `/v1/responses`."""

    id: str
    model: str
    texts: tuple[str, ...]
    is_cut: bool
    prompt_tokens: int
    cached_tokens: int
    n: int = 1

    def usage(self, tokens: int) -> Json:
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt_tokens + tokens,
        }

    def whole(self) -> Json:
        status = "incomplete" if self.is_cut else "completed"
        details = {"reason": "max_output_tokens"} if self.is_cut else None
        item = self._item(status, [_part("".join(self.texts))])
        return self._response(status, [item], self.usage(len(self.texts)), details)

    def events(self, options: Json) -> Iterator[Json]:
        """Four that begin, one for each token, four that end."""
        so_far = options.get("continuous_usage_stats") is True
        for number, (event, tokens) in enumerate(self._events()):
            yield {**event, "sequence_number": number, **({"usage": self.usage(tokens)} if so_far else {})}

    def produced(self, sent: int) -> int:
        return max(0, min(sent - 4, len(self.texts)))

    def _events(self) -> Iterator[tuple[Json, int]]:
        begun = self._response("in_progress", [], None, None)
        yield {"type": "response.created", "response": begun}, 0
        yield {"type": "response.in_progress", "response": begun}, 0
        yield {"type": "response.output_item.added", "output_index": 0, "item": self._item("in_progress", [])}, 0
        here = {"item_id": f"msg_{self.id}", "output_index": 0, "content_index": 0}
        yield {"type": "response.content_part.added", **here, "part": _part("")}, 0
        for place, text in enumerate(self.texts):
            yield {"type": "response.output_text.delta", **here, "delta": text, "logprobs": []}, place + 1
        whole, done = self.whole(), len(self.texts)
        text = "".join(self.texts)
        yield {"type": "response.output_text.done", **here, "text": text, "logprobs": []}, done
        yield {"type": "response.content_part.done", **here, "part": _part(text)}, done
        yield {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]}, done
        yield {"type": f"response.{whole['status']}", "response": whole}, done

    def _item(self, status: str, content: list[Json]) -> Json:
        return {"id": f"msg_{self.id}", "type": "message", "status": status, "role": "assistant", "content": content}

    def _response(self, status: str, output: list[Json], usage: Json | None, details: Json | None) -> Json:
        return {
            "id": self.id,
            "object": "response",
            "created_at": CREATED,
            "model": self.model,
            "status": status,
            "error": None,
            "incomplete_details": details,
            "output": output,
            "usage": usage,
        }


@dataclass(frozen=True, slots=True)
class EchoVectors:
    """One answer to `/v1/embeddings`: of each text, how many tokens it has."""

    model: str
    counts: tuple[int, ...]
    texts: tuple[str, ...] = ()
    """Of what is generated: nothing."""
    n: int = 1

    @property
    def prompt_tokens(self) -> int:
        return sum(self.counts)

    def whole(self) -> Json:
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": [float(count)]}
                for index, count in enumerate(self.counts)
            ],
            "model": self.model,
            "usage": {"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens},
        }

    def events(self, options: Json) -> Iterator[Json]:
        raise InvalidInput("embeddings have no stream", param="stream")

    def produced(self, sent: int) -> int:
        return 0


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_of(
    body: Json, *, number: int, model: str, cached_tokens: int, reply: str | None, ignores_length: bool = False
) -> EchoResponse:
    """As `echo_of`: the last item again, cut to `max_output_tokens`."""
    said = body.get("input")
    texts = [said] if isinstance(said, str) else [_text_in(item.get("content")) for item in said or ()]
    if not texts:
        raise InvalidInput(f"input is {said!r}; it has to be a string or a list", param="input")
    most = None if ignores_length else body.get("max_output_tokens")
    tokens = _tokens(texts[-1] if reply is None else reply)
    prompt = [*texts, body.get("instructions") or ""]
    return EchoResponse(
        id=f"resp-{number}",
        model=model,
        texts=tokens[:most],
        is_cut=most is not None and most < len(tokens),
        prompt_tokens=sum(len(_tokens(each)) for each in prompt),
        cached_tokens=cached_tokens,
    )


def vectors_of(body: Json, *, model: str) -> EchoVectors:
    """A word is a token, and so is a number. Raises InvalidInput."""
    said = body.get("input")
    is_one = isinstance(said, str) or (isinstance(said, list) and said and isinstance(said[0], int))
    texts = [said] if is_one else said
    if not isinstance(texts, list) or not texts:
        raise InvalidInput(f"input is {said!r}; it has to be a string or a list", param="input")
    return EchoVectors(model, tuple(len(text if isinstance(text, list) else _tokens(text)) for text in texts))


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
    `ignores_length`; of an answer that has begun (`continue_final_message`), the rest. Raises InvalidInput."""
    said = _texts_of(body, is_chat=is_chat)
    begun = len(_tokens(said[-1])) if body.get("continue_final_message") else 0
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise InvalidInput(f"max_tokens is {most!r}; it has to be a whole number, at least 1", param="max_tokens")
    if ignores_length:
        most = None
    tool = _tool_of(body)
    text = said[-2 if begun else -1] if reply is None else reply
    texts = _tokens(json.dumps({"echo": text}) if tool else text)[begun:]
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
