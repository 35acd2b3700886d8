"""What is evaluated and registered is what was trained: the newest checkpoint, with what it was made from."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from training_parts import Gang, store_of, write_data, write_run

from stoker import spec
from stoker.base.errors import InvalidInput
from stoker.nn.bundle import default_folder
from stoker.train import exporting, runs
from stoker.train.evaluation import evaluate
from stoker.train.exporting import Exported

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


def exported(run_file: Path, state: Path) -> Exported:
    run = spec.load_run(run_file)
    return exporting.newest(run, store_of(state), here=run_file.parent, state=state, tell=print)


def test_an_update_is_merged_into_the_weights_that_it_was_made_for_alone(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    base = shutil.copytree(default_folder(), tmp_path / "base")
    lora: dict[str, Any] = {"base": "./base", "method": "lora", "dataset": {"maxLength": 64}, "steps": 1}
    run_file, state = write_run(tmp_path, **lora), tmp_path / "s"
    assert gang.launch(run_file, state) == [0]
    digest = exported(run_file, state).digest

    shutil.rmtree(state / "exports")
    weights = base / "model.safetensors"
    whole, tensors = weights.read_bytes(), load_file(weights)
    save_file({name: each / 2 if "mlp" in name else each for name, each in tensors.items()}, weights)
    with pytest.raises(InvalidInput, match="what it began from has changed"):
        exported(run_file, state)
    weights.write_bytes(whole)
    run_file.write_text(json.dumps({**json.loads(run_file.read_text()), "lora": {"alpha": 64}}))
    with pytest.raises(InvalidInput, match=r"with other settings: lora\.alpha was 32 and is 64"):
        exported(run_file, state)
    assert exported(write_run(tmp_path, **lora), state).digest == digest


def test_a_run_that_was_begun_anew_is_exported_beside_what_it_was(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file, state = write_run(tmp_path, steps=1), tmp_path / "s"
    assert gang.launch(run_file, state) == [0]
    before = exported(run_file, state)
    runs.forget(state, "tiny")
    assert gang.launch(write_run(tmp_path, steps=1, seed=5), state) == [0]
    now = exported(run_file, state)
    assert now.checkpoint == before.checkpoint
    assert now.digest != before.digest
    assert exported(run_file, state) == now


def test_questions_are_looked_for_in_the_data_that_was_trained_on_alone(gang: Gang, tmp_path: Path) -> None:
    data, suite = write_data(tmp_path), {"name": "exam", "data": "exam.jsonl", "maxTokens": 2}
    question = json.loads(data.read_text().splitlines()[0])["messages"][0]
    (tmp_path / "exam.jsonl").write_text(json.dumps({"id": "first", "messages": [question], "answer": "x"}))
    run_file, state = write_run(tmp_path, steps=1, evaluation={"suites": [suite]}), tmp_path / "s"
    assert gang.launch(run_file, state) == [0]

    def reasons(url: str | None = None) -> tuple[str, ...]:
        run = spec.load_run(run_file)
        verdict, _ = evaluate(run, here=tmp_path, state=state, url=url, key=None, tell=print)
        return verdict.reasons

    assert "failed: exam: 1 of 1 are in the training data: first" in reasons()
    whole = data.read_text()
    data.write_text(whole.partition("\n")[2])
    for url in (None, "http://127.0.0.1:1"):
        with pytest.raises(InvalidInput, match="the data has changed since the run began"):
            reasons(url)
    data.write_text(whole)
    assert "failed: exam: 1 of 1 are in the training data: first" in reasons()
