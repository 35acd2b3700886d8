"""Base weights -> a torch module to train, with LoRA where it is asked for; and back to files."""
# mypy: allow-subclassing-any

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stoker.nn.config import ModelConfig
from stoker.spec import Run
from stoker.train.encoding import Encoder


@dataclass
class Model:
    """`module` in float32 on the CPU; parameters that are trained have requires_grad. Names of parameters are those of
    Hugging Face's file, so that a checkpoint means the same whoever reads it; LoRA's are
    `model.layers.0.self_attn.q_proj.lora_A.weight` and `lora_B`. The image projector's begin with `image_projector.`.
    """

    module: nn.Module
    config: ModelConfig
    encoder: Encoder
    folder: Path
    """Where tokenizer and config are."""
    base_digest: str
    """sha256 over the base's files: a run refuses to go on from another base."""


def base_folder(run: Run, *, here: Path, cache: Path) -> Path:
    """The folder of `run.base`: the embedded weights, a local folder, s3:// fetched into `cache` and verified; scratch: a
    folder in `cache` with a new config.json and a tokenizer that was learned from the data. Raises InvalidInput."""
    raise NotImplementedError


def build(run: Run, folder: Path) -> Model:
    """Raises InvalidInput for an architecture that is none of Llama, Qwen2, Qwen3."""
    raise NotImplementedError


def forward(module: nn.Module, rows: "TorchRows") -> Tensor:
    """Logits [rows, length, vocabulary] in float32, documents kept apart."""
    raise NotImplementedError


@dataclass(frozen=True)
class TorchRows:
    """`source.Rows` on the device. `documents` None: no row has more than one document."""

    tokens: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor
    positions: Tensor
    features: Tensor
    is_packed: bool


__all__ = ["Model", "TorchRows", "base_folder", "build", "forward", "torch"]
