"""What happens to each event of a streamed response (`/v1/responses`) on its way to a client. No I/O.

Events keep their names and numbers. The last one is kept back until what it cost is written down, and carries the
receipt, as `stoker`.
"""

from typing import Any

from stoker.base import json_text
from stoker.base.errors import StokerError, UpstreamError
from stoker.engine import typed_events
from stoker.engine.typed_events import TypedTally
from stoker.gateway.relay import UsedUp, encoded, failure_in, receipt_comment
from stoker.meter.charge import Charge
from stoker.web import problems, sse

Json = dict[str, Any]


class TypedRelay:
    def __init__(self, charge: Charge | None, *, passes_last: bool = False) -> None:
        self._charge = charge
        self._tally = None if charge is None else TypedTally(charge)
        self._passes_last = passes_last
        self._last: Json | None = None
        self._number = -1
        self.has_ended = False
        self.ends_with_done = False

    def unread_from(self, events: list[bytes], at: int) -> int:
        return at

    def count(self, now: float) -> None:
        """Nothing to do: each event was looked at."""

    def pass_on(self, event: bytes, now: float) -> bytes | None:
        """As `Relay.pass_on`."""
        if event == sse.DONE:
            return None  # some engines end with it; what counts is their last event
        try:
            said = json_text.loads(event)
        except ValueError:
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("type"), str):
            if isinstance(said, dict) and said.get("error"):
                raise failure_in(said["error"])
            raise UpstreamError("the engine sent an event that is no event of a response")
        if self._tally is not None and self._charge is not None:
            self._tally.saw(said, now)
            if self._charge.is_over:
                raise UsedUp
        error = typed_events.error_in(said)
        if error is not None:
            raise failure_in(error)
        number = said.get("sequence_number")
        if isinstance(number, int):
            self._number = number
        if "usage" in said:  # asked for by us; the last event has the client's own inside
            del said["usage"]
            event = encoded(said)
        if typed_events.is_last(said):
            self.has_ended = True
            if not self._passes_last:
                self._last = said
                return None
        return sse.event(event, name=said["type"])

    def cut(self) -> list[bytes]:
        events = self._tally.cut() if self._tally is not None else []
        if not events:
            return []
        *events, self._last = events
        return [_written(event) for event in events]

    def end(self, receipt: Json) -> bytes:
        if self._last is None:
            return receipt_comment(receipt)
        return _written({**self._last, "stoker": receipt})

    @property
    def usage(self) -> Json:
        response = self._last.get("response") if self._last is not None else None
        return (typed_events.counts(response.get("usage")) if isinstance(response, dict) else None) or {}

    def failed(self, error: StokerError) -> bytes:
        """As OpenAI says it, and with `error` beside, by which its SDKs know that the answer is none."""
        body = problems.body_of(error)
        said = body["error"]
        event = {
            "type": "error",
            "code": said["code"],
            "message": said["message"],
            "param": said["param"],
            "sequence_number": self._number + 1,
        }
        return _written({**event, **body})


def _written(event: Json) -> bytes:
    return sse.event(encoded(event), name=event["type"])
