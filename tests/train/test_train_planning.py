"""Before anything starts: sizes by the numbers of published models, saves, guarantees, intervals, and where to buy."""

import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from statistics import mean
from typing import Any

import pytest
from run_records import Objects

from stoker.base.errors import InvalidInput, Unavailable
from stoker.spec.run import Run
from stoker.train import buying
from stoker.train.accounting import Save
from stoker.train.planning import (
    Size,
    choose_capacity,
    guarantee,
    interval_s,
    measure,
    options,
    save_seconds,
    seen,
    size_of,
)

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
QWEN25_HALF_B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN3_4B = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def run_of(**more: Any) -> Run:
    return Run.model_validate({"name": "fine", "data": "train.jsonl", **more}, by_name=True)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(LLAMA_8B, 8_030_261_248), (QWEN25_HALF_B, 494_032_768), (QWEN3_4B, 4_022_468_096)],
)
def test_models_have_as_many_parameters_as_their_cards_say(config: dict[str, Any], parameters: int) -> None:
    found = size_of(config, run_of(method="full"))

    assert (found.parameters, found.trained, found.checkpoint_bytes) == (parameters, parameters, 12 * parameters)


def test_lora_trains_and_saves_far_less() -> None:
    """Rank 16 on all seven matrices of Llama 3 8B: 41.9 M, 0.5 GB."""
    found = size_of(LLAMA_8B, run_of(method="lora"))

    assert found.parameters == 8_030_261_248
    assert found.trained == 32 * 16 * (4 * 4096 + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert (found.trained, found.checkpoint_bytes) == (41_943_040, 503_316_480)


def test_a_token_costs_six_flops_for_each_parameter_and_attention() -> None:
    multiplied = 8_030_261_248 - 128256 * 4096 - 65 * 4096  # without the embedding and the norms
    attention = 32 * 4096 * 1024

    full = size_of(LLAMA_8B, run_of(method="full")).flops_per_token
    again = size_of(LLAMA_8B, run_of(method="full", recompute=True)).flops_per_token
    lora = size_of(LLAMA_8B, run_of()).flops_per_token

    assert full == 6.0 * multiplied + 12.0 * attention
    assert again == 8.0 * multiplied + 16.0 * attention
    assert lora == 4.0 * multiplied + 6.0 * 41_943_040 + 12.0 * attention


def test_a_config_without_its_numbers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="hidden_size is None, not a whole number above 0"):
        size_of({**LLAMA_8B, "hidden_size": None}, run_of())
    with pytest.raises(InvalidInput, match="num_hidden_layers is 100000; 1,024 is the most"):
        size_of({**LLAMA_8B, "num_hidden_layers": 100_000}, run_of())


# --- saves ------------------------------------------------------------------------------------------------------------


