"""Whole runs of each kind: other objectives, ways to spread them, types of numbers, and other people's models."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_styles import LLAMA3
from data_builders import assistant, hf_folder, pixel, user
from model_builders import hf_model
from training_parts import Gang, come_to, outcome, store_of, write_data, write_run

from stoker import spec
from stoker.train import exits, exporting

pytestmark = pytest.mark.torch

Json = dict[str, Any]
CALM: Json = {"dropout": 0.0, "epochs": 1}


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


def write_lines(folder: Path, lines: list[Json]) -> None:
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def losses_of(gang: Gang, run_file: Path, state: Path, *, world: int = 1) -> dict[int, float]:
    assert gang.launch(run_file, state, world=world) == [0] * world, gang.said()
    return dict(come_to(state).losses)


def furthest(one: dict[int, float], other: dict[int, float]) -> float:
    assert one.keys() == other.keys()
    assert len(one) >= 3
    return max(abs(one[step] - other[step]) for step in one)


def killed_twice_it_is_the_run_that_was_not(gang: Gang, run_file: Path, folder: Path, *, world: int = 1) -> None:
    assert gang.launch(run_file, folder / "calm", world=world) == [0] * world, gang.said()
    state = folder / "killed"
    for kill in ((0, "update", 5), (0, "head", 1)):
        assert min(gang.launch(run_file, state, world=world, kill=kill)) < 0, gang.said()
    gang.until_done(run_file, state, world=world)
    assert come_to(state).launches >= 3
    assert outcome(state) == outcome(folder / "calm")


# --- objectives -------------------------------------------------------------------------------------------------------


def preferences(count: int) -> list[Json]:
    return [
        {"prompt": f"Say {number}", "chosen": f"number {number} is {number * 7}", "rejected": f"no {number}"}
        for number in range(count)
    ]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_preferences_killed_and_begun_again(gang: Gang, tmp_path: Path, method: str) -> None:
    """The reference of a full run is what it began from, not what it goes on from."""
    write_lines(tmp_path, preferences(40))
    lora = {"base": "embedded", "dropout": 0.0, "lora": {"rank": 2, "dropout": 0.1}}
    more: Json = {} if method == "full" else lora
    optimizer = {"learningRate": 1e-3}
    run_file = write_run(tmp_path, objective="dpo", method=method, optimizer=optimizer, **more)
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path)
    losses = come_to(tmp_path / "calm").losses
    assert losses[1] == pytest.approx(0.6931, abs=0.05)  # ln 2: nothing is preferred yet
    assert losses[max(losses)] < losses[1]


# --- over processes ---------------------------------------------------------------------------------------------------


def test_sharded_it_learns_what_it_learns_replicated_on_any_number_of_processes(gang: Gang, tmp_path: Path) -> None:
    """Begun on two, gone on with by one and by three: blocks of rows are cut anew each time."""
    write_data(tmp_path)
    replicated = losses_of(gang, write_run(tmp_path, **CALM), tmp_path / "replicated")
    run_file = write_run(tmp_path, parallel="shard", **CALM)
    assert gang.launch(run_file, tmp_path / "s", world=2, send=(0, "pass", 4, signal.SIGTERM)) == [exits.PREEMPTED] * 2
    assert gang.launch(run_file, tmp_path / "s", send=(0, "pass", 8, signal.SIGTERM)) == [exits.PREEMPTED], gang.said()
    sharded = losses_of(gang, run_file, tmp_path / "s", world=3)
    said = come_to(tmp_path / "s")
    assert [each.processes for each in said.lives] == [2, 1, 3]
    assert said.lost_steps == 0
    assert furthest(sharded, replicated) <= 2e-6


def test_sharded_by_two_killed_and_begun_again(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file = write_run(tmp_path, parallel="shard", epochs=1)
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path, world=2)


# --- how it is computed -----------------------------------------------------------------------------------------------


def test_in_bfloat16_killed_and_begun_again(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    exact = losses_of(gang, write_run(tmp_path, epochs=1), tmp_path / "float32")
    run_file = write_run(tmp_path, precision="bfloat16", epochs=1)
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path)
    assert 0 < furthest(dict(come_to(tmp_path / "calm").losses), exact) < 0.1


def test_activations_that_are_computed_again_change_nothing(gang: Gang, tmp_path: Path) -> None:
    """Dropout draws the same numbers again."""
    write_data(tmp_path)
    kept = losses_of(gang, write_run(tmp_path, epochs=1), tmp_path / "kept")
    again = losses_of(gang, write_run(tmp_path, epochs=1, recompute=True), tmp_path / "again")
    assert again == kept


@pytest.mark.skipif("COMPILE" not in os.environ, reason="a minute and a half of processor time: COMPILE=1")
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_learns_the_same_and_is_begun_again(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    plain = losses_of(gang, write_run(tmp_path, **CALM), tmp_path / "plain")
    run_file = write_run(tmp_path, compile=True, **CALM)
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path)
    assert 0 < furthest(dict(come_to(tmp_path / "calm").losses), plain) <= 2e-6


def test_how_many_rows_a_pass_has_changes_rounding_alone(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    found = []
    for rows in (1, 2, 4):
        run_file = write_run(tmp_path, batch={"rows": 4, "microRows": rows}, **CALM)
        found.append(losses_of(gang, run_file, tmp_path / str(rows)))
    assert furthest(found[0], found[1]) <= 1e-6
    assert furthest(found[0], found[2]) <= 1e-6


# --- models -----------------------------------------------------------------------------------------------------------


def llama_folder(folder: Path) -> Path:
    """A model as people publish them: of transformers, untied, with a tokenizer and a chat template of its own."""
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    hf_folder(folder, LLAMA3, special, bos="<|begin_of_text|>", eos="<|eot_id|>", as_file=True)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    size = max(vocabulary.values()) + 1
    hf_model("llama untied", vocab_size=size, bos_token_id=0, eos_token_id=3, pad_token_id=3).save_pretrained(folder)
    return folder


def test_another_persons_model_is_tuned_and_loads_where_it_came_from(gang: Gang, tmp_path: Path) -> None:
    import torch
    import transformers

    base = llama_folder(tmp_path / "base")
    write_lines(tmp_path, [{"messages": [user("What is said?"), assistant("coal")]} for _ in range(24)])
    targets = ["q_proj", "v_proj", "o_proj", "down_proj"]
    run_file = write_run(
        tmp_path,
        base="base",
        method="lora",
        lora={"rank": 4, "targets": targets},
        optimizer={"learningRate": 5e-2},
        batch={"rows": 1, "microRows": 1},
        dataset={"maxLength": 64},
        dropout=0.0,
        epochs=4,
    )
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path)

    run, state = spec.load_run(run_file), tmp_path / "calm"
    exported = exporting.newest(run, store_of(state), here=tmp_path, state=state, tell=print)

    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.folder)
    asked = [user("What is said?")]
    text = tokenizer.apply_chat_template([*asked, assistant("coal")], tokenize=False)
    question = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text.startswith(question)
    tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    begin = tokenizer(question, add_special_tokens=False, return_tensors="pt").input_ids.shape[1]

    @torch.no_grad()
    def loss(folder: Path) -> float:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        targets = tokens.clone()
        targets[:, :begin] = -100
        return float(model(tokens, labels=targets).loss)

    losses = come_to(state).losses
    assert loss(base) == pytest.approx(losses[1], abs=1e-4)
    assert loss(exported.folder) < min(losses.values()) + 0.05 < losses[1] / 2


def test_what_is_seen_is_learned_from_and_begun_again(gang: Gang, tmp_path: Path) -> None:
    colours = {"red": (200, 0, 0), "blue": (0, 0, 200), "green": (0, 200, 0)}
    lines = [
        {"messages": [user([pixel(colours[name]), {"type": "text", "text": "Which?"}]), assistant(name)]}  # type: ignore[arg-type]
        for name in [*colours] * 8
    ]
    write_lines(tmp_path, lines)
    scratch = json.loads(write_run(tmp_path).read_text())["scratch"]
    run_file = write_run(tmp_path, scratch={**scratch, "images": True}, batch={"rows": 2, "microRows": 1})
    killed_twice_it_is_the_run_that_was_not(gang, run_file, tmp_path)
    assert any("image_projector" in name for name in outcome(tmp_path / "calm").weights)
