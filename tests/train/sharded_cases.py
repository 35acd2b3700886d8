"""What test_sharding.py compares: the same small model and passes, sharded over processes and in one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stoker.nn import lora
from stoker.nn.config import LLAMA, QWEN2, QWEN3, ImageConfig, ModelConfig
from stoker.nn.torch_model import LanguageModel, initialise
from stoker.train.losses import Dpo, frozen_copy, sft
from stoker.train.model import TorchRows, rows_on
from stoker.train.rows import Rows, nothing_like

IMAGE_TOKEN = 6


@dataclass(frozen=True)
class Case:
    architecture: str = LLAMA
    tied: bool = True
    lora: bool = False
    dpo: bool = False
    images: bool = False
    recompute: bool = False
    passes: int = 4
    precision: torch.dtype = torch.float32


CASES = {
    "tied": Case(),
    "untied": Case(tied=False, architecture=QWEN2),
    "recompute": Case(architecture=QWEN3, recompute=True),
    "lora": Case(lora=True),
    "dpo": Case(dpo=True),
    "dpo with lora": Case(dpo=True, lora=True),
    "an image in one pass": Case(images=True, passes=3),
    "bfloat16": Case(precision=torch.bfloat16),
}


def built(case: Case) -> LanguageModel:
    config = ModelConfig(
        vocab_size=41,  # two processes do not divide it
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        bos_token_id=0,
        eos_token_id=1,
        image=ImageConfig(grid=1, features=6, hidden=8) if case.images else None,
        architecture=case.architecture,
        tie_word_embeddings=case.tied,
    )
    module = LanguageModel(config, image_token=IMAGE_TOKEN if case.images else None, recompute=case.recompute)
    initialise(module, 3)
    if case.lora:
        lora.inject(module, lora.TARGETS, rank=3, alpha=6.0, seed=3)
        with torch.no_grad():
            for layer in lora.layers_of(module):
                layer.lora_B.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
    return module


def loss_of_case(case: Case, module: LanguageModel) -> Any:
    """The reference of DPO is another model than the one that is trained, as after some steps."""
    if not case.dpo:
        return sft
    if case.lora:
        return Dpo(0.5, None)
    reference = frozen_copy(module)
    initialise(reference, 8)
    return Dpo(0.5, reference)


def rows_of_pass(case: Case, number: int | None) -> TorchRows:
    """Two rows of two documents each and some padding; None: nothing that counts."""
    chance = np.random.default_rng(number or 0)
    shape = (2, 16)
    documents = np.full(shape, -1, np.int32)
    positions = np.zeros(shape, np.int32)
    documents[:, :6], documents[:, 6:14] = 0, 1
    positions[:, :6], positions[:, 6:14] = np.arange(6), np.arange(8)
    weights = chance.integers(0, 2, shape).astype(np.float32)
    weights[documents < 0] = 0
    weights[:, [5, 13]] = 0
    tokens = chance.integers(8, 41, shape)
    features = np.zeros((0, 6), np.float32)
    if case.images and number == 0:
        tokens[1, 3] = IMAGE_TOKEN
        features = chance.standard_normal((1, 6)).astype(np.float32)
    rows = Rows(tokens, np.roll(tokens, -1, axis=1), weights, documents, positions, features, ((0, 1), (2, 3)))
    return rows_on(nothing_like(rows) if number is None else rows, "cpu")


def backward(module: Any, loss: Any, rows: TorchRows) -> float:
    value = loss(module, rows)
    value.backward()
    return float(value.detach())
