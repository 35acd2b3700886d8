"""Base weights -> a torch module to train, with LoRA where it is asked for; and what goes into a pass."""
# mypy: allow-subclassing-any

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stoker.base.errors import InvalidInput
from stoker.nn import config as configs
from stoker.nn import image as images
from stoker.nn import lora, torch_model, weights_files
from stoker.nn import tokenizer as tokenizers
from stoker.nn.config import ModelConfig
from stoker.nn.torch_model import LanguageModel
from stoker.spec.run import Run
from stoker.train import bases, encoding
from stoker.train.bases import base_folder
from stoker.train.encoding import Encoder
from stoker.train.source import Rows

PROJECTOR = "image_projector."


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


def build(run: Run, folder: Path) -> Model:
    """Raises InvalidInput for an architecture that is none of Llama, Qwen2, Qwen3, or weights that do not fit it."""
    config = configs.load(folder)
    encoder = encoding.encoder_of(folder)
    encoding.check_vocabulary(encoder, config.vocab_size, folder)
    image_token = tokenizers.load(folder).image if config.image is not None else None
    with torch.device("cpu" if run.base == "scratch" else "meta"):
        module = LanguageModel(config, image_token=image_token, dropout=run.dropout, recompute=run.recompute)
    if run.base == "scratch":
        torch_model.initialise(module, run.seed)
    else:
        read_weights(module, folder)
    if run.method == "lora":
        settings = run.lora
        lora.inject(
            module,
            settings.targets,
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            seed=run.seed,
        )
    if run.compile:
        module.by_document = False
        for layer in module.model.layers:
            layer.compile()
    return Model(module, config, encoder, folder, bases.digest_of(folder))


def read_weights(module: LanguageModel, folder: Path) -> None:
    """The folder's tensors as the module's parameters, in float32. Raises InvalidInput when one is missing, misshapen
    or not of this architecture."""
    expected = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    found: dict[str, Tensor] = {}
    for name, tensor in weights_files.tensors(folder):
        if not _is_computed_anew(name, module.config):
            _check(name, tuple(tensor.shape), expected)
            found[name] = tensor.to(torch.float32, copy=True)
    if module.image_token is not None:
        for name, array in weights_files.read_file(folder / images.FILE).items():
            _check(PROJECTOR + name, array.shape, expected)
            found[PROJECTOR + name] = torch.from_numpy(array.astype(np.float32))
    if missing := sorted(expected.keys() - found.keys()):
        raise InvalidInput(f"{folder}: the weights lack {', '.join(missing[:5])} ({len(missing)} in all)", param="base")
    module.load_state_dict(found, strict=True, assign=True)


def _is_computed_anew(name: str, config: ModelConfig) -> bool:
    """In old files of Llama; and in those that say twice what is tied."""
    return name.endswith(".rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings)


def _check(name: str, shape: tuple[int, ...], expected: dict[str, tuple[int, ...]]) -> None:
    if name not in expected:
        raise InvalidInput(f"the weights have {name}, which config.json's architecture does not", param="base")
    if shape != expected[name]:
        raise InvalidInput(f"tensor {name} has shape {shape}; config.json says {expected[name]}", param="base")


@dataclass(frozen=True)
class TorchRows:
    """`source.Rows` on the device; made by `rows_on`. `kept`: places in the flattened rows whose weight is not 0."""

    tokens: Tensor
    targets: Tensor
    weights: Tensor
    documents: Tensor
    positions: Tensor
    features: Tensor
    is_packed: bool
    """Whether any row has more than one document. If none has, each begins its row, and padding follows."""
    kept: Tensor | None = None

    @property
    def places(self) -> Tensor:
        """`kept`, found on the device, which has to wait for it, where it was not given."""
        return self.weights.flatten().nonzero().flatten() if self.kept is None else self.kept


def rows_on(rows: Rows, device: torch.device | str) -> TorchRows:
    """Sent without waiting; what needs looking at the numbers is found before."""

    kind = torch.device(device).type

    def sent(array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if kind == "cpu":
            return tensor
        if kind == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    return TorchRows(
        tokens=sent(rows.tokens),
        targets=sent(rows.targets),
        weights=sent(rows.weights),
        documents=sent(rows.documents),
        positions=sent(rows.positions),
        features=sent(rows.features),
        is_packed=rows.is_packed,
        kept=sent(np.flatnonzero(rows.weights)),
    )


def forward(module: nn.Module, rows: TorchRows) -> Tensor:
    """Logits [rows, length, vocabulary] in float32, documents kept apart."""
    logits: Tensor = module(rows.tokens, features=rows.features, **_apart(rows))
    return logits.float()


def cross_entropies(module: nn.Module, rows: TorchRows) -> Tensor:
    """Of the targets at `rows.places`, float32, with their graph. Logits are computed at no other places."""
    losses: Tensor = module(rows.tokens, features=rows.features, targets=rows.targets, kept=rows.places, **_apart(rows))
    return losses


def _apart(rows: TorchRows) -> dict[str, Tensor]:
    """Rows of one document each need neither: what follows it is padding, which it cannot see."""
    return {"documents": rows.documents, "positions": rows.positions} if rows.is_packed else {}


def compute_type(run: Run, device: torch.device | str) -> torch.dtype:
    """What passes are computed in, `run.precision` on this device."""
    if run.precision == "auto":
        able = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if able else torch.float32
    return torch.bfloat16 if run.precision == "bfloat16" else torch.float32


def computing(run: Run, device: torch.device | str) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes what is around forward and loss: bfloat16 by autocast, while weights stay float32. Not with
    `sharding.shard`, which casts the weights that it gathers."""
    kind = compute_type(run, device)
    if kind == torch.float32:
        return contextlib.nullcontext
    return lambda: torch.autocast(torch.device(device).type, dtype=kind)


__all__ = [
    "Model",
    "TorchRows",
    "base_folder",
    "build",
    "compute_type",
    "computing",
    "cross_entropies",
    "forward",
    "read_weights",
    "rows_on",
    "torch",
]
