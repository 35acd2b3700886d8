import pytest

from stoker.engine.scheduler import Limits, Plan, plan

LIMITS = Limits(max_running=4, max_waiting=8, busy_prefill=256, idle_prefill=512)


@pytest.mark.parametrize(
    ("case", "generating", "unfinished", "waiting", "wanted"),
    [
        ("nothing to do", 0, [], [], Plan(0, [])),
        ("only generating", 3, [], [], Plan(0, [])),
        ("one joins at once", 2, [], [30], Plan(1, [(0, 30)])),
        ("all that fit join", 1, [], [10, 20, 30, 40], Plan(3, [(0, 10), (1, 20), (2, 30)])),
        ("no slot is free", 4, [], [10], Plan(0, [])),
        ("slots of unfinished prompts count", 2, [50, 60], [10], Plan(0, [(0, 50), (1, 60)])),
        ("a long prompt is cut while others generate", 1, [], [1000], Plan(1, [(0, 256)])),
        ("and less so while none does", 0, [], [1000], Plan(1, [(0, 512)])),
        ("the last piece may be any length", 1, [130], [], Plan(0, [(0, 130)])),
        ("a piece is a multiple of 64", 1, [30, 1000], [], Plan(0, [(0, 30), (1, 192)])),
        ("the first prompt goes first", 1, [1000, 30], [], Plan(0, [(0, 256)])),
        ("what is left of the budget may be too little", 1, [200, 100], [], Plan(0, [(0, 200)])),
        ("a joining one waits for its turn with its slot", 1, [300], [20], Plan(1, [(0, 256)])),
    ],
)
def test_plan(case: str, generating: int, unfinished: list[int], waiting: list[int], wanted: Plan):
    assert plan(LIMITS, generating, unfinished, waiting) == wanted
