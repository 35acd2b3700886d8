"""How long a request may take to come: a body as long as a slow line needs that is steady, and not for ever."""

from stoker.base.errors import TooSlow

# A connection on which no head is whole is closed after so long.
HEAD_S = 60.0
# A body of which nothing comes is waited for so long.
WAIT_S = 60.0
# What has come gives it more time: a line of half a megabit a second gets through whatever it sends.
STEADY_BYTES_PER_S = 64 * 1024


def time_for(received_bytes: int) -> float:
    """Seconds from its begin in which a body has to be whole, of which so much has come."""
    return WAIT_S + received_bytes / STEADY_BYTES_PER_S


def too_slow(received_bytes: int) -> TooSlow:
    return TooSlow(
        f"the body was not whole after {time_for(received_bytes):.0f} s; {received_bytes} bytes of it had come",
        hint="send it faster",
    )
