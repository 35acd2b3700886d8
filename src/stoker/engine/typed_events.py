"""The events of a streamed response (`/v1/responses`): what they say, what they come to, and how one is cut. Pure.

Each event has a `type` and a `sequence_number`. A response is a list of items; a message among them is a list of parts.
Items and parts are added, grow by deltas, and are done; the last event holds the whole response and its usage. An event
may say the usage so far (`usage`), as the embedded engine does for who asks for it (`continuous_usage_stats`).
"""

import copy
from typing import Any

from stoker.base.errors import UpstreamError
from stoker.meter.charge import Charge

Json = dict[str, Any]

_LAST = ("response.completed", "response.incomplete", "response.failed")
_GROWS = {"response.function_call_arguments.delta": "arguments", "response.custom_tool_call_input.delta": "input"}
# What these generate is seen as it comes; of others (hidden reasoning) nobody can say how much it is.
_SEEN_ITEMS = ("message", "function_call", "custom_tool_call")


def is_last(event: Json) -> bool:
    return event.get("type") in _LAST


def error_in(event: Json) -> Any:
    """What went wrong, as an engine says it in the middle of its answer; None when nothing did."""
    if event.get("error"):
        return event["error"]
    if event.get("type") == "error":
        return event
    if event.get("type") == "response.failed":
        return _dict(event.get("response")).get("error") or "the response failed"
    return None


def counts(usage: Any) -> Json | None:
    """`usage` under the names that `Charge` knows."""
    if not isinstance(usage, dict):
        return None
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
    }


class TypedTally:
    """Counts for the charge what it sees, and can end a response in its engine's place."""

    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._response: Json = {}
        self._number = -1
        self._items: dict[int, Json] = {}
        self._open: set[int] = set()  # items that were added and are not done
        self._texts: dict[tuple[int, int], list[str]] = {}  # of parts that were added and are not done
        self._fields: dict[tuple[int, str], list[str]] = {}  # of items that grow without parts

    def saw(self, event: Json, now: float) -> None:
        """Raises UpstreamError for an event that is none."""
        charge = self._charge
        kind, delta = event.get("type"), event.get("delta")
        if not isinstance(kind, str):
            raise UpstreamError("the engine sent an event without a type, which is no event of a response")
        if isinstance(delta, str) and delta:
            if charge.first_token_at is None:
                charge.first_token_at = now
            if not charge.is_counted:
                # Until the engine says better: a delta is a token.
                charge.completion_tokens += 1
                charge.text_bytes += len(delta.encode("utf-8", "surrogatepass"))
        charge.saw_usage(counts(event.get("usage")))
        if is_last(event):
            charge.saw_usage(counts(_dict(event.get("response")).get("usage")))
        if not charge.is_over:  # what is beyond is no part of the answer
            self._keep(kind, event)

    def cut(self) -> list[Json]:
        """The last events: what is open is closed with what it has, and the response is incomplete."""
        if not self._response:
            return []
        events = [event for index in sorted(self._open) for event in self._closed(index)]
        response = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [self._items[index] for index in sorted(self._items)],
            "usage": usage(self._charge.prompt_tokens, self._charge.completion_tokens, self._charge.cached_tokens),
        }
        events.append({"type": "response.incomplete", "response": response})
        return [{**event, "sequence_number": self._number + place} for place, event in enumerate(events, 1)]

    def _keep(self, kind: str, event: Json) -> None:
        number, index = event.get("sequence_number"), _index(event.get("output_index"))
        if isinstance(number, int):
            self._number = number
        if kind == "response.created":
            self._response = _dict(event.get("response")) or self._response
        elif kind == "response.output_item.added":
            self._items[index] = copy.deepcopy(_dict(event.get("item")))
            self._open.add(index)
            if self._items[index].get("type") not in _SEEN_ITEMS and self._charge.most is not None:
                self._charge.text_bytes += self._charge.most[1]
        elif kind == "response.output_item.done":
            self._items[index] = _dict(event.get("item"))
            self._open.discard(index)
        elif index in self._open:
            self._keep_in_item(kind, event, index)

    def _keep_in_item(self, kind: str, event: Json, index: int) -> None:
        place = _index(event.get("content_index"))
        if kind == "response.content_part.added":
            self._texts[index, place] = []
            _content(self._items[index])[place:] = [copy.deepcopy(_dict(event.get("part")))]
        elif kind == "response.content_part.done":
            self._texts.pop((index, place), None)
            _content(self._items[index])[place:] = [_dict(event.get("part"))]
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            self._texts.setdefault((index, place), []).append(str(event.get("delta")))
        elif kind in _GROWS:
            self._fields.setdefault((index, _GROWS[kind]), []).append(str(event.get("delta")))

    def _closed(self, index: int) -> list[Json]:
        """The ends of an item's open parts and of itself."""
        item = self._items[index]
        item["status"] = "incomplete"
        where = {"item_id": item.get("id"), "output_index": index}
        events: list[Json] = []
        for (at, place), texts in sorted(self._texts.items()):
            if at != index:
                continue
            content = _content(item)
            if place >= len(content):
                continue
            part, text = content[place], "".join(texts)
            name = "refusal" if part.get("type") == "refusal" else "text"
            part[name] = text
            here = {**where, "content_index": place}
            kind = "refusal" if name == "refusal" else "output_text"
            ended: Json = {"type": f"response.{kind}.done", **here, name: text}
            events.append(ended if name == "refusal" else {**ended, "logprobs": []})
            events.append({"type": "response.content_part.done", **here, "part": copy.deepcopy(part)})
        for (at, name), texts in self._fields.items():
            if at == index:
                item[name] = "".join(texts)
        return [*events, {"type": "response.output_item.done", "output_index": index, "item": copy.deepcopy(item)}]


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> Json:
    """In the words of a response."""
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
        "output_tokens": completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _index(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _content(item: Json) -> list[Any]:
    """The item's parts, which are dicts that we may change."""
    content = item.get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        content = item["content"] = []
    return content
