"""`scalingModifiers`: formulas over triggers, and what a ScaledObject does by one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.policy import hpa, keda
from stoker.policy.keda import Fallback, Modifiers, ScaledObject, State, Trigger, decide, metrics
from stoker.policy.keda_formulas import names, parse, value

VALUES = {"a": Fraction(6), "b": Fraction(4), "gone": None}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("a + b", 10),
        ("a + b * 2", 14),
        ("(a + b) / 2", 5),
        ("a - b - 1", 1),
        ("a / 4", Fraction(3, 2)),
        ("2 ** 3 ** 2", 512),
        ("a % b", 2),
        ("-a + b", -2),
        ("-2 ** 2", -4),
        ("a > b ? a : b", 6),
        ("a < b ? 1 : b == 4 ? 2 : 3", 2),
        ("a > 5 && b > 5 ? 1 : 0", 0),
        ("a > 5 or b > 5 ? 1 : 0", 1),
        ("not (a > 5) ? 1 : 0", 0),
        ("max(a, b)", 6),
        ("min([a, b, 3])", 3),
        ("sum([a, b])", 10),
        ("mean(a, b)", 5),
        ("median(1, a, b)", 4),
        ("ceil(a / b) + floor(a / b) + round(a / b) + abs(-1)", 6),
        ("1.5e1 + .5", Fraction(31, 2)),
        ("gone ?? 3", 3),
        ("gone ?? a + 1", 7),  # it binds tighter than the sum
        ("1_000 + a", 1006),
        ("a / 0", 0),  # infinite, which KEDA takes for 0
    ],
)
def test_a_formula_has_the_value_that_expr_gives_it(formula: str, expected: Fraction) -> None:
    assert value(parse(formula), VALUES) == expected


@pytest.mark.parametrize(
    "formula", ["gone + a", "a > b", "strange + 1", "max()", "gone", "!a", "a % 0.5", "2 ** 2000", "(9 ** 99) ** 99"]
)
def test_what_is_no_number_has_no_value(formula: str) -> None:
    assert value(parse(formula), VALUES) is None


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("", "missing at the end"),
        ("a +", "missing at the end"),
        ("(a", "')' is missing at the end"),
        ("a b", "'b' is not expected there"),
        ("a ? b", "':' is missing at the end"),
        ("count([a, b], {# > 1})", "is not understood"),
        ("open('/etc/passwd')", "is not understood"),
        ("exec(a)", "the function exec is not known here"),
        ("a.b", "is not understood"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 50 deep"),
        ("a+" * 2000 + "a", "at most 2000"),
    ],
)
def test_what_is_not_understood_is_said(formula: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
        parse(formula)


def test_it_names_the_triggers_that_it_reads() -> None:
    assert names(parse("max(a, b) > 3 ? a : c ?? 1")) == ("a", "b", "c")


@given(st.text("ab+-*/%()<>=?:,!&|0123456789. []", max_size=40))
def test_nothing_but_a_value_error_comes_of_any_text(text: str) -> None:
    try:
        formula = parse(text)
    except ValueError:
        return
    assert isinstance(value(formula, VALUES), Fraction | None)


def scaled(formula: str, **changes: object) -> ScaledObject:
    modifiers = Modifiers(parse(formula), 4000, activation=1000)
    given_: dict[str, object] = {"triggers": (Trigger("a", 1000), Trigger("b", 1000)), "maximum": 10}
    return ScaledObject(**{**given_, "modifiers": modifiers, **changes})  # type: ignore[arg-type]


def test_one_metric_stands_for_all_triggers() -> None:
    found = metrics(scaled("(a + b) / 3"), State(0.0), 2, 2, {"a": 10_000, "b": 10_000})
    assert found == [hpa.Metric("composite-metric", 6666, 4000)]  # the rest is cut off


def test_it_alone_says_what_is_active() -> None:
    """Each trigger would be; together they are not above 1."""
    assert decide(scaled("a - b"), State(0.0), 0, {"a": 9000, "b": 8000}, 1.0)[1].after == 0
    decision = decide(scaled("a - b"), State(0.0), 0, {"a": 9000, "b": 7000}, 1.0)[1]
    assert (decision.after, decision.by) == (1, ("composite-metric",))


def test_a_trigger_that_failed_is_nil_for_which_a_default_can_stand() -> None:
    values = {"a": None, "b": 8000}
    assert decide(scaled("(a ?? 2) + b"), State(0.0), 0, values, 1.0)[1].after == 1
    assert metrics(scaled("(a ?? 2) + b"), State(0.0), 1, 1, values)[0].value == 10_000
    assert decide(scaled("a + b"), State(0.0), 0, values, 1.0)[1].reason == "failed"
    assert metrics(scaled("a + b"), State(0.0), 1, 1, values)[0].value is None


def test_a_fallback_is_what_makes_the_hpa_want_that_many() -> None:
    found = scaled("a + b", fallback=Fallback(3, 5))
    state = State(0.0, failures={"a": 4})
    assert metrics(found, state, 1, 1, {"a": None, "b": 8000})[0].value == 20_000
    assert metrics(found, State(0.0, failures={"a": 3}), 1, 1, {"a": None, "b": 8000})[0].value is None


def test_a_number_below_nothing_is_nothing() -> None:
    assert metrics(scaled("a - b"), State(0.0), 1, 1, {"a": 1000, "b": 8000})[0].value == 0


def test_a_target_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="target 0"):
        keda.Modifiers(parse("a"), 0)
