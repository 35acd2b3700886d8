"""Killed at any moment and begun again, a run is the run that was not killed: to the bit."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_parts import Gang, Outcome, come_to, outcome, write_change, write_data, write_run

pytestmark = pytest.mark.torch

KILLS = int(os.environ.get("KILLS", "2"))
"""So many runs that are killed at random, up to three times each, beside those below; `make test-train` takes 100."""

OF_THE_LEADER = ("manifest", "head", "copy", "collect")
MOMENTS = ["restore", "pass", "update", "snapshot", "validate", "shard", *OF_THE_LEADER]


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


class Undisturbed:
    """What each world comes to when nobody interferes; made once."""

    def __init__(self, gang: Gang, folder: Path) -> None:
        self._gang, self._folder = gang, folder
        self._known: dict[int, Outcome] = {}
        write_data(folder)
        write_data(folder / "held", lines=8, seed=2)
        write_change(folder)
        dataset = {"maxLength": 96, "transform": "change.py:change", "workers": 4}
        self.run_file = write_run(folder, dataset=dataset, validation="held/data.jsonl", validateEvery=5)

    def of(self, world: int) -> Outcome:
        if world not in self._known:
            state = self._folder / f"whole-{world}"
            assert self._gang.until_done(self.run_file, state, world=world) == 1
            self._known[world] = outcome(state)
        return self._known[world]


@pytest.fixture(scope="module")
def undisturbed(gang: Gang, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(gang, tmp_path_factory.mktemp("runs"))


def killed_and_begun_again(
    gang: Gang, undisturbed: Undisturbed, state: Path, world: int, kills: list[tuple[int, str, int]]
) -> None:
    for kill in kills:
        codes = gang.launch(undisturbed.run_file, state, world=world, kill=kill)
        if codes == [0] * world:
            break  # it was through before that moment came
        assert min(codes) < 0, f"{kill}: {codes}"
    else:
        gang.until_done(undisturbed.run_file, state, world=world)
    assert outcome(state) == undisturbed.of(world), kills


def test_killed_at_each_moment_in_turn(gang: Gang, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Each launch dies at another moment, so that the next one begins from what that left."""
    kills = [(0, moment, {"pass": 10, "update": 4}.get(moment, 1)) for moment in MOMENTS]
    killed_and_begun_again(gang, undisturbed, tmp_path, 1, kills)
    assert come_to(tmp_path).launches >= len(MOMENTS) - 1


def test_one_of_two_is_killed_and_both_begin_again(gang: Gang, undisturbed: Undisturbed, tmp_path: Path) -> None:
    kills = [(1, "pass", 11), (0, "head", 2), (1, "shard", 1), (0, "update", 5)]
    killed_and_begun_again(gang, undisturbed, tmp_path, 2, kills)
    assert come_to(tmp_path).launches >= 5


def test_killed_at_random(gang: Gang, undisturbed: Undisturbed, tmp_path: Path) -> None:
    for seed in range(KILLS):
        chance = random.Random(seed)
        world = chance.choice([1, 2, 2, 4])
        kills = []
        for _ in range(chance.randint(1, 3)):
            moment = chance.choice(MOMENTS)
            rank = 0 if moment in OF_THE_LEADER else chance.randrange(world)
            kills.append((rank, moment, chance.randint(1, 12)))
        killed_and_begun_again(gang, undisturbed, tmp_path / str(seed), world, kills)
