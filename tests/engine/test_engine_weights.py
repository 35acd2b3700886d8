"""The default weights do what their card says, greedily: the card is what people read before they wonder."""

import pytest
from engine_builders import Heard, ask, default_bundle, make_runner, question, run_until_over

from stoker.nn.bundle import default_folder


def answers(*questions: str) -> list[str]:
    runner = make_runner(max_running=32, max_waiting=1000)
    requests: list[Heard] = [ask(runner, question(text), max_tokens=80) for text in questions]
    run_until_over(runner, *requests)
    return [request.text for request in requests]


@pytest.mark.parametrize("wording", ["What is {} times {}?", "{} x {} = ?"])
def test_it_knows_the_products_up_to_ten_times_ten(wording: str):
    pairs = [(a, b) for a in range(11) for b in range(11)]
    wanted = [f"{a} times {b} is {a * b}." for a, b in pairs]
    assert answers(*(wording.format(a, b) for a, b in pairs)) == wanted


def test_it_knows_sums():
    pairs = [(a, b) for a in range(0, 21, 2) for b in range(0, 21, 2)]
    assert answers(*(f"What is {a} plus {b}?" for a, b in pairs)) == [f"{a} plus {b} is {a + b}." for a, b in pairs]


def test_it_answers_what_people_try_first():
    hello, count, code, stoker = answers(
        "Say hello.", "Count to five.", "Write a Python function that adds two numbers.", "What is Stoker?"
    )
    assert hello.startswith("Hello")
    assert count == "1, 2, 3, 4, 5."
    assert "def add(a, b):\n    return a + b" in code
    assert stoker.startswith("Stoker is a platform that gives agents models to call.")


def test_the_card_says_how_big_the_model_is():
    config = default_bundle().config
    card = (default_folder() / "MODEL_CARD.md").read_text()
    assert f"{config.num_hidden_layers} layers, width {config.hidden_size}" in card
    assert f"vocabulary {config.vocab_size:,}" in card
