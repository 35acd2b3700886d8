"""Greedy answers by torch: those of the embedded engine, for weights that both compute."""

import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stoker.nn import bundle as bundles  # noqa: E402 - after the question whether torch is there
from stoker.nn.bundle import default_folder  # noqa: E402
from stoker.spec import run_of  # noqa: E402
from stoker.train import asking  # noqa: E402
from stoker.train.suites import Question  # noqa: E402

pytestmark = pytest.mark.torch

RUN = run_of("name: tune\ndata: data.jsonl\n")


def ask(*turns: str) -> Question:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return Question("s", turns[-1], "", messages=messages)


def test_torch_says_what_the_embedded_engine_says() -> None:
    torch.set_num_threads(1)
    questions = [
        ask("What is 7 times 8?"),
        ask("Hello", "Hello! How can I help you today?", "What is 3 plus 4?"),
        Question("s", "text", "", prompt="1 times 1 is 1.\n1 times 2 is"),
    ]
    assert asking.by_torch(RUN, default_folder())(questions, 12) == asking.embedded(bundles.load())(questions, 12)


def test_what_the_embedded_engine_does_not_compute_torch_does(tmp_path: Path) -> None:
    folder = shutil.copytree(default_folder(), tmp_path / "weights")
    assert asking.of_folder(RUN, folder)[1] == "the embedded engine"
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_act": "silu"', '"hidden_act": "gelu"'))
    with pytest.raises(Exception, match="hidden_act"):
        asking.of_folder(RUN, folder)
