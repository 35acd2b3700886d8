"""The schedule of a CronJob: what Kubernetes' parser takes."""

import re

_MONTHS = {
    name: i
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_DAYS = {name: i for i, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every ((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+", re.ASCII)


def fault(schedule: str) -> str:
    """What is wrong with a schedule; an empty text where nothing is."""
    if schedule.startswith("@"):
        if schedule in _WORDS or _EVERY.fullmatch(schedule):
            return ""
        return f"{schedule} is not one of {', '.join(_WORDS)}"
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"has {len(fields)} fields; five are wanted: minute, hour, day, month, day of the week"
    for text, (what, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            wrong = _part(part, least, most, words)
            if wrong:
                return f"the {what}, {text}: {wrong}"
    return ""


def _part(text: str, least: int, most: int, words: dict[str, int]) -> str:
    span, slash, step = text.partition("/")
    if slash and (not step.isdecimal() or int(step) == 0):
        return f"the step {step or 'after /'} is no whole number above 0"
    if span in ("*", "?"):
        return ""
    low, dash, high = span.partition("-")
    ends = []
    for end in (low, high) if dash else (low,):
        number = words.get(end.lower(), int(end) if end.isascii() and end.isdecimal() and len(end) < 9 else None)
        if number is None:
            return f"{end or 'nothing'} is no number"
        if not least <= number <= most:
            return f"{end} is not from {least} to {most}"
        ends.append(number)
    return f"{span} ends before it begins" if len(ends) == 2 and ends[0] > ends[1] else ""
