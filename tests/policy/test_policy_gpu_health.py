"""What the rules make of GPUs: at one look, and over several."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from stoker.policy.gpu_health import RULES, Gpu, Holder, Look, Warned, line, warnings

WELL = Gpu(
    "n1",
    "0",
    utilization=60.0,
    memory_used_mib=20000.0,
    memory_free_mib=3000.0,
    temperature_c=60.0,
    power_w=200.0,
    clock_reasons=4,
    heat_slowed=0.0,
    ecc_corrected=9.0,
    ecc_uncorrected=0.0,
    remap_failed=False,
    xid=0,
)


def look(at: float, *gpus: Gpu, nodes: str = "n1") -> Look:
    return Look(at, gpus, frozenset(nodes.split()))


def over(minutes: int, gpu_at: Callable[[int], Gpu]) -> list[Look]:
    """One look a minute."""
    return [look(minute * 60.0, gpu_at(minute)) for minute in range(minutes + 1)]


def said(found: list[Warned]) -> list[tuple[str, str]]:
    return [(each.rule, each.seen) for each in found]


def test_a_gpu_that_works_has_no_warning_and_one_that_says_nothing_has_none() -> None:
    assert warnings([look(0, WELL)]) == []
    assert warnings([look(0, Gpu("n1", "0"))]) == []
    assert warnings([]) == []


@pytest.mark.parametrize(
    ("change", "rule", "seen"),
    [
        ({"temperature_c": 88.0}, None, ""),
        ({"temperature_c": 89.0}, "GpuHot", "89 C"),
        ({"clock_reasons": 0x4C}, "GpuThrottled", "clocks held down by heat, at 60 C"),
        ({"clock_reasons": 0x20}, "GpuThrottled", "clocks held down by heat, at 60 C"),
        ({"clock_reasons": 0x80}, "GpuPowerBrake", "power brake, at 200 W"),
        ({"xid": 79}, "GpuBroken", "XID 79: the GPU has fallen off the bus (NVIDIA: restart the machine)"),
        ({"xid": 13}, None, ""),  # a program's, and when is not known
        ({"ecc_uncorrected": 2.0}, "GpuMemoryErrors", "2 errors that ECC cannot correct"),
        ({"remap_failed": True}, "GpuMemoryErrors", "a row that could not be replaced"),
        ({"memory_free_mib": 400.0}, "GpuMemoryFull", "98.0 %: 20000 of 20400 MiB"),
        ({"memory_free_mib": 409.0}, None, ""),
        ({"utilization": 3.0}, None, ""),
        ({"utilization": 2.0}, "GpuIdle", "2.0 % at this one look, and nobody has it and 20000 MiB are held"),
        ({"utilization": 0.0, "memory_used_mib": 9.0}, "GpuIdle", "0.0 % at this one look, and nobody has it"),
    ],
)
def test_one_look_is_enough_for_most_rules(change: dict[str, object], rule: str | None, seen: str) -> None:
    found = warnings([look(0, replace(WELL, **change))])  # type: ignore[arg-type]
    assert said(found) == ([] if rule is None else [(rule, seen)])


def test_an_idle_gpu_is_idle_on_average_and_says_who_has_it() -> None:
    holder = (Holder("model-code-x", "ai", "vllm", "code"),)
    busy_once = over(10, lambda minute: replace(WELL, holders=holder, utilization=100.0 if minute == 5 else 0.0))
    assert warnings(busy_once) == []
    found = warnings(over(60, lambda minute: replace(WELL, holders=holder, utilization=100.0 if minute == 5 else 0.0)))
    assert said(found) == [
        ("GpuIdle", "1.6 % on average over 60 min (61 looks), while code has it and 20000 MiB are held")
    ]


def test_a_simulated_gpu_is_not_judged() -> None:
    assert warnings([look(0, Gpu("n", "0", utilization=0.0, is_simulated=True))]) == []
    assert warnings([look(0, Gpu("n", "0", is_simulated=True)), look(60, nodes="n")]) == []


def test_memory_that_grows_runs_out_when_the_line_says_so() -> None:
    """100 MiB a minute of 3000: half an hour. 90 is later than that."""

    def growing(each_minute: float, minutes: int) -> list[Look]:
        return over(minutes, lambda minute: replace(WELL, memory_free_mib=3000.0 - each_minute * minute))

    assert said(warnings(growing(150.0, 10))) == [
        ("GpuMemoryAhead", "1500 MiB free, 150 MiB less each minute, over 10 min (11 looks): full in 10 min")
    ]
    assert warnings(growing(60.0, 10)) == []
    assert warnings(growing(150.0, 1)) == []  # two looks make no line


def test_a_server_that_takes_its_memory_at_its_start_is_no_growth() -> None:
    step = over(12, lambda minute: replace(WELL, memory_free_mib=22000.0 if minute < 3 else 2300.0))
    assert warnings(step) == []


def test_memory_that_grew_before_the_last_quarter_of_an_hour_is_no_news() -> None:
    def at(minute: int) -> Gpu:
        return replace(WELL, memory_free_mib=20000.0 - 1200 * min(minute, 15) - max(0, minute - 15))

    assert warnings(over(30, at)) == []
    assert [rule for rule, _ in said(warnings(over(16, at)))] == ["GpuMemoryAhead"]


def test_heat_that_slowed_it_down_between_two_looks() -> None:
    looks = over(3, lambda minute: replace(WELL, heat_slowed=1000.0 * minute))
    assert said(warnings(looks)) == [("GpuThrottled", "time slowed down by heat has grown, at 60 C")]
    assert warnings(over(3, lambda _: replace(WELL, heat_slowed=5e9))) == []  # before
    assert warnings(over(20, lambda minute: replace(WELL, heat_slowed=float(min(minute, 10))))) == []  # no more


def test_another_xid_than_before_is_news_for_a_quarter_of_an_hour() -> None:
    def at(minute: int) -> Gpu:
        return replace(WELL, xid=31 if minute >= 2 else 0)

    assert said(warnings(over(10, at))) == [
        ("GpuXid", "XID 31: a program used an address that is not its own (NVIDIA: restart the program); before it 0")
    ]
    assert warnings(over(30, at)) == []
    assert warnings(over(10, lambda minute: replace(WELL, xid=31 if minute < 2 else 0))) == []  # it was started anew


def test_a_gpu_that_was_there_and_is_not_though_its_node_answers() -> None:
    other = replace(WELL, index="1")
    looks = [look(0, WELL, other), look(60, WELL, other), look(120, other)]
    found = warnings(looks)
    assert [(each.rule, each.gpu.index, each.seen) for each in found] == [("GpuMissing", "0", "last seen 60 s ago")]
    assert warnings([look(0, WELL), look(60, nodes="n2")]) == []  # the node is gone, too
    assert said(warnings([look(0, WELL), look(60, nodes="n1")])) == [("GpuMissing", "last seen 60 s ago")]


def test_worst_first() -> None:
    hot, broken = replace(WELL, index="1", temperature_c=95.0), replace(WELL, index="2", xid=48)
    found = warnings([look(0, WELL, hot, broken)])
    assert [(each.rule, each.severity, each.gpu.index) for each in found] == [
        ("GpuBroken", "critical", "2"),
        ("GpuHot", "warning", "1"),
    ]
    assert all(each.advice == RULES[each.rule].advice for each in found)


def test_the_line_is_that_of_least_squares() -> None:
    assert line([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == (5.0, 2.0)
    value, slope = line([(0.0, 0.0), (10.0, 0.0), (20.0, 3.0)])
    assert (value, slope) == (pytest.approx(2.5), pytest.approx(0.15))
