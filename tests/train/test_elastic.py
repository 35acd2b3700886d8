"""The number of processes changes how fast a run is, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_parts import Gang, Outcome, come_to, outcome, store_of, write_data, write_run

from stoker import spec
from stoker.base.clock import SystemClock
from stoker.registry.runs import RunStore
from stoker.train import exits
from stoker.train.starting import Process
from stoker.train.world import World

pytestmark = pytest.mark.torch

SYNC = {"everySteps": 3, "mode": "sync"}
"""So that a checkpoint is there when the process is killed."""


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


def test_in_the_canonical_order_one_two_and_four_processes_come_to_the_same_bits(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file = write_run(tmp_path, batch={"rows": 8, "microRows": 1, "canonical": True}, epochs=1)
    found: dict[int, Outcome] = {}
    for world in (1, 2, 4):
        assert gang.launch(run_file, tmp_path / str(world), world=world) == [0] * world
        found[world] = outcome(tmp_path / str(world))
    assert found[1] == found[2] == found[4]


def test_without_it_losses_differ_by_rounding_and_the_data_does_not(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file = write_run(tmp_path, batch={"rows": 6, "microRows": 2})
    for world in (1, 3):
        assert gang.launch(run_file, tmp_path / str(world), world=world) == [0] * world
    alone, three = come_to(tmp_path / "1"), come_to(tmp_path / "3")
    assert dict(alone.samples) == dict(three.samples)
    assert max(abs(alone.losses[step] - three.losses[step]) for step in alone.losses) <= 2e-6


def test_a_run_goes_on_with_another_number_of_processes(gang: Gang, tmp_path: Path) -> None:
    """Shards that two wrote are read by one, and by four."""
    write_data(tmp_path)
    run_file = write_run(tmp_path, batch={"rows": 4, "microRows": 1, "canonical": True})
    assert gang.launch(run_file, tmp_path / "whole", world=1) == [0]
    state = tmp_path / "changing"
    assert min(gang.launch(run_file, state, world=2, kill=(0, "update", 5))) < 0
    assert min(gang.launch(run_file, state, world=1, kill=(0, "update", 5))) < 0
    assert gang.launch(run_file, state, world=4) == [0] * 4
    assert outcome(state) == outcome(tmp_path / "whole")
    assert [each.processes for each in come_to(state).lives] == [2, 1, 4]


def test_each_example_is_used_once_in_an_epoch_whatever_is_killed(gang: Gang, tmp_path: Path) -> None:
    """By the record: its digests of each step's examples are those that the data's order gives."""
    lines = write_data(tmp_path)
    run_file = write_run(tmp_path, batch={"rows": 4, "microRows": 1})
    for world, kill in ((2, (0, "pass", 7)), (3, (1, "update", 4)), (1, (0, "shard", 1))):
        assert min(gang.launch(run_file, tmp_path / "s", world=world, kill=kill)) < 0
    gang.until_done(run_file, tmp_path / "s", world=2)
    said = come_to(tmp_path / "s").samples
    from stoker.train.encoding import encoder_of
    from stoker.train.loop import digest_of
    from stoker.train.source import open_source

    run = spec.load_run(run_file)
    (base,) = {path.parent for path in (tmp_path / "s" / "runs" / "tiny" / "cache").rglob("tokenizer.json")}
    source = open_source(run, run.data, encoder_of(base), here=tmp_path, tell=lambda _: None)
    steps = [source.step(number) for number in range(source.steps)]
    assert dict(said) == {step.number + 1: digest_of(step.samples) for step in steps}
    for epoch in (0, 1):
        used = [index for step in steps if step.epoch == epoch for index in step.samples]
        assert sorted(used) == list(range(len(lines.read_text().splitlines())))


def test_settings_that_change_what_is_learned_are_refused(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file = write_run(tmp_path, checkpointing=SYNC)
    assert min(gang.launch(run_file, tmp_path / "s", kill=(0, "update", 5))) < 0
    run_file.write_text(json.dumps({**json.loads(run_file.read_text()), "seed": 7}))
    assert gang.launch(run_file, tmp_path / "s") == [1]
    assert "seed" in gang.log.read_text()


def test_the_settings_of_whoever_claims_last_are_those_of_the_run(gang: Gang, tmp_path: Path) -> None:
    """While one launch opens its data, another one with other settings begins, claims and dies."""
    write_data(tmp_path)
    run_file = write_run(tmp_path, checkpointing=SYNC)
    state, other = tmp_path / "s", tmp_path / "other.yaml"
    other.write_text(json.dumps({**json.loads(run_file.read_text()), "seed": 7}))
    kept = state / "runs" / "tiny" / "run.yaml"
    process = Process(spec.load_run(run_file), run_file, state, environ={}, clock=SystemClock())
    world = World({}, gpus=0)
    opened = process._open(world, *process._begin(world))
    assert min(gang.launch(other, state, kill=(0, "update", 2))) < 0
    assert spec.load_run(kept).seed == 7
    claimed = process._claim(world, opened)
    claimed.record.close()
    assert claimed.epoch == 2
    assert spec.load_run(kept).seed == 0


def test_settings_are_in_the_checkpoints_too(gang: Gang, tmp_path: Path) -> None:
    """A launch that opened its data before another one wrote its settings down and saved finds them in the checkpoint
    that it would go on from."""
    write_data(tmp_path)
    run_file = write_run(tmp_path, checkpointing=SYNC)
    state = tmp_path / "s"
    assert min(gang.launch(run_file, state, kill=(0, "update", 5))) < 0
    run_file.write_text(json.dumps({**json.loads(run_file.read_text()), "seed": 7}))
    kept = state / "runs" / "tiny" / "run.yaml"
    begun = kept.read_text()
    kept.unlink()
    assert gang.launch(run_file, state) == [1]
    assert "seed was 0 and is 7" in gang.said()
    kept.write_text(begun.replace("seed: 0", "seed: 7"))
    assert gang.launch(run_file, state) == [2]
    assert "made with other settings: seed was 0 and is 7" in gang.said()


def test_data_that_has_changed_is_refused_and_what_was_learned_stays(gang: Gang, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    run_file = write_run(
        tmp_path, base="embedded", method="lora", dataset={"maxLength": 64}, steps=6, checkpointing=SYNC
    )
    assert min(gang.launch(run_file, tmp_path / "s", kill=(0, "update", 5))) < 0
    whole = data.read_text()
    data.write_text(whole.replace("Say 3", "Say 4"))
    assert gang.launch(run_file, tmp_path / "s") == [2]
    assert "the data has changed since the run began" in gang.log.read_text()
    data.write_text(whole)
    assert gang.launch(run_file, tmp_path / "s") == [0]


def test_a_spent_budget_ends_all_processes_before_they_claim_anything_and_a_larger_one_goes_on(
    gang: Gang, tmp_path: Path
) -> None:
    write_data(tmp_path)
    state = tmp_path / "state"

    def launched(usd: float, world: int = 2) -> list[int]:
        run_file = write_run(tmp_path, prices={"usdPerHour": 1.0}, budget={"usd": usd})
        return gang.launch(run_file, state, world=world)

    assert launched(0.000001) == [exits.BUDGET_SPENT] * 2
    before = come_to(state)
    assert (before.launches, before.steps) == (1, 1)

    assert launched(0.000001) == [exits.BUDGET_SPENT] * 2
    assert "are spent; a start, a step and a checkpoint would be more" in gang.said()
    assert come_to(state) == before
    head = RunStore(store_of(state), "tiny").head()
    assert head is not None
    assert head[0].epoch == 1

    assert launched(1) == [exits.COMPLETED] * 2
    # What is over costs no step, and stays so whatever may be spent.
    assert launched(0.000001, world=1) == [exits.COMPLETED]


def test_other_validation_data_is_refused_even_after_a_launch_without(gang: Gang, tmp_path: Path) -> None:
    """The least loss of one would hold its place against losses of the other for good. None is no other."""
    write_data(tmp_path)
    validation = tmp_path / "validation.jsonl"
    kept = (tmp_path / "data.jsonl").read_text().splitlines(keepends=True)
    state, without = tmp_path / "s", {"checkpointing": {**SYNC, "everySteps": 1}}
    assert min(gang.launch(write_run(tmp_path, **without), state, kill=(0, "update", 2))) < 0
    settings = {**without, "validation": "validation.jsonl", "validateEvery": 1}
    validation.write_text("".join(kept[:8]))
    assert min(gang.launch(write_run(tmp_path, **settings), state, kill=(0, "update", 2))) < 0
    assert min(gang.launch(write_run(tmp_path, **without), state, kill=(0, "update", 2))) < 0
    validation.write_text("".join(kept[8:16]))
    assert gang.launch(write_run(tmp_path, **settings), state) == [2]
    assert "the validation data has changed, so that losses before and after cannot be compared" in gang.said()
    validation.write_text("".join(kept[:8]))
    assert gang.launch(write_run(tmp_path, **settings), state) == [0]
