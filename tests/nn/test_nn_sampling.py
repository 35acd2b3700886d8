import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.nn.sampling import Sampling, choose

GREEDY = Sampling(temperature=0, top_p=1)
LOGITS = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float32))


def test_temperature_zero_takes_the_likeliest():
    assert choose(LOGITS, [GREEDY], [0.99]) == [0]


@pytest.mark.parametrize(
    ("chance", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2), (0.96, 3), (0.999999, 3)]
)
def test_a_draw_follows_the_probabilities(chance: float, token: int):
    assert choose(LOGITS, [Sampling(1.0, 1.0)], [chance]) == [token]


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    """0.5 + 0.3 reach 0.8 together: the third is never drawn."""
    drawn = {choose(LOGITS, [Sampling(1.0, 0.79)], [chance / 100])[0] for chance in range(100)}
    assert drawn == {0, 1}


def test_top_p_of_zero_keeps_one():
    assert choose(LOGITS, [Sampling(2.0, 0.0)], [0.999]) == [0]


def test_a_high_temperature_draws_more_evenly():
    assert choose(LOGITS, [Sampling(2.0, 1.0)], [0.45]) == [1]  # 0.5 has become 0.38


def test_a_forbidden_token_is_never_drawn():
    logits = np.array([[-np.inf, 0.0, -np.inf]], dtype=np.float32)
    assert {choose(logits, [Sampling(2.0, 1.0)], [c / 10])[0] for c in range(10)} == {1}


@given(st.integers(1, 8), st.floats(0, 0.999), st.floats(0.01, 2), st.floats(0, 1), st.integers(0, 1000))
def test_a_row_depends_on_itself_alone(count: int, chance: float, temperature: float, top_p: float, seed: int):
    rows = np.random.default_rng(seed).standard_normal((count, 50)).astype(np.float32) * 3
    mine = Sampling(temperature, top_p)
    others = [GREEDY if n % 2 else Sampling(0.7, 0.9) for n in range(count - 1)]
    together = choose(rows, [*others, mine], [0.5] * (count - 1) + [chance])
    assert together[-1] == choose(rows[-1:], [mine], [chance])[0]
