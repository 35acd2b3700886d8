"""How long to wait before the next try. Pure: used by the worker for tasks and by the supervisor for processes."""

from random import Random


def delay_s(attempt: int, *, base_s: float, cap_s: float, random: Random) -> float:
    """Seconds before the try after failed attempt number `attempt` (from 1): capped exponential with full jitter.

    Uniform in [0, min(cap, base * 2^(attempt - 1))], so that many that failed together do not come back together
    (aws.amazon.com/builders-library, "Timeouts, retries, and backoff with jitter").
    """
    # 2**63 base delays are longer than any cap; the bound keeps the power a float.
    return random.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt - 1, 63)))
