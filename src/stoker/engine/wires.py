"""How each of OpenAI's endpoints is asked for an answer, and how its answer is read: for the gateway and the worker,
who relay it. Pure.

A wire is one object for each endpoint, in `WIRES` by its path. Counts come out under the names that `Charge` knows
(`prompt_tokens`, `completion_tokens`), whatever an endpoint calls them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stoker.engine import typed_events
from stoker.engine.answers import assemble
from stoker.engine.tally import Tally
from stoker.engine.typed_events import TypedTally
from stoker.meter.charge import Charge

Json = dict[str, Any]


class Reading(Protocol):
    """One streamed answer as it is read. It counts for its charge, and can end the answer in its engine's place."""

    def saw(self, event: Json, now: float) -> None:
        """`now`: seconds since the epoch. Look at `charge.is_over` afterwards. Raises UpstreamError for nonsense."""

    def cut(self) -> list[Json]:
        """The last events of an answer that is stopped because its budget is used up; none if it has not begun."""


class Wire(Protocol):
    path: str
    can_stream: bool

    def asking(self, body: Json, *, continuous: bool) -> Json:
        """The body as a stream is asked for, with its usage, whether the client wants it or not: the charge needs it.

        `continuous`: in every event, as vLLM and the embedded engine can, so that the count of a stream that breaks off
        is right to the event. Others refuse the unknown option."""

    def reading(self, charge: Charge) -> Reading: ...

    def is_last(self, event: Json) -> bool:
        """Whether a stream ends with this event; most end with `[DONE]`."""

    def error_in(self, event: Json) -> Any:
        """What the engine says went wrong in the middle of its answer; None when nothing did."""

    def assemble(self, events: Sequence[Json]) -> Json:
        """The whole answer that these are the stream of. Raises ValueError when it is none."""

    def usage_in(self, answer: Any) -> Json | None:
        """What a whole answer says that it used."""


class _Chunks:
    """Chat and completions: chunks with choices, then one with the usage."""

    can_stream = True

    def __init__(self, path: str) -> None:
        self.path = path

    def asking(self, body: Json, *, continuous: bool) -> Json:
        return {**body, "stream": True, "stream_options": _options(body, continuous, include_usage=True)}

    def reading(self, charge: Charge) -> Reading:
        return Tally(charge)

    def is_last(self, event: Json) -> bool:
        return False

    def error_in(self, event: Json) -> Any:
        return event.get("error") or None

    def assemble(self, events: Sequence[Json]) -> Json:
        return assemble(events)

    def usage_in(self, answer: Any) -> Json | None:
        return _usage(answer)


class _TypedEvents:
    """Responses: events of many types; the last one holds the whole answer."""

    path = "/v1/responses"
    can_stream = True

    def asking(self, body: Json, *, continuous: bool) -> Json:
        asked = {**body, "stream": True}
        if continuous:
            asked["stream_options"] = _options(body, continuous)
        return asked

    def reading(self, charge: Charge) -> Reading:
        return TypedTally(charge)

    def is_last(self, event: Json) -> bool:
        return typed_events.is_last(event)

    def error_in(self, event: Json) -> Any:
        return typed_events.error_in(event)

    def assemble(self, events: Sequence[Json]) -> Json:
        last = events[-1] if events else {}
        if not self.is_last(last) or not isinstance(last.get("response"), dict):
            raise ValueError("the stream ended without a response")
        whole: Json = last["response"]
        return whole

    def usage_in(self, answer: Any) -> Json | None:
        return typed_events.counts(_usage(answer))


class _Vectors:
    """Embeddings: one whole answer, of which nothing is generated."""

    path = "/v1/embeddings"
    can_stream = False

    def asking(self, body: Json, *, continuous: bool) -> Json:
        return body

    def reading(self, charge: Charge) -> Reading:
        raise NotImplementedError("embeddings have no stream")

    def is_last(self, event: Json) -> bool:
        return False

    def error_in(self, event: Json) -> Any:
        return event.get("error") or None

    def assemble(self, events: Sequence[Json]) -> Json:
        raise ValueError("embeddings have no stream")

    def usage_in(self, answer: Any) -> Json | None:
        usage = _usage(answer)
        return None if usage is None else {**usage, "completion_tokens": 0}


CHAT = _Chunks("/v1/chat/completions")
COMPLETIONS = _Chunks("/v1/completions")
RESPONSES = _TypedEvents()
EMBEDDINGS = _Vectors()
WIRES: Mapping[str, Wire] = {wire.path: wire for wire in (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS)}


def _usage(answer: Any) -> Json | None:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    return usage if isinstance(usage, dict) else None


def _options(body: Json, continuous: bool, **more: bool) -> Json:
    said = body.get("stream_options")
    options = {**(said if isinstance(said, dict) else {}), **more}
    if continuous:
        options["continuous_usage_stats"] = True
    return options
