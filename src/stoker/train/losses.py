"""What is minimised. Both give a sum, not a mean: the loop divides by the whole step's weight, so that the gradient
does not depend on how a step was cut into passes and processes."""

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from stoker.nn import lora
from stoker.spec.run import Run
from stoker.train.model import TorchRows, cross_entropies

Loss = Callable[[nn.Module, TorchRows], Tensor]
"""The sum over a pass, with its graph: a scalar in float32. Also for a pass in which nothing counts: then it is 0, and
its gradients are zeros."""


def loss_of(run: Run, module: nn.Module) -> Loss:
    """sft: cross-entropy times weight of each target. dpo: -log sigmoid(beta * ((log p(chosen) - log q(chosen)) - (log
    p(rejected) - log q(rejected)))) of each pair, q being the model before training (with LoRA: without the update;
    else a frozen copy). Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7.

    Call it on the module as `model.build` made it: before a checkpoint is read into it, which would become q, and
    before it is sharded, since the copy (`Dpo.reference`) has to be sharded and moved like it."""
    if run.objective == "sft":
        return sft
    return Dpo(run.dpo.beta, None if lora.layers_of(module) else frozen_copy(module))


def sft(module: nn.Module, rows: TorchRows) -> Tensor:
    losses = cross_entropies(module, rows)
    return (losses * rows.weights.flatten().index_select(0, rows.places)).sum()


class Dpo:
    """`reference` None: it is the module itself, without LoRA's update."""

    def __init__(self, beta: float, reference: nn.Module | None) -> None:
        self.beta, self.reference = beta, reference

    def __call__(self, module: nn.Module, rows: TorchRows) -> Tensor:
        with torch.no_grad(), _before_training(module, self.reference) as reference:
            before = log_probabilities(reference, rows)
        gain = log_probabilities(module, rows) - before
        return (functional.softplus(-self.beta * (gain[0] - gain[1])) * pairs(rows)).sum()


def log_probabilities(module: nn.Module, rows: TorchRows) -> Tensor:
    """[2, rows, pairs at most]: log p of each answer, chosen ones first; each token's times its weight."""
    losses = cross_entropies(module, rows)
    places = rows.places
    slots = _answer_slots(rows).flatten().index_select(0, places)
    weighted = losses * rows.weights.flatten().index_select(0, places)
    sums = torch.zeros(_slot_count(rows), dtype=torch.float32, device=losses.device).index_add(0, slots, -weighted)
    return sums.view(len(rows.tokens), -1, 2).permute(2, 0, 1)


def pairs(rows: TorchRows) -> Tensor:
    """[rows, pairs at most] in float32: 1 where there is one."""
    slots = _answer_slots(rows).flatten()
    found = torch.zeros(_slot_count(rows), dtype=torch.int64, device=slots.device)
    found.index_add_(0, slots, (rows.documents.flatten() >= 0).to(torch.int64))
    return (found.view(len(rows.tokens), -1, 2) > 0).all(dim=-1).to(torch.float32)


def _answer_slots(rows: TorchRows) -> Tensor:
    """For each token, the number of its document among those that all rows could have. A row has no more documents than
    tokens, so that the shapes are known without asking the device."""
    row = torch.arange(len(rows.documents), device=rows.documents.device)[:, None]
    return row * _most_documents(rows) + rows.documents.clamp(min=0).to(torch.int64)


def _most_documents(rows: TorchRows) -> int:
    length = rows.tokens.shape[1]
    return length + length % 2


def _slot_count(rows: TorchRows) -> int:
    return len(rows.tokens) * _most_documents(rows)


def frozen_copy(module: nn.Module) -> nn.Module:
    copied = copy.deepcopy(module)
    copied.requires_grad_(False)
    return copied.eval()


@contextlib.contextmanager
def _before_training(module: nn.Module, reference: nn.Module | None) -> Iterator[nn.Module]:
    """The model that q is of, without dropout."""
    if reference is not None:
        yield reference
        return
    was_training = module.training
    module.eval()
    try:
        with lora.without(module):
            yield module
    finally:
        module.train(was_training)
