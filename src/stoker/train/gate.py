"""Samples of an evaluation -> a verdict. Pure; what is missing, late or not a number fails.

The same samples and the same seed give the same verdict, so that anybody can check it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.spec.run import Evaluation

_NAMED = 5
"""So many questions are named in a reason."""
_NUMBERS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9


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
    """Each check, with its figures, whether it passed or not: "passed: ...", "failed: ..." or "note: ..."."""
    score: float | None
    """Mean over suites; None when nothing can be said."""
    by_suite: Mapping[str, float | None]
    difference: tuple[float, float, float] | None
    """From the base: mean, and the 95 % interval of a paired bootstrap over questions."""


Scores = Mapping[str, NDArray[np.float64] | None]
"""By suite, in the order of its questions; None for a suite without a whole set of scores."""


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
    that are in the training data.

    `base` None: there is nothing to compare with (a model that began from random weights), which is noted. Everything
    weighs as in the score: each question of a suite the same, and each suite the same."""
    reasons: list[str] = []
    if not wanted.suites:
        reasons.append("failed: evaluation.suites is empty: nothing was asked")
    for name in sorted(expected.keys() ^ {suite.name for suite in wanted.suites}):
        reasons.append(f"failed: {name}: no questions were read for it, or nobody wants it")
    scores, faults = _scores("the model", expected, tuned)
    reasons += faults
    by_suite = {name: None if found is None else float(found.mean()) for name, found in scores.items()}
    reasons += _suite_checks(wanted, by_suite, scores)
    score = _mean(by_suite.values())
    if score is not None:
        reasons.append(_check(score >= wanted.least_score - _ROUNDING, f"mean over suites {_figures(score, wanted)}"))
    else:
        reasons.append("failed: there is no score, since not every question has one")
    difference = None
    if base is None:
        reasons.append("note: not compared with a base: it began from random weights")
    else:
        base_scores, faults = _scores("the base", expected, base)
        reasons += faults
        difference = _difference(scores, base_scores, seed, resamples)
        reasons.append(_not_worse(difference, wanted.margin, sum(len(ids) for ids in expected.values())))
    reasons += _contamination(wanted, expected, contaminated)
    passed = not any(reason.startswith("failed:") for reason in reasons)
    return Verdict(passed, tuple(reasons), score, by_suite, difference)


def _check(is_right: bool, words: str) -> str:
    return f"{'passed' if is_right else 'failed'}: {words}"


def _scores(whose: str, expected: Mapping[str, Sequence[str]], said: Sequence[Answered]) -> tuple[Scores, list[str]]:
    """Each question once, with a number from 0 to 1; what is not so, in words."""
    found: dict[str, NDArray[np.float64] | None] = {}
    faults: list[str] = []
    asked = {name: set(ids) for name, ids in expected.items()}
    strangers = sorted(each.id for each in said if each.id not in asked.get(each.suite, ()))
    if strangers:
        faults.append(f"failed: {whose} answered what was not asked: {_named(strangers)}")
    for suite, ids in expected.items():
        place = {id: number for number, id in enumerate(ids)}
        answers = sorted((each for each in said if each.suite == suite and each.id in place), key=lambda a: place[a.id])
        problems = list(_problems(ids, answers))
        faults += [f"failed: {suite}: {whose}: {problem}" for problem in problems]
        by_id = {each.id: each.score for each in answers}
        found[suite] = None if problems else np.array([by_id[id] for id in ids], dtype=np.float64)
    return found, faults


def _problems(ids: Sequence[str], answers: Sequence[Answered]) -> Iterator[str]:
    if not ids:
        yield "there is no question"
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        yield f"{len(twice)} ids stand for several questions: {_named(twice)}"
    counts = Counter(each.id for each in answers)
    missing = [id for id in ids if not counts[id]]
    if missing:
        yield f"{len(missing)} of {len(ids)} were not asked: {_named(missing)}"
    again = [id for id in dict.fromkeys(ids) if counts[id] > 1]
    if again:
        yield f"{len(again)} were answered more than once: {_named(again)}"
    silent = [each.id for each in answers if each.score is None]
    if silent:
        yield f"{len(silent)} of {len(ids)} have no answer: {_named(silent)}"
    wrong = [each.id for each in answers if each.score is not None and not 0 <= each.score <= 1]  # NaN is not, either
    if wrong:
        yield f"{len(wrong)} of {len(ids)} have a score that is no number from 0 to 1: {_named(wrong)}"


def _suite_checks(wanted: Evaluation, by_suite: Mapping[str, float | None], scores: Scores) -> Iterator[str]:
    for suite in wanted.suites:
        score, each = by_suite.get(suite.name), scores.get(suite.name)
        if score is None or each is None:
            continue
        words = f"{suite.name}: {_count(each)} of {len(each)} right, {score:.3f}"
        if suite.least_score:
            words += f", at least {suite.least_score:g} is wanted"
        yield _check(score >= suite.least_score - _ROUNDING, words)


def _count(scores: NDArray[np.float64]) -> str:
    return f"{scores.sum():g}"


def _figures(score: float, wanted: Evaluation) -> str:
    return f"{score:.3f}, at least {wanted.least_score:g} is wanted"


def _mean(scores: Iterable[float | None]) -> float | None:
    found = list(scores)
    known = [score for score in found if score is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(found) else None


def _difference(tuned: Scores, base: Scores, seed: int, resamples: int) -> tuple[float, float, float] | None:
    """Questions are drawn with replacement within each suite, as often as it has some, and both models' scores of a
    question stay together; the percentiles of the mean over suites. Source: Efron and Tibshirani, An Introduction to
    the Bootstrap (1993), chapter 13."""
    gains: list[NDArray[np.float64]] = []
    for name, one in tuned.items():
        other = base[name]
        if one is None or other is None:
            return None
        gains.append(one - other)
    if not gains:
        return None
    chance = np.random.default_rng(seed)
    means, whole = np.zeros(resamples), 0.0
    for gained in gains:
        whole += float(gained.mean())
        at_once = max(1, _NUMBERS_AT_ONCE // len(gained))
        for begin in range(0, resamples, at_once):
            end = min(resamples, begin + at_once)
            drawn = chance.integers(0, len(gained), size=(end - begin, len(gained)))
            means[begin:end] += gained[drawn].mean(axis=1)
    low, high = np.percentile(means / len(gains), [2.5, 97.5])
    return whole / len(gains), float(low), float(high)


def _not_worse(difference: tuple[float, float, float] | None, margin: float, questions: int) -> str:
    if difference is None:
        return "failed: it cannot be compared with the base, since not every question has a score of both"
    mean, low, high = difference
    words = (
        f"difference from the base {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} over {questions} questions; "
        f"its lower end has to be {-margin:+g} at least"
    )
    return _check(low >= -margin - _ROUNDING, words)


def _contamination(
    wanted: Evaluation, expected: Mapping[str, Sequence[str]], contaminated: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    found = {name: ids for name, ids in contaminated.items() if ids}
    if not found:
        yield "passed: no question is in the training data"
    for name, ids in found.items():
        words = f"{name}: {len(ids)} of {len(expected.get(name, ()))} are in the training data: {_named(ids)}"
        yield f"note: {words}" if wanted.contamination == "allow" else f"failed: {words}"


def _named(ids: Sequence[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