class Place(Objects):
    """Writes at 50 MiB/s, each after 20 ms; `seconds` is its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def put(self, key: str, pieces: Sequence[Any], **more: Any) -> str:
        self.now += 0.02 + sum(map(len, pieces)) / (50 << 20)
        return super().put(key, pieces, **more)


def test_the_speed_of_a_place_is_measured_and_nothing_is_left_there() -> None:
    place = Place()

    bytes_per_s, fixed_s = measure(place, seconds=lambda: place.now)

    assert (bytes_per_s, fixed_s) == (pytest.approx(50 << 20, rel=1e-3), pytest.approx(0.02, rel=1e-3))
    assert place.objects == {}
    assert len(place.puts) == 3 + 4  # 4, 16, 64 and 64 MiB


class SlowConnections(Place):
    """4 MiB/s on each connection, one for each 16 MiB."""

    def put(self, key: str, pieces: Sequence[Any], **more: Any) -> str:
        size = sum(map(len, pieces))
        self.now += min(size, 16 << 20) / (4 << 20) - size / (50 << 20)
        return super().put(key, pieces, **more)


class Slow(Place):
    """1 MiB/s in all."""

    def put(self, key: str, pieces: Sequence[Any], **more: Any) -> str:
        self.now += sum(map(len, pieces)) * (1 / (1 << 20) - 1 / (50 << 20))
        return super().put(key, pieces, **more)


@pytest.mark.parametrize(("kind", "mib_per_s", "writes"), [(SlowConnections, 16, 3), (Slow, 1, 2)])
def test_a_slow_place_is_measured_over_as_many_connections_as_that_takes_no_minute(
    kind: type[Place], mib_per_s: float, writes: int
) -> None:
    place = kind()

    bytes_per_s, _ = measure(place, seconds=lambda: place.now)

    assert bytes_per_s == pytest.approx(mib_per_s * (1 << 20), rel=0.01)
    assert len(place.puts) == 3 + writes
    assert place.now < 60


def test_what_is_measured_predicts_a_save_within_a_fifth() -> None:
    """G4: three writes in order, of which the first is the shard."""
    place = Place()
    bytes_per_s, fixed_s = measure(place, seconds=lambda: place.now)

    predicted = save_seconds(256 << 20, bytes_per_s=bytes_per_s, writers=1, fixed_s=fixed_s)
    began = place.now
    for _ in range(256):
        place.now += (1 << 20) / (50 << 20)
    place.now += 0.02
    place.put("manifest", [b"x" * 2000])
    place.put("HEAD", [b"x" * 500])

    assert predicted == pytest.approx(place.now - began, rel=0.2)
    assert save_seconds(256 << 20, bytes_per_s=bytes_per_s, writers=4, fixed_s=0.0) == pytest.approx(
        256 / 200, rel=1e-3
    )


def test_a_place_that_cannot_be_written_says_so() -> None:
    place = Place()
    place.is_away = True

    with pytest.raises(Unavailable):
        measure(place, seconds=lambda: place.now)


def test_the_guarantee_says_its_figures() -> None:
    size = Size(8_030_261_248, 41_943_040, 503_316_480, 5e10)

    found = guarantee(run_of(), size, bytes_per_s=1e9, fixed_s=0.1, step_s=2.0)

    assert (found.holds, found.grace_s) == (True, 105.0)
    assert found.predicted_s == pytest.approx(2.0 + 0.3 + 0.503316480)
    assert found.words == (
        "a notice loses no step: a step of 2 s and a save of 503 MB at 1 GB/s from 1 node: 2.8 s in all, of 105 s of "
        "grace"
    )


def test_a_guarantee_that_does_not_hold_says_what_would_be_right() -> None:
    """All of 70 B at 10 Gb/s: nine nodes, as the reference works out."""
    size = Size(70_553_706_496, 70_553_706_496, 12 * 70_553_706_496, 5e11)

    found = guarantee(run_of(method="full"), size, bytes_per_s=1.25e9, fixed_s=0.0, step_s=0.0)

    assert not found.holds
    assert found.words == (
        "a notice can lose what was done since the last checkpoint: a save of 847 GB at 1.25 GB/s "
        "from 1 node: 677 s in all, of 105 s of grace. It would with 8.06 GB/s from each node, or 7 nodes, or method "
        "lora, which saves far less"
    )
    assert guarantee(run_of(method="full", nodes=7), size, bytes_per_s=1.25e9, fixed_s=0.0, step_s=0.0).holds


def test_steps_that_are_longer_than_the_grace_have_to_be_shorter() -> None:
    found = guarantee(run_of(), Size(1, 1, 12, 1.0), bytes_per_s=1e9, fixed_s=0.0, step_s=120.0)

    assert found.words.endswith("Steps have to be shorter: fewer batch.rows, or more GPUs")


@pytest.mark.parametrize(
    ("save_s", "per_hour", "seconds"),
    [
        (2.0, 1.0, 120.0),  # sqrt(2 * 2 * 3600)
        (2.0, 0.01, 1200.0),
        (0.0, 1.0, 30.0),  # sqrt(2 * 0.1 * 3600) = 26.8
        (0.1, 0.0001, 2683.281572999748),
        (100.0, 1e-5, 3600.0),
        (5.0, 0.0, 3600.0),
    ],
)
def test_the_interval_is_youngs_within_bounds(save_s: float, per_hour: float, seconds: float) -> None:
    assert interval_s(save_s, per_hour) == pytest.approx(seconds)


# --- where to buy -----------------------------------------------------------------------------------------------------


def test_options_are_cheapest_first_and_spot_costs_more_time_and_less_money() -> None:
    run = run_of(dataset={"max_length": 2048}, recompute=True)

    found = options(run, size_of(LLAMA_8B, run), 100_000_000, save_s=5.0, regions=["us-east-1", "us-west-2"])

    priced = [each.usd for each in found if each.usd is not None]
    assert priced == sorted(priced)
    assert [each.usd is None for each in found] == sorted(each.usd is None for each in found)
    by = {(each.instance_type, each.capacity): each for each in found}
    spot, on_demand = by["p4d.24xlarge", "spot"], by["p4d.24xlarge", "on-demand"]
    assert spot.usd is not None
    assert on_demand.usd is not None
    assert spot.usd < on_demand.usd
    assert spot.hours > on_demand.hours
    assert (on_demand.interruptions, on_demand.nodes, on_demand.gpus, on_demand.gpu) == (0.0, 1, 8, "a100-40")
    assert on_demand.usd == pytest.approx(on_demand.hours * 21.957642)
    assert on_demand.usd_per_million_tokens == pytest.approx(on_demand.usd / 100)
    # FLOPs over 35 % of eight A100s, a start of five minutes, and a save of 0.1 s each hour
    plain = 100e6 * size_of(LLAMA_8B, run).flops_per_token / (312e12 * 0.35 * 8) / 3600
    assert on_demand.hours == pytest.approx(300 / 3600 + plain * (1 + 0.1 / 3600))


def test_only_gpus_that_hold_it_are_offered_and_none_without_bf16() -> None:
    run = run_of(method="full", parallel="replicate")

    found = options(run, size_of(LLAMA_8B, run), 10**8, save_s=5.0, regions=["us-east-1"])

    assert {each.gpu for each in found} <= {"b300", "b200", "h200"}  # 128 GB and activations on one GPU
    lora = options(
        run_of(parallel="replicate"), size_of(QWEN25_HALF_B, run_of()), 10**8, save_s=1.0, regions=["us-east-1"]
    )
    assert not {each.gpu for each in lora} & {"t4", "t4g", "v100"}
    assert "l4" in {each.gpu for each in lora}


def test_more_nodes_are_taken_where_one_does_not_hold_it_and_the_network_can_be_what_it_waits_for() -> None:
    run = run_of(method="full", recompute=True, dataset={"max_length": 2048})
    size = size_of(LLAMA_8B, run)

    by = {
        (each.instance_type, each.capacity): each
        for each in options(run, size, 10**8, save_s=5.0, regions=["us-east-1"])
    }

    four = by["g5.12xlarge", "on-demand"]  # 4 GPUs of 24 GB at 40 Gb/s
    assert four.nodes == 2
    assert four.note == "2 nodes, since fewer do not hold it"
    computing_h = 1e8 * size.flops_per_token / (70e12 * 0.35 * 8) / 3600
    moving_h = 1e8 / (8 * 2048) * (8.0 * size.parameters / 2 / 5e9) / 3600
    assert four.hours == pytest.approx(300 / 3600 + max(computing_h, moving_h) * (1 + 0.1 / 3600))
    assert all(each.nodes <= 64 for each in by.values())


def test_interruptions_cost_half_an_interval_and_a_restart_each() -> None:
    """T = (start + work) + rate * T * (interval / 2 + restart)."""
    run = run_of(checkpointing={"every_seconds": 600.0})

    hours, interruptions = buying.with_interruptions(run, 10.0, 0.5, 0.0)

    assert hours == pytest.approx((300 / 3600 + 10.0) / (1 - 0.5 * (300 + 300) / 3600))
    assert interruptions == pytest.approx(0.5 * hours)
    assert buying.with_interruptions(run, 10.0, 6.0, 0.0) == (math.inf, math.inf)
    assert buying.with_interruptions(run_of(checkpointing={"every_seconds": 60.0, "mode": "sync"}), 10.0, 0.0, 6.0)[
        0
    ] == pytest.approx(300 / 3600 + 10.0 * 1.1)


# --- a deadline -------------------------------------------------------------------------------------------------------

RESTART_H = 0.1
TICK_H = 0.05
SPOT_USD, ON_DEMAND_USD = 0.3, 1.0


def availability(chance: random.Random, hours: float, up_h: float, down_h: float) -> list[bool]:
    """Spot comes and goes, for exponential times."""
    found: list[bool] = []
    is_up = chance.random() < up_h / (up_h + down_h)
    while len(found) * TICK_H < hours:
        lasts = chance.expovariate(1 / (up_h if is_up else down_h))
        found += [is_up] * max(1, round(lasts / TICK_H))
        is_up = not is_up
    return found


def played(trace: list[bool], work_h: float, deadline_h: float, pace: float | None) -> tuple[float, float]:
    """When it was done, and what it cost; each change of machine costs a restart without work, which is paid."""
    left, usd, on, starting = work_h, 0.0, None, 0.0
    for tick, is_up in enumerate(trace):
        now = tick * TICK_H
        if on == "spot" and not is_up:
            on = None
        wants = choose_capacity(
            hours_left=left,
            # What one tick may bring is known only after it.
            hours_to_deadline=deadline_h - now - TICK_H,
            spot_available=is_up,
            restart_h=RESTART_H,
            running_on=on,
            pace=pace,
        )
        if wants != on:
            on, starting = (None if wants == "wait" else wants), RESTART_H
        if on is not None:
            usd += TICK_H * (SPOT_USD if on == "spot" else ON_DEMAND_USD)
            worked = max(0.0, TICK_H - starting)
            starting = max(0.0, starting - TICK_H)
            if worked >= left - 1e-12:
                return now + TICK_H, usd
            left -= worked
    return math.inf, usd


def test_a_deadline_is_never_missed_and_spot_is_cheaper_than_on_demand_alone() -> None:
    """80 traces, from spot that is nearly always there to spot that hardly ever is, with much and with little slack.
    Waiting for spot until it is too late for anything but on demand (`greedy`) costs more on average than uniform
    progress."""
    chance = random.Random(11)
    uniform, greedy = [], []
    for number in range(80):
        work_h = chance.uniform(4, 20)
        deadline_h = work_h * (1.15, 1.3, 1.6, 2.0)[number % 4] + 2 * RESTART_H + TICK_H
        up_h, down_h = ((20, 1), (4, 2), (2, 2), (0.7, 2), (0.3, 6))[number % 5]
        trace = availability(chance, deadline_h + 1, up_h, down_h)
        done, usd = played(trace, work_h, deadline_h, work_h / deadline_h)
        done_late, usd_late = played(trace, work_h, deadline_h, None)
        on_demand = (work_h + RESTART_H) * ON_DEMAND_USD

        assert max(done, done_late) <= deadline_h + 1e-9
        uniform.append(usd / on_demand)
        greedy.append(usd_late / on_demand)

    assert mean(uniform) < 0.7  # of on demand alone
    assert max(uniform) < 1.06  # spot that hardly ever comes: some restarts more
    assert mean(uniform) < 0.97 * mean(greedy)


@pytest.mark.parametrize(
    ("state", "wants"),
    [
        ({"hours_left": 5.0, "hours_to_deadline": 10.0, "spot_available": True}, "spot"),
        ({"hours_left": 5.0, "hours_to_deadline": 10.0, "spot_available": False}, "wait"),
        ({"hours_left": 5.0, "hours_to_deadline": 10.0, "spot_available": False, "pace": 0.4}, "on-demand"),
        ({"hours_left": 5.0, "hours_to_deadline": 10.0, "spot_available": False, "pace": 0.6}, "wait"),
        ({"hours_left": 5.0, "hours_to_deadline": 5.1, "spot_available": True}, "on-demand"),
        ({"hours_left": 5.0, "hours_to_deadline": 5.1, "spot_available": True, "running_on": "spot"}, "spot"),
        ({"hours_left": 5.0, "hours_to_deadline": 5.1, "spot_available": True, "running_on": "on-demand"}, "on-demand"),
        # On demand is left for spot alone, however far ahead it is.
        ({"hours_left": 1.0, "hours_to_deadline": 10.0, "spot_available": True, "running_on": "on-demand"}, "spot"),
        (
            {"hours_left": 1.0, "hours_to_deadline": 10.0, "spot_available": False, "running_on": "on-demand"},
            "on-demand",
        ),
    ],
)
def test_what_is_wanted_now(state: dict[str, Any], wants: str) -> None:
    assert choose_capacity(restart_h=0.1, **state) == wants


def test_planning_needs_no_torch() -> None:
    code = "import json, sys, stoker.train.planning; print(json.dumps(sorted({'torch', 'boto3'} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


def test_how_fast_a_place_is_by_what_was_saved_there() -> None:
    saves = [
        Save(str(step), step, 0.0, seconds, 0.0, 100, "interval") for step, seconds in enumerate((9.0, 1.0, 4.0, 2.0))
    ]
    assert seen(saves, nodes=2) == (25.0, 0.0)  # the middle one of the last three, from two nodes
    assert seen(saves[:1], nodes=1) == (100 / 9.0, 0.0)
    assert seen([], nodes=1) is None
