from pathlib import Path

import pytest
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools.calculator import value_of
from stoker.base.errors import InvalidInput


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("6 × 7 ÷ 2", "21"),
        ("-2 ** 2", "-4"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ** -2", "0.25"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("1 / 3", "1/3 (about 0.33333333333333333333)"),
        ("1/3 + 1/6", "0.5"),
        ("1.50 * 2", "3"),
        ("2e3 - .5", "1999.5"),
        ("sqrt(16 / 9) * 3", "4"),
        ("sqrt(2)", "about 1.4142135623730950488"),
        ("2 * pi", "about 6.2831853071795864769"),
        ("log10(1000)", "3"),
        ("ln(e)", "about 1"),
        ("round(2.5) + round(-2.5)", "0"),
        ("round(2.345, 2)", "2.35"),
        ("max(1, 5/2, 2) - min(3, 1)", "1.5"),
        ("sum(1, 2, 3) + abs(-4) + floor(1.9) + ceil(1.1)", "13"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("factorial(20)", "2432902008176640000"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("12345678901234567890 * 98765432109876543210", "1219326311370217952237463801111263526900"),
    ],
)
def test_exact_values(expression: str, value: str) -> None:
    assert value_of(expression) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("9**9**9", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("9**9**9**9**9", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("(1/3) ** 10000000", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("1e999999", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("exp(1e900)", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("2 ** 0.5 ** -9999", "a number here has more than 1000 digits, which is more than this calculator holds"),
        ("factorial(10**9)", "factorial takes 0 to 449; it got 1000000000"),
        ("factorial(3.5)", "factorial takes whole numbers; 3.5 is not one"),
        ("1 / (3 - 3)", "division by zero has no value"),
        ("0 ** -1", "division by zero has no value"),
        ("(-8) ** (1/3)", "a negative number to a power that is not whole is no real number"),
        ("sqrt(-1)", "the square root of a negative number is no real number"),
        ("ln(0)", "ln takes numbers above 0"),
        ("10%", "% is the remainder of a division, as in 7 % 3; for 15 percent write 15/100"),
        ("200 - 10% - 5", "% is the remainder of a division, as in 7 % 3; for 15 percent write 15/100"),
        ("1,000 + 1", "a comma stands between arguments of a function only; write 1000 for 1,000"),
        ("6 times 7", '"times" stands where an operator was expected, such as * or +'),
        ("2(3)", '"(" stands where an operator was expected, such as * or +'),
        ("(1 + 2", "a closing parenthesis is missing"),
        ("1 +", "a number is missing at the end"),
        ("", "the expression is empty; send one such as 6 * 7"),
        ("sqrt(1, 2)", "sqrt takes 1 arguments; it got 2"),
        ("pow(2, 3)", '"pow" is not known; these are: abs, ceil,'),
        ("__import__('os')", "\"'os')\" is not arithmetic; use numbers, + - * / // % **, parentheses and functions"),
        ("(" * 400 + "1" + ")" * 400, "the expression is nested more than 50 levels deep; send it in parts"),
        ("-" * 900 + "1", "the expression is nested more than 50 levels deep; send it in parts"),
        ("1+" * 600, "the expression has 1200 characters; 1000 are the most"),
    ],
)
def test_what_it_refuses_and_what_it_says(expression: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        value_of(expression)
    assert caught.value.message.startswith(message)


async def test_a_wrong_expression_is_an_error_for_the_model(tmp_path: Path) -> None:
    async with toolbox(tmp_path, {"calculator": {"calculator": True}}) as box:
        tool = await the_tool(box, "calculator")
        assert (await said(box, tool, expression="6 * 7")).text == "42"
        done = await said(box, tool, expression="1 / 0")
        assert (done.is_error, done.text) == (True, "division by zero has no value")
        with pytest.raises(InvalidInput, match=r"expression: 42 is not of type 'string'\. It takes: expression"):
            tool.check({"expression": 42})
