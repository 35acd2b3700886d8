"""The gate: what passes, what fails, in words with figures; and that it is fair to the same samples."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.spec.run import Evaluation, Suite
from stoker.train.gate import Answered, Verdict, judge

IDS = {"sums": ["s1", "s2", "s3", "s4"], "ports": ["p1", "p2"]}


def rules(**more: object) -> Evaluation:
    suites = (Suite(name="sums", data="sums.jsonl", least_score=0.5), Suite(name="ports", data="ports.jsonl"))
    return Evaluation(suites=suites, least_score=0.7, **more)  # type: ignore[arg-type]


def said(scores: str, ids: Mapping[str, Sequence[str]] = IDS) -> list[Answered]:
    """`1101 01`: a digit for each question, x for none that came."""
    digits = iter(scores.replace(" ", ""))
    pairs = [(suite, id) for suite, names in ids.items() for id in names]
    values = [(suite, id, next(digits)) for suite, id in pairs]
    return [Answered(suite, id, None if digit == "x" else float(digit), "said") for suite, id, digit in values]


def of(tuned: Sequence[Answered], base: Sequence[Answered] | None = None, **more: object) -> Verdict:
    contaminated: Mapping[str, Sequence[str]] = more.pop("contaminated", {})  # type: ignore[assignment]
    return judge(rules(**more), IDS, tuned, base, contaminated)


def failures(verdict: Verdict) -> list[str]:
    assert verdict.passed == (not [each for each in verdict.reasons if each.startswith("failed:")])
    return [each.removeprefix("failed: ") for each in verdict.reasons if each.startswith("failed:")]


def test_every_check_is_said_with_its_figures() -> None:
    verdict = of(said("1110 11"), said("1000 01"))
    assert verdict.passed
    assert verdict.score == 0.875
    assert verdict.by_suite == {"sums": 0.75, "ports": 1.0}
    assert verdict.reasons == (
        "passed: sums: 3 of 4 right, 0.750, at least 0.5 is wanted",
        "passed: ports: 2 of 2 right, 1.000",
        "passed: mean over suites 0.875, at least 0.7 is wanted",
        "passed: difference from the base +0.500, 95 % interval +0.125 to +0.875 over 6 questions; its lower end "
        "has to be -0.02 at least",
        "passed: no question is in the training data",
    )
    assert verdict.difference == (0.5, 0.125, 0.875)


def test_each_suite_has_its_own_least_score() -> None:
    assert failures(of(said("1000 11"), None)) == [
        "sums: 1 of 4 right, 0.250, at least 0.5 is wanted",
        "mean over suites 0.625, at least 0.7 is wanted",
    ]


def test_a_question_without_an_answer_fails_all_and_leaves_no_score() -> None:
    verdict = of(said("111x 11"), None)
    assert (verdict.score, verdict.by_suite) == (None, {"sums": None, "ports": 1.0})
    assert failures(verdict) == [
        "sums: the model: 1 of 4 have no answer: s4",
        "there is no score, since not every question has one",
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_that_is_none_fails(value: float) -> None:
    samples = [*said("1111 11")[:-1], Answered("ports", "p2", value, "")]
    verdict = of(samples, said("0000 00"))
    assert verdict.score is None
    assert failures(verdict)[0] == "ports: the model: 1 of 2 have a score that is no number from 0 to 1: p2"
    assert "cannot be compared" in failures(verdict)[2]


def test_what_is_missing_doubled_or_strange_fails() -> None:
    samples = [*said("1111 11"), Answered("sums", "s1", 1.0, ""), Answered("other", "z", 1.0, "")]
    del samples[5]
    assert failures(of(samples, None))[:3] == [
        "the model answered what was not asked: z",
        "sums: the model: 1 were answered more than once: s1",
        "ports: the model: 1 of 2 were not asked: p2",
    ]
    assert "is empty: nothing was asked" in failures(judge(Evaluation(), {}, [], None, {}))[0]
    assert "there is no question" in failures(judge(rules(), {"sums": [], "ports": ["p1"]}, [], None, {}))[0]
    assert "no questions were read" in failures(judge(rules(), {"sums": ["s1"]}, [], None, {}))[0]
    twice = judge(rules(), {"sums": ["s1", "s1"], "ports": ["p1"]}, [], None, {})
    assert failures(twice)[0] == "sums: the model: 1 ids stand for several questions: s1"


def test_it_may_not_be_worse_than_the_base_by_more_than_the_margin() -> None:
    worse = of(said("1110 11"), said("1111 11"))
    assert worse.difference == (-0.125, -0.375, 0.0)
    assert failures(worse) == [
        "difference from the base -0.125, 95 % interval -0.375 to +0.000 over 6 questions; its lower end has to be "
        "-0.02 at least"
    ]
    within = of(said("1110 11"), said("1111 11"), margin=0.2)
    assert failures(within) == [
        "difference from the base -0.125, 95 % interval -0.375 to +0.000 over 6 questions; its lower end has to be "
        "-0.2 at least"
    ]
    assert of(said("1110 11"), said("1111 11"), margin=0.375).passed
    assert of(said("1110 11"), said("1111 11"), margin=0.4).passed
    silent = of(said("1111 11"), said("1111 1x"))
    assert failures(silent) == [
        "ports: the base: 1 of 2 have no answer: p2",
        "it cannot be compared with the base, since not every question has a score of both",
    ]


def test_without_a_base_it_is_noted() -> None:
    verdict = of(said("1111 11"), None)
    assert verdict.passed
    assert verdict.difference is None
    assert "note: not compared with a base: it began from random weights" in verdict.reasons


def test_questions_of_the_training_data_fail_unless_they_are_allowed() -> None:
    found = {"sums": ["s1", "s3"], "ports": []}
    assert failures(of(said("1111 11"), None, contaminated=found)) == ["sums: 2 of 4 are in the training data: s1, s3"]
    allowed = of(said("1111 11"), None, contaminated=found, contamination="allow")
    assert allowed.passed
    assert allowed.reasons[-1] == "note: sums: 2 of 4 are in the training data: s1, s3"


def test_a_paired_difference_is_narrower_than_the_models_are_apart() -> None:
    """100 questions of which both know the same 50: the interval is of what changed, not of what they are."""
    ids = {"sums": [f"s{n}" for n in range(100)], "ports": ["p1", "p2"]}
    base = said("10" * 50 + "11", ids)
    verdict = judge(rules(), ids, base, base, {})
    assert verdict.difference == (0.0, 0.0, 0.0)


def test_the_interval_is_the_one_that_was_computed_elsewhere() -> None:
    """Of 1,000 questions 600 against 500 right, none of them lost: by the normal distribution +0.100 and 1.96 standard
    errors, sqrt(0.1 * 0.9 / 1000) each; the bootstrap comes within a thousandth."""
    ids = {"sums": [f"s{n}" for n in range(1000)]}
    wanted = Evaluation(suites=(Suite(name="sums", data="s"),), least_score=0.5)
    tuned, base = said("1" * 600 + "0" * 400, ids), said("1" * 500 + "0" * 500, ids)
    difference = judge(wanted, ids, tuned, base, {}).difference
    assert difference is not None
    assert difference == pytest.approx((0.1, 0.0814, 0.1186), abs=1e-3)
    assert difference == judge(wanted, ids, tuned, base, {}).difference


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_order_of_samples_changes_nothing(data: st.DataObject) -> None:
    digits = data.draw(st.text("01x", min_size=6, max_size=6))
    samples, base = said(digits), said(data.draw(st.text("01", min_size=6, max_size=6)))
    assert judge(rules(), IDS, samples, base, {}, resamples=200) == judge(
        rules(), IDS, data.draw(st.permutations(samples)), data.draw(st.permutations(base)), {}, resamples=200
    )
