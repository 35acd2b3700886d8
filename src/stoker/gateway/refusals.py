"""What is told in a trace of a request that was refused: the status, and the error's code.

Before its model is known, only of who has a key. Whoever has none (401), or sends more than is read before the key is
looked at (413), is counted in `stoker_refused_total` and nothing else: a stranger who sends `traceparent: ...-01` again
and again would otherwise fill the queue of spans, in which those of real requests wait, and the collector's disk.
Nothing of the body is told, nor the path as it was written.
"""

import asyncio
import re

from stoker.base.errors import StokerError
from stoker.gateway import spans
from stoker.meter.accounts import Account
from stoker.meter.charge import Caller
from stoker.telemetry.spans import Span
from stoker.web.client import Answer, openai_error_in

_WORD = re.compile("[a-z][a-z0-9_]{0,63}")


def tell(span: Span | None, path: str, key: Account | None, error: BaseException, at: float) -> None:
    """Before its model is known. `path`: of our routes. `key`: of the caller, None where it is not known. `at`: when it
    is refused, seconds since the epoch."""
    if span is not None and key is not None:
        knows(span, path, key)
        end(span, error, at)


def knows(span: Span, path: str, key: Account) -> None:
    """Who asks, and for nothing of a model."""
    span.about = (path, None, Caller(key.tenant, key.id, session=None, run=None))


def end(span: Span | None, error: BaseException, at: float) -> None:
    """Of a request whose model was known: it was refused, or went wrong, or its client went away."""
    if isinstance(error, StokerError):
        spans.answered_with(span, error.status, at, error.code)
    else:
        spans.answered_with(span, spans.CLIENT_CLOSED if isinstance(error, asyncio.CancelledError) else 500, at)


def code_of(answer: Answer) -> str | None:
    """Of an engine's error that its client gets as it is: its code, where that is a word, since somebody else's server
    may say there what it was asked; else its status. None: it is none."""
    if answer.status < 400:
        return None
    code = (openai_error_in(answer) or {}).get("code")
    return code if isinstance(code, str) and _WORD.fullmatch(code) else str(answer.status)
