"""Runs, tiny models of `transformers`' own classes beside them, and rows: what tests of models and losses share."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stoker.nn import tokenizer as tokenizers
from stoker.spec.run import Run
from stoker.train.model import TorchRows, rows_on
from stoker.train.rows import Rows

sys.path.append(str(Path(__file__).parents[1] / "nn"))  # the models of transformers are those of tests/nn
from hf_models import KINDS, hf_model, saved, tokens_of

__all__ = ["KINDS", "base_of", "hf_model", "packed", "run_of", "saved", "tokens_of"]


def run_of(**more: Any) -> Run:
    return Run.model_validate({"name": "tune", "data": ("data.jsonl",), **more}, by_name=True)


def base_of(kind: str, folder: Path) -> Any:
    """A model of transformers in a folder that a run can begin with: with a tokenizer of Stoker's, and a template."""
    model = hf_model(kind, vocab_size=320)
    model.save_pretrained(folder)
    content = tokenizers.train(["coal and ember " * 20, "a flue, a grate, a kiln"], 300)
    (folder / "tokenizer.json").write_text(content)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("Not part of the model.")
    return model


def packed(lengths: list[list[int]], *, width: int, vocabulary: int = 300, seed: int = 0) -> TorchRows:
    """Rows of documents of these lengths, one after the other, with random tokens; about half of the targets count."""
    chance = np.random.default_rng(seed)
    shape = (len(lengths), width)
    tokens, targets = chance.integers(8, vocabulary, shape), np.zeros(shape, np.int64)
    weights, documents = np.zeros(shape, np.float32), np.full(shape, -1, np.int32)
    positions = np.zeros(shape, np.int32)
    for row, each in enumerate(lengths):
        at = 0
        for number, length in enumerate(each):
            end = at + length
            documents[row, at:end], positions[row, at:end] = number, np.arange(length)
            targets[row, at : end - 1] = tokens[row, at + 1 : end]
            weights[row, at : end - 1] = chance.choice([0.0, 0.25, 1.0], length - 1)
            weights[row, end - 2] = 1.0
            at = end
    rows = Rows(tokens, targets, weights, documents, positions, np.zeros((0, 0), np.float32), ((),) * len(lengths))
    return rows_on(rows, "cpu")


def alone(rows: TorchRows) -> list[TorchRows]:
    """Each document in a row of its own, without padding, in order."""
    found = []
    for row in range(len(rows.tokens)):
        for number in range(int(rows.documents[row].max()) + 1):
            here = (rows.documents[row] == number).nonzero().flatten()
            part = slice(int(here[0]), int(here[-1]) + 1)
            found.append(
                TorchRows(
                    tokens=rows.tokens[row : row + 1, part],
                    targets=rows.targets[row : row + 1, part],
                    weights=rows.weights[row : row + 1, part],
                    documents=rows.documents[row : row + 1, part] * 0,
                    positions=rows.positions[row : row + 1, part],
                    features=rows.features,
                    is_packed=False,
                )
            )
    return found


def document_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found
