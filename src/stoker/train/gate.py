"""Samples of an evaluation -> a verdict. Pure; what is missing, late or not a number fails.

The same samples and the same seed give the same verdict, so that anybody can check it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.spec.run import Evaluation


@dataclass(frozen=True)
class Answered:
    """One question, asked of one model. `score`: 0 to 1; None: no answer came (time-out, error). `said` is kept."""

    suite: str
    id: str
    score: float | None
    said: str


@dataclass(frozen=True)
class Verdict:
    passed: bool
    reasons: tuple[str, ...]
    """Each check, with its figures, whether it passed or not."""
    score: float | None
    """Mean over suites; None when nothing can be said."""
    by_suite: Mapping[str, float | None]
    difference: tuple[float, float, float] | None
    """From the base: mean, and the 95 % interval of a paired bootstrap over questions."""


def judge(
    wanted: Evaluation,
    expected: Mapping[str, Sequence[str]],
    tuned: Sequence[Answered],
    base: Sequence[Answered] | None,
    contaminated: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> Verdict:
    """`expected`: ids of the questions of each suite; one that was not answered fails. `contaminated`: ids of questions
    that are in the training data."""
    raise NotImplementedError
