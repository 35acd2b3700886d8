"""Answers in OpenAI's shapes, whole and in chunks."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """One answer's constant parts."""

    id: str
    model: str
    created: int
    """Seconds since the Unix epoch."""
    is_chat: bool
    include_usage: bool
    """A stream that ends with the usage says `"usage": null` in every chunk before."""
    continuous_usage: bool = False
    """...or the usage so far in every chunk: vLLM's `continuous_usage_stats`, by which a stream that breaks off is
    metered to the chunk."""

    def whole(self, text: str, finish_reason: str | None, usage: Json) -> Json:
        choice: Json = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self.is_chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    def first_chunk(self, usage: Json) -> list[Json]:
        """Says who speaks; completions have none."""
        return [self._chunk({"delta": {"role": "assistant", "content": ""}}, None, usage)] if self.is_chat else []

    def chunks(self, text: str, finish_reason: str | None, usage: Json) -> list[Json]:
        """More text, or the end, which in a chat is a chunk of its own."""
        if not self.is_chat:
            return [self._chunk({"text": text}, finish_reason, usage)] if text or finish_reason else []
        chunks = [self._chunk({"delta": {"content": text}}, None, usage)] if text else []
        return chunks + ([self._chunk({"delta": {}}, finish_reason, usage)] if finish_reason else [])

    def usage_chunk(self, usage: Json) -> Json:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _chunk(self, part: Json, finish_reason: str | None, usage: Json) -> Json:
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": usage if self.continuous_usage else None} if self.include_usage else chunk

    def _head(self, chat_object: str) -> Json:
        return {
            "id": self.id,
            "object": chat_object if self.is_chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def model_object(name: str, created: int, context: int, digest: str | None) -> Json:
    """`max_model_len` is vLLM's addition, and useful. `digest` says which weights these are (`registry.weights`)."""
    about = {"id": name, "object": "model", "created": created, "owned_by": "stoker", "max_model_len": context}
    return about if digest is None else {**about, "digest": digest}
