"""How long to wait before trying again. Used by the worker for tasks and by the supervisor for processes."""

from random import Random

from stoker.base.errors import InvalidInput


def delay_s(attempt: int, *, base_s: float, cap_s: float, random: Random) -> float:
    """Seconds to wait after `attempt` (from 1) failed: any time between 0 and min(cap_s, base_s * 2^(attempt - 1)),
    all equally likely ("full jitter"), so that many who failed together do not come back together.

    Raises InvalidInput for an attempt below 1, a negative base or a cap below the base.
    """
    if attempt < 1:
        raise InvalidInput(f"attempt is {attempt}; attempts are counted from 1", param="attempt")
    if base_s < 0 or cap_s < base_s:
        raise InvalidInput(f"base_s is {base_s} and cap_s {cap_s}; it must be 0 <= base_s <= cap_s", param="base_s")
    doublings = min(attempt - 1, 1000)  # a float overflows at 1024, long after any cap was reached
    return random.uniform(0.0, min(cap_s, base_s * 2.0**doublings))
