"""How a request may come: how long it may take, a body as long as a slow line needs that is steady, and not for ever;
and how much there may be beside the body, which has its own limit. No program that means well comes near these.
"""

from stoker.base.errors import InvalidInput, TooSlow

# A connection on which no head is whole is closed after so long.
HEAD_S = 60.0
# A body of which nothing comes is waited for so long.
WAIT_S = 60.0
# What has come gives it more time: a line of half a megabit a second gets through whatever it sends.
STEADY_BYTES_PER_S = 64 * 1024
# A client that takes nothing of its answer for so long is taken for gone.
UNREAD_S = 60.0


def time_for(received_bytes: int) -> float:
    """Seconds from its begin in which a body has to be whole, of which so much has come."""
    return WAIT_S + received_bytes / STEADY_BYTES_PER_S


def too_slow(received_bytes: int) -> TooSlow:
    return TooSlow(
        f"the body was not whole after {time_for(received_bytes):.0f} s; {received_bytes} bytes of it had come",
        hint="send it faster",
    )


MOST_URL_BYTES = 8 * 1024
MOST_HEADERS = 128
MOST_HEAD_BYTES = 64 * 1024
"""Of the names and values of all headers together."""
# What stands around a body that comes in chunks: their sizes, what follows a size (extensions), and the lines after the
# body (trailers), which nobody here reads. A chunk of one byte has five beside it.
_FRAMING_BYTES = 16 * 1024
_FRAMING_EACH = 16


def is_padded(raw_bytes: int, body_bytes: int) -> bool:
    """Whether so much that came is more than a body of that length needs, however small its chunks."""
    return raw_bytes > _FRAMING_BYTES + _FRAMING_EACH * body_bytes


def url_too_long() -> InvalidInput:
    return _refused(
        414, f"the URL has more than {MOST_URL_BYTES} bytes", "put what is long into the body", "url_too_long"
    )


def head_too_large() -> InvalidInput:
    return _refused(
        431,
        f"the request has more than {MOST_HEADERS} headers, or more than {MOST_HEAD_BYTES} bytes of them",
        "send fewer",
        "head_too_large",
    )


def padded() -> InvalidInput:
    return _refused(
        400,
        f"what stands around the chunks of the body is larger than {_FRAMING_BYTES} bytes and the body allow",
        "send larger chunks, without extensions and trailers",
        "body_padded",
    )


def _refused(status: int, message: str, hint: str, code: str) -> InvalidInput:
    error = InvalidInput(message, hint=hint, code=code)
    error.status = status
    return error
