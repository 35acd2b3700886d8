"""LoRA (Hu et al. 2021, arXiv 2106.09685): a product of low rank is added to a matrix that stays as it is, and trained.

    W' = W + alpha / rank * B A        A: [rank, inputs], B: [outputs, rank], and B begins as 0

`inject` puts it into a `torch_model.LanguageModel`; names of the model's own parameters stay. `peft_config` and
`peft_name` are how the PEFT library keeps the same thing in files.
"""
# mypy: allow-subclassing-any

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stoker.nn.torch_model import generator_of

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(nn.Linear):
    """A linear layer with its update as children `lora_A` and `lora_B`; takes over the parameters of `base`."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        self.scale = alpha / rank
        self.dropout = dropout
        self.is_on = True
        """False: only W counts."""
        self.is_merged = False
        """The update is in W already."""

    def forward(self, x: Tensor) -> Tensor:
        out = functional.linear(x, self.weight, self.bias)
        if not self.is_on or self.is_merged:
            return out
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        update: Tensor = self.lora_B(self.lora_A(x))
        return out + update * self.scale

    def merge(self) -> None:
        """Add the update to W, once: merging again changes nothing."""
        if not self.is_merged:
            with torch.no_grad():
                self.weight.copy_(merged(self.weight, self.lora_A.weight, self.lora_B.weight, self.scale))
            self.is_merged = True


def inject(
    module: nn.Module, targets: Sequence[str], *, rank: int, alpha: float, dropout: float = 0.0, seed: int
) -> None:
    """Freeze all parameters, and put an update beside each linear layer whose name ends with one of `targets`. A begins
    as in PEFT (kaiming, uniform), from `seed` and its name. Raises ValueError for a target that is nowhere."""
    module.requires_grad_(False)
    found = set()
    for path, layer in list(module.named_modules()):
        parent, _, name = path.rpartition(".")
        if name in targets and isinstance(layer, nn.Linear):
            found.add(name)
            updated = LoraLinear(layer, rank, alpha, dropout)
            nn.init.kaiming_uniform_(updated.lora_A.weight, a=5**0.5, generator=generator_of(seed, f"{path}.lora_A"))
            nn.init.zeros_(updated.lora_B.weight)
            setattr(module.get_submodule(parent), name, updated)
    if missing := [name for name in targets if name not in found]:
        raise ValueError(f"the model has no {', '.join(missing)} for LoRA")


def layers_of(module: nn.Module) -> list[LoraLinear]:
    return [layer for layer in module.modules() if isinstance(layer, LoraLinear)]


def merge(module: nn.Module) -> None:
    """Merge every update into its matrix. A merged model cannot be trained on."""
    for layer in layers_of(module):
        layer.merge()


@contextlib.contextmanager
def without(module: nn.Module) -> Iterator[None]:
    """Inside, the model is the one before training. Raises ValueError when an update was merged, and so cannot be left
    out."""
    layers = layers_of(module)
    if any(layer.is_merged for layer in layers):
        raise ValueError("the update is merged into the weights, so the model before training is gone")
    before = [layer.is_on for layer in layers]
    for layer in layers:
        layer.is_on = False
    try:
        yield
    finally:
        for layer, was_on in zip(layers, before, strict=True):
            layer.is_on = was_on


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale * B A, in float32."""
    return weight.to(torch.float32) + scale * (b.to(torch.float32) @ a.to(torch.float32))


def is_update(name: str) -> bool:
    """Whether a parameter is part of an update, by its name."""
    return name.endswith((".lora_A.weight", ".lora_B.weight"))


def peft_name(name: str) -> str:
    """What PEFT's adapter_model.safetensors calls a parameter of an update."""
    return f"base_model.model.{name}"


def peft_config(
    *, rank: int, alpha: float, dropout: float, targets: Sequence[str], base: str, revision: str | None = None
) -> Mapping[str, Any]:
    """adapter_config.json. `base`: where whoever loads it finds the weights that it goes with; `revision`: which of
    them, on the hub."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": sorted(targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
    }
