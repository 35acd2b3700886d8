"""What was found in the data of a run, and its words."""

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.train.formats import BadLine

SHOWN = 10
"""Bad lines that are told one by one; the report has all."""


@dataclass(frozen=True)
class Report:
    """What was found in the data, for people and for the run's record. With a transform: in the first epoch."""

    examples: int
    tokens: int
    tokens_in_loss: int
    truncated: int
    dropped: int
    bad: tuple[BadLine, ...]


@dataclass(frozen=True)
class Notes:
    """What the next launch need not find out again. `rows_in`: how many rows each epoch has, as far as is known."""

    report: Report
    rows_in: Sequence[int]


def in_words(report: Report, max_length: int) -> list[str]:
    """What a person should know, a sentence each; the first bad lines one by one."""
    said = [
        f"{_examples(report.examples)}, {report.tokens:,} tokens, {report.tokens_in_loss:,} of them count in the loss"
    ]
    if report.truncated:
        said.append(f"cut: {_examples(report.truncated)} of more than maxLength ({max_length:,}) tokens")
    if report.dropped:
        said.append(
            f"left out: {_examples(report.dropped)}, of whose first maxLength ({max_length:,}) tokens none counts, "
            "or tooLong is drop"
        )
    if report.bad:
        many = len(report.bad) != 1
        said.append(f"{len(report.bad):,} line{'s' * many} cannot be used, and {'are' if many else 'is'} skipped:")
        said += [f"  {each.file}:{each.line}: {each.why}" for each in report.bad[:SHOWN]]
        if len(report.bad) > SHOWN:
            said.append(f"  and {len(report.bad) - SHOWN:,} more")
    return said


def _examples(count: int) -> str:
    return f"{count:,} example{'s' * (count != 1)}"
