"""What happens to each event of a stream on its way from an engine to a client. No I/O."""

import json
from typing import Any

from stoker.base.errors import StokerError, UpstreamError
from stoker.engine.answers import has_content
from stoker.meter.charge import Charge
from stoker.web import problems, sse

Json = dict[str, Any]


def ask_for_usage(body: Json, *, continuous: bool) -> Json:
    """The body with usage asked for, whether the client wants it or not: the charge needs it.

    `continuous`: in every chunk, as vLLM and the embedded engine can, so that the count of a stream that breaks off is
    right to the chunk. Others refuse the unknown option.
    """
    options = {**_options(body), "include_usage": True}
    if continuous:
        options["continuous_usage_stats"] = True
    return {**body, "stream": True, "stream_options": options}


class Relay:
    """Passes events on as the client asked for them, and tells the charge what it sees."""

    def __init__(self, body: Json, charge: Charge | None) -> None:
        options = _options(body)
        self._wants_usage = options.get("include_usage") is True
        self._wants_usage_always = self._wants_usage and options.get("continuous_usage_stats") is True
        self._charge = charge
        self._counted = False

    def pass_on(self, event: bytes, now: float) -> bytes | None:
        """The event for the client, or None to leave it out. `now`: seconds since the epoch.

        Raises UpstreamError for an error that the engine says in the middle of its answer.
        """
        try:
            chunk = json.loads(event)
        except ValueError:
            return event
        if not isinstance(chunk, dict):
            return event
        if chunk.get("error"):
            raise failure_in(chunk["error"])
        if self._charge is not None:
            self._note(self._charge, chunk, now)
        return self._as_asked(event, chunk)

    def _note(self, charge: Charge, chunk: Json, now: float) -> None:
        if has_content(chunk):
            if charge.first_token_at is None:
                charge.first_token_at = now
            if not self._counted:
                # Until the engine says better: a chunk is a token.
                charge.completion_tokens += 1
        usage = chunk.get("usage")
        if usage:
            self._counted = True
            charge.saw_usage(usage)

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
        return json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode()


def failure_in(error: Any) -> UpstreamError:
    words = error.get("message") if isinstance(error, dict) else error
    return UpstreamError(f"the engine failed in the middle of the answer: {str(words)[:300]}", hint="ask again")


def error_event(error: StokerError) -> bytes:
    """An error after the stream has begun: its status is sent already, so it comes as an event and ends the stream."""
    return sse.json_event(problems.body_of(error))


def _options(body: Json) -> Json:
    options = body.get("stream_options")
    return options if isinstance(options, dict) else {}
