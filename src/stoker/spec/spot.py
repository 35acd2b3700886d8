"""`spot`: how a worker on an instance that AWS may take back learns of it, and leaves."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from stoker.spec.section import Expected, Section


def _no_number(value: object) -> object:
    """To Python 1 equals True, and so it would be taken for it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("a number")  # noqa: TRY004 - pydantic makes a fault of this kind alone
    return value


Watch = Annotated[
    Literal["auto", True, False],
    BeforeValidator(_no_number),
    Expected("auto, true (or on) or false (or off)"),
]


class Spot(Section):
    watch: Watch = "auto"
    """Whether workers look for a spot notice in the instance's metadata. auto: where that says, at the worker's start,
    that the instance is a spot instance. true (on): always. false (off): never."""

    poll_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5.0
    """Seconds between two looks; AWS asks for 5. A notice comes two minutes before the end."""

    reserve_seconds: Annotated[float, Field(ge=0, le=110, allow_inf_nan=False)] = 10.0
    """Seconds before the end by which running tasks are handed back, so that other workers have them in time."""

    on_rebalance: Literal["ignore", "leave"] = "ignore"
    """What a worker does when AWS recommends to rebalance, which may come long before a notice or without one. leave:
    takes nothing more, finishes what runs, however long that takes, and stays out of service."""
