"""What was seen of each request, and the numbers that come of it. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.cli.load.percentiles import SHOWN, summary


@dataclass
class Seen:
    """One request. Times are seconds of one monotonic clock."""

    due_at: float
    """When it was to be sent. Latency counts from here, so that a sender that falls behind does not flatter the
    platform (coordinated omission)."""
    sent_at: float | None = None
    """None: it was never sent."""
    token_times: list[float] = field(default_factory=list)
    """When each piece of text came. The embedded engine sends one for each token; others may send several in one."""
    ended_at: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    """The kind of failure: the code of the platform's error, or a word of ours."""


def build(seen: Sequence[Seen], *, began_at: float, ended_at: float) -> dict[str, Any]:
    """The report of `stoker load --json`. Latencies are of the requests that were answered."""
    answered = [one for one in seen if one.error is None and one.ended_at is not None]
    wall_s = max(ended_at - began_at, 1e-9)
    completion = sum(one.completion_tokens for one in answered)
    return {
        "requests": len(seen),
        "answered": len(answered),
        "errors": dict(sorted(Counter(one.error for one in seen if one.error is not None).items())),
        "wall_s": wall_s,
        "requests_per_s": len(answered) / wall_s,
        "tokens": {"prompt": sum(one.prompt_tokens for one in answered), "completion": completion},
        "tokens_per_s": completion / wall_s,
        "ttft_s": summary([one.token_times[0] - one.due_at for one in answered if one.token_times]),
        "inter_token_s": summary(_gaps(answered)),
        "e2e_s": summary([one.ended_at - one.due_at for one in answered if one.ended_at is not None]),
        "sent_late_s": summary([one.sent_at - one.due_at for one in seen if one.sent_at is not None])["max"] or 0.0,
    }


def rows(report: dict[str, Any]) -> list[list[str]]:
    """The latency table for people, in milliseconds."""
    names = (("time to first token", "ttft_s"), ("between tokens", "inter_token_s"), ("whole answer", "e2e_s"))
    columns = [*(f"p{p}" for p in SHOWN), "max"]
    return [[name, *(_milliseconds(report[key][column]) for column in columns)] for name, key in names]


def lines(report: dict[str, Any]) -> list[str]:
    """The rest of the report for people."""
    errors = ", ".join(f"{kind} {count}" for kind, count in report["errors"].items()) or "none"
    return [
        f"requests      {report['requests']}, answered {report['answered']} ({report['requests_per_s']:.2f}/s)",
        f"errors        {errors}",
        f"tokens        {report['tokens']['prompt']} in, {report['tokens']['completion']} out"
        f" ({report['tokens_per_s']:.1f}/s)",
        f"sent late by  {report['sent_late_s'] * 1000:.1f} ms at most",
    ]


def _gaps(answered: Iterable[Seen]) -> list[float]:
    return [
        later - earlier
        for one in answered
        for earlier, later in zip(one.token_times, one.token_times[1:], strict=False)
    ]


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.1f}"
