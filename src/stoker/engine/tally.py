"""What the chunks of a streamed answer come to: for the gateway and the worker, who relay them."""

from typing import Any

from stoker.engine.answers import check_chunk, has_content, text_bytes
from stoker.meter.charge import Charge

Json = dict[str, Any]


class Tally:
    """Counts for the charge what it sees, and can end an answer in its engine's place."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._head: Json = {}
        self._open: set[int] = set()  # choices that have begun and not ended

    def saw(self, chunk: Json, now: float) -> None:
        """`now`: seconds since the epoch. Look at `charge.is_over` afterwards. Raises UpstreamError for nonsense."""
        charge = self._charge
        check_chunk(chunk)
        if not self._head:
            self._head = {name: chunk[name] for name in ("id", "object", "created", "model") if name in chunk}
        for choice in chunk.get("choices") or ():
            if choice.get("finish_reason"):
                self._open.discard(choice.get("index", 0))
            else:
                self._open.add(choice.get("index", 0))
        if has_content(chunk):
            if charge.first_token_at is None:
                charge.first_token_at = now
            if not charge.is_counted:
                # Until the engine says better: a chunk is a token.
                charge.completion_tokens += 1
                charge.text_bytes += text_bytes(chunk)
        charge.saw_usage(chunk.get("usage"))

    def cut(self) -> list[Json]:
        """The last chunks of an answer that is stopped because its budget is used up: each choice ends for its length,
        then the usage as it was counted."""
        if not self._head:
            return []
        said: Json = {"text": ""} if self._head.get("object") == "text_completion" else {"delta": {}}
        ends = [{"index": index, **said, "logprobs": None, "finish_reason": "length"} for index in sorted(self._open)]
        charge = self._charge
        usage = {
            "prompt_tokens": charge.prompt_tokens,
            "completion_tokens": charge.completion_tokens,
            "total_tokens": charge.prompt_tokens + charge.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": charge.cached_tokens},
        }
        return [*({**self._head, "choices": [end]} for end in ends), {**self._head, "choices": [], "usage": usage}]
