"""What happens to each event of a stream on its way from an engine to a client. No I/O."""

from typing import Any, Protocol

from stoker.base import json_text
from stoker.base.errors import StokerError, UpstreamError
from stoker.engine.hidden import hide
from stoker.engine.tally import Tally
from stoker.meter.charge import Charge
from stoker.web import problems, sse

Json = dict[str, Any]


class Relaying(Protocol):
    """One streamed answer on its way. Whatever comes out of it is ready for the wire."""

    has_ended: bool
    """The last event has come; streams of most endpoints end with `[DONE]` instead."""
    ends_with_done: bool

    @property
    def usage(self) -> Json:
        """What the whole answer used as the engine said it, under the names that `Charge` knows, or nothing."""

    def unread_from(self, events: list[bytes], at: int) -> int:
        """The place after those, from `at`, that go to the client as they are and need not be looked at now."""

    def pass_on(self, event: bytes, now: float) -> bytes | None: ...
    def count(self, now: float) -> None:
        """Tell the charge of what was passed on and not looked at. Call it before an answer is settled that its engine
        has not counted."""

    def cut(self) -> list[bytes]: ...
    def end(self, receipt: Json) -> bytes: ...
    def failed(self, error: StokerError) -> bytes:
        """An error after the stream has begun: its status is sent already, so it comes as an event and ends it."""


def pass_all(relay: Relaying, events: list[bytes], now: float) -> tuple[bytes, bool, Exception | None]:
    """Events that came together: what goes to the client of them, whether the answer ended in them, and what `pass_on`
    raised (upstream errors and UsedUp), which comes after what was passed on before it."""
    passed: list[bytes] = []
    is_done, stopped = False, None
    at = 0
    try:
        while at < len(events):
            unread = relay.unread_from(events, at)
            if unread > at:
                passed.append(sse.events(events[at:unread]))
                at = unread
                continue
            event = events[at]
            at += 1
            if event == sse.DONE:
                is_done = True
                break
            piece = relay.pass_on(event, now)
            if piece is not None:
                passed.append(piece)
            if relay.has_ended:
                is_done = True
                break
    except (StokerError, UsedUp) as error:
        stopped = error
    return b"".join(passed), is_done, stopped


class Relay:
    """For chat and completions. Passes events on as the client asked for them, and tells the charge what it sees.

    The chunk with the whole usage is kept back, unless `passes_usage`: it is the last one, and gets the receipt. Most
    chunks are passed on as they are, and parsed only if the answer ends before its engine has counted it.
    """

    def __init__(self, body: Json, charge: Charge | None, *, passes_usage: bool = False) -> None:
        options = _options(body)
        self._wants_usage = options.get("include_usage") is True
        self._wants_usage_always = self._wants_usage and options.get("continuous_usage_stats") is True
        self._charge = charge
        self._passes_usage = passes_usage
        self._tally = None if charge is None else Tally(charge)
        self._last: Json | None = None
        self._unread: list[bytes] = []
        self.has_ended = False
        self.ends_with_done = True

    def unread_from(self, events: list[bytes], at: int) -> int:
        """A chunk after the first token without a count or an error in it says nothing new. Inside a text these words
        have a backslash before their quotes, so what is found is a name."""
        charge, end = self._charge, len(events)
        if charge is not None:
            if charge.first_token_at is None:
                return at
            if charge.most is not None:  # a chunk is a token, as far as anybody knows
                end = min(end, at + charge.most[1] - charge.completion_tokens - len(self._unread))
        place = at
        for event in events[at:end]:
            if b'"usage"' in event or b'"error"' in event or b'"choices"' not in event:
                break
            place += 1
        self._unread += events[at:place]
        return place

    def pass_on(self, event: bytes, now: float) -> bytes | None:
        """The event for the client, or None to leave it out. `now`: seconds since the epoch.

        Raises UpstreamError for an error that the engine says in the middle of its answer, and for nonsense; UsedUp for
        a chunk beyond what the request was let in with: `cut` is then the end.
        """
        if self.unread_from([event], 0):
            return sse.event(event)
        if self._charge is not None and self._may_be_over(self._charge):
            self.count(now)
        try:
            chunk = json_text.loads(event)
        except ValueError:
            return sse.event(event)
        if not isinstance(chunk, dict):
            return sse.event(event)
        if chunk.get("error"):
            raise failure_in(chunk["error"])
        choices = chunk.get("choices") or []
        if not _are_choices(choices):
            raise UpstreamError("the engine sent an event that is no chunk of an answer")
        if self._charge is not None and self._tally is not None:
            self._tally.saw(chunk, now)
            if self._charge.is_over:
                raise UsedUp
        if chunk.get("usage") and not chunk.get("choices") and not self._passes_usage:
            self._last = chunk
            return None
        asked = self._as_asked(event, chunk)
        return None if asked is None else sse.event(asked)

    def _may_be_over(self, charge: Charge) -> bool:
        return charge.most is not None and charge.completion_tokens + len(self._unread) >= charge.most[1]

    def count(self, now: float) -> None:
        unread, self._unread = self._unread, []
        if self._charge is None or self._tally is None:
            return
        for event in unread:
            try:
                chunk = json_text.loads(event)
            except ValueError:
                continue
            if isinstance(chunk, dict) and _are_choices(chunk.get("choices")):
                self._tally.saw(chunk, now)

    def cut(self) -> list[bytes]:
        """The end of an answer that is stopped because its budget is used up."""
        self.count(0.0)  # which choices have begun; their first tokens were seen before
        chunks = self._tally.cut() if self._tally is not None else []
        if not chunks:
            return []
        *ends, self._last = chunks
        return [sse.event(encoded(end)) for end in ends]

    def end(self, receipt: Json) -> bytes:
        """The last piece before the end: the usage with the receipt, or the receipt as a comment when the client did
        not ask for usage, which no client stumbles over."""
        if self._wants_usage and self._last is not None:
            return sse.event(encoded({**self._last, "stoker": receipt}))
        return receipt_comment(receipt)

    def failed(self, error: StokerError) -> bytes:
        return sse.json_event(problems.body_of(error))

    @property
    def usage(self) -> Json:
        return self._last["usage"] if self._last is not None else {}

    def _as_asked(self, event: bytes, chunk: Json) -> bytes | None:
        if "usage" not in chunk or self._wants_usage_always:
            return event
        if not chunk.get("choices"):
            return event if self._wants_usage else None
        if chunk["usage"] is None and self._wants_usage:
            return event
        if self._wants_usage:
            chunk["usage"] = None
        else:
            del chunk["usage"]
        return encoded(chunk)


def _are_choices(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(choice, dict) for choice in value)


class UsedUp(Exception):
    """The engine produced more than the request was let in with."""


def receipt_comment(receipt: Json) -> bytes:
    return b": receipt " + encoded(receipt) + b"\n\n"


def encoded(value: Json) -> bytes:
    return json_text.dumps(value)


def failure_in(error: Any) -> UpstreamError:
    words = error.get("message") if isinstance(error, dict) else error
    said = hide(str(words))[:300]
    return UpstreamError(f"the engine failed in the middle of the answer: {said}", hint="ask again")


def _options(body: Json) -> Json:
    options = body.get("stream_options")
    return options if isinstance(options, dict) else {}
