"""What a person should be told first, in a few lines: what went wrong, and where the time went."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.simulate import lives, moments, report
from stoker.simulate.result import Result

MOST = 8
_MOST_TROUBLES = 4
_LONGEST = 320
"""Letters of a line; `--json` and the page have all."""
_SHARE_WORTH_A_LINE = 0.05
_WHY_REJECTED: Mapping[str, str] = {
    "too_long": "had more tokens than their model takes",
    "timed_out": "waited longer than they may",
    "no_replica": "came when no replica was there and there was nothing to wait in",
    "lost": "were cut off with their replica",
}


def lines(result: Result, figures: Mapping[str, Any]) -> list[str]:
    """At most so many, the gravest first. `figures` are those of `report.as_json`."""
    return list(_all(result, figures))[:MOST]


def _all(result: Result, figures: Mapping[str, Any]) -> Iterator[str]:
    requests = figures["requests"]
    if requests["rejected"]:
        by = sorted(requests["rejected_by"].items(), key=lambda each: -each[1])
        why = "; ".join(f"{count:,} {_WHY_REJECTED[name]}" for name, count in by if count)
        yield f"{requests['rejected']:,} of {requests['arrived']:,} requests were rejected: {why}."
    if requests["late"]:
        share = 100 * requests["late"] / max(1, requests["served"])
        yield f"{requests['late']:,} answers were late ({share:.1f} % of those that were served)."
    kinds = Counter(each.kind for each in result.journal)
    if kinds["broken"] and not any("can never serve" in each["text"] for each in figures["troubles"]):
        first = next(each for each in result.journal if each.kind == "broken")
        yield f"{first.subject} can never serve: {first.text}"
    yield from _troubles(figures)
    if not any(each["kind"] == "cold start" for each in figures["troubles"]):
        yield from _slowest_phase(result)
    spot = kinds["interruption"]
    if spot:
        yield f"{spot:,} spot notice{'s' * (spot != 1)} or recommendation{'s' * (spot != 1)} to rebalance came."
    if kinds["no capacity"] and not any(each["kind"] == "no capacity" for each in figures["troubles"]):
        yield f"EC2 had none of what was asked for {kinds['no capacity']:,} time{'s' * (kinds['no capacity'] != 1)}."
    yield from _idle(figures)


def _troubles(figures: Mapping[str, Any]) -> Iterator[str]:
    """Of each kind and subject the longest, with how many more there were."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in figures["troubles"]:
        about = each.get("model") or each.get("pool") or each["kind"]
        groups.setdefault((each["kind"], about), []).append(each)
    for found in list(groups.values())[:_MOST_TROUBLES]:
        longest = max(found, key=lambda each: each["to_s"] - each["from_s"])
        more = (
            "" if len(found) == 1 else " (and once more)" if len(found) == 2 else f" (and {len(found) - 1} more times)"
        )
        when = f"From {moments.clock(longest['from_s'])}{more}: "
        text = longest["text"]
        if len(text) > _LONGEST:
            text = text[:_LONGEST].rpartition(" ")[0] + " ..."
        yield f"{when}{text}. What would help: {longest['hint']}."


def _slowest_phase(result: Result) -> Iterator[str]:
    ups = [each for each in lives.scale_ups(result) if each.total_s is not None]
    if ups:
        by = report.phase_figures(ups)
        total = by["total"]["p50"]
        phase = max(lives.PHASES, key=lambda name: by[name]["mean"] or 0.0)
        yield (
            f"A new replica took {moments.span(total)} until it was ready (median of {len(ups):,}); "
            f"most of it went on {lives.PHASE_NAMES[phase]}, {moments.span(by[phase]['mean'])} on the mean."
        )


def _idle(figures: Mapping[str, Any]) -> Iterator[str]:
    bill = figures["cost_usd"]
    for name, words in (("(idle)", "for what no pod had of the nodes"), ("(start-up)", "for nodes that were starting")):
        usd = bill["by_model"].get(name, 0.0)
        if bill["total"] and usd / bill["total"] >= _SHARE_WORTH_A_LINE:
            yield f"{100 * usd / bill['total']:.0f} % of the money went {words}."
