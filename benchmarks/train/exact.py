"""Runs that are killed, and the same run left alone: to the bit? The long form of tests/train, with a table.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/exact.py [--kills 100] [--steps 200] [--without HF]

kills    runs of a small model with dropout, packing, accumulation, four workers, a transform that draws, validation and
         checkpoints, on 1, 2 or 4 processes (gloo); each is killed (-9) up to three times, at moments drawn, and begun
         again. Compared with the run that was not killed: the losses of all steps, the examples of each, the bytes of
         the last checkpoint (weights and moments) (G1, G2)
elastic  one run of 200 steps on 1, 2, 4 and 8 processes: how far the losses are apart; and with batch.canonical (G3)
HF       transformers.Trainer on the same machine: a data set with random augmentation, stopped after 6 steps of 20 and
         gone on from its checkpoint: how many of the 14 losses are others
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).parents[at] / more) for at, more in ((1, "up"), (2, "tests/train")))
from machine import describe
from test_kill_points import MOMENTS, OF_THE_LEADER
from training_parts import Gang, Outcome, come_to, outcome, write_change, write_data, write_run


def killed(gang: Gang, place: Path, kills: int) -> None:
    write_data(place)
    write_data(place / "held", lines=8, seed=2)
    write_change(place)
    dataset = {"maxLength": 96, "transform": "change.py:change", "workers": 4}
    run_file = write_run(place, dataset=dataset, validation="held/data.jsonl", validateEvery=5)
    whole: dict[int, Outcome] = {}
    done: Counter[tuple[str, int]] = Counter()
    same = again = launches = 0
    begun_at = time.monotonic()
    for seed in range(kills):
        chance = random.Random(seed)
        world = chance.choice([1, 2, 2, 4])
        if world not in whole:
            gang.until_done(run_file, place / f"whole-{world}", world=world)
            whole[world] = outcome(place / f"whole-{world}")
        state = place / f"killed-{seed}"
        for _ in range(chance.randint(1, 3)):
            moment = chance.choice(MOMENTS)
            rank = 0 if moment in OF_THE_LEADER else chance.randrange(world)
            codes = gang.launch(run_file, state, world=world, kill=(rank, moment, chance.randint(1, 12)))
            if codes == [0] * world:
                break
            done[moment, world] += 1
        else:
            gang.until_done(run_file, state, world=world)
        same += outcome(state) == whole[world]
        told = come_to(state)
        again, launches = again + told.lost_steps, launches + told.launches
    print(f"\n{kills} runs, killed {sum(done.values())} times ({time.monotonic() - begun_at:.0f} s)")
    worlds = sorted({world for _, world in done})
    print(f"{'killed at':12}" + "".join(f"{world:>6} proc." for world in worlds))
    for moment in MOMENTS:
        print(f"{moment:12}" + "".join(f"{done[moment, world]:12}" for world in worlds))
    print(f"the same losses, examples and bytes: {same} of {kills}; {launches} launches, {again} steps done again")


def elastic(gang: Gang, place: Path, steps: int) -> None:
    write_data(place, lines=40)
    for canonical in (False, True):
        batch = {"rows": 8, "microRows": 1, "canonical": canonical}
        more: dict[str, Any] = {"optimizer": {"learningRate": 1e-3}, "checkpointing": {"everySteps": 10_000}}
        run_file = write_run(place, batch=batch, epochs=1000, steps=steps, **more)
        found: dict[int, Outcome] = {}
        for world in (1, 2, 4, 8):
            state = place / f"elastic-{canonical}-{world}"
            assert gang.launch(run_file, state, world=world) == [0] * world, gang.said()
            found[world] = outcome(state)
        apart = {world: distance(found[1], each) for world, each in found.items() if world > 1}
        words = ", ".join(f"{world}: {each:.1e}" for world, each in apart.items())
        samples = all(each.samples == found[1].samples for each in found.values())
        bits = all(each == found[1] for each in found.values())
        order = "canonical order" if canonical else "as it comes"
        print(f"{steps} steps, {order}: losses apart from those of one process, at most, with {words}")
        print(f"  the same examples: {samples}; the same bits in all of it: {bits}")


def distance(one: Outcome, other: Outcome) -> float:
    return max(abs(float.fromhex(loss) - float.fromhex(other.losses[step])) for step, loss in one.losses.items())


def of_trainer(place: Path) -> None:
    import torch
    from torch import nn
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

    class Augmented(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            x = torch.full((16,), float(index)) / 40
            return {"x": x + 0.1 * torch.randn(16), "y": x.sum()[None]}

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": ((self.layers(x) - y) ** 2).mean()}

    class Watch(TrainerCallback):
        def __init__(self, stop: int) -> None:
            self.stop, self.losses = stop, {}

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                self.losses[state.global_step] = logs["loss"]

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = state.global_step >= self.stop
            return control

    def losses(folder: str, stop: int, *, resume: bool) -> dict[int, float]:
        set_seed(1)
        watch = Watch(stop)
        arguments = TrainingArguments(
            output_dir=str(place / folder),
            max_steps=20,
            per_device_train_batch_size=4,
            logging_steps=1,
            save_steps=6,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            logging_nan_inf_filter=False,
        )
        trainer = Trainer(Small(), arguments, train_dataset=Augmented(), callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)
        return watch.losses

    whole = losses("whole", 20, resume=False)
    first = losses("stopped", 6, resume=False)
    rest = losses("stopped", 20, resume=True)
    same = sum(whole[step] == loss for step, loss in first.items())
    other = sum(whole[step] != loss for step, loss in rest.items())
    print(
        f"\ntransformers.Trainer, random augmentation: {same} of {len(first)} losses before the stop are the same; of "
        f"those after it {other} of {len(rest)} are others"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--without", default="")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe("torch", "transformers"))
    with tempfile.TemporaryDirectory(prefix="exact-", dir=options.folder) as folder:
        place = Path(folder)
        with Gang(place / "log") as gang:
            for name in ("kills", "elastic"):
                (place / name).mkdir()
            killed(gang, place / "kills", options.kills)
            elastic(gang, place / "elastic", options.steps)
        if "HF" not in options.without.split(","):
            of_trainer(place)


if __name__ == "__main__":
    main()
