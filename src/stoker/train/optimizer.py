"""AdamW with moments that are there from the start, and the learning rate as a pure function of the step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stoker.spec.run import Optimizer


def rate_at(wanted: Optimizer, step: int, steps: int) -> float:
    """Of step `step` (from 0) of so many: up in a line over the warm-up, then down to `least_rate` of the highest."""
    warm = math.ceil(wanted.warmup * steps)
    if step < warm:
        return wanted.learning_rate * (step + 1) / warm
    if wanted.schedule == "constant":
        return wanted.learning_rate
    done = (step - warm) / max(1, steps - 1 - warm)
    left = (1 + math.cos(math.pi * done)) / 2 if wanted.schedule == "cosine" else 1 - done
    return wanted.learning_rate * (wanted.least_rate + (1 - wanted.least_rate) * left)


class Adam:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over named parameters; vectors (norms, biases) do not decay.
    `moments` are the two of each parameter, by its name: what a checkpoint holds.

    torch's own kernel, called as torch.optim.AdamW calls it: that class loads torch's compiler when it is made, which
    is half of the time until the first step. A test holds the two to the same bits.
    """

    def __init__(self, wanted: Optimizer, parameters: Mapping[str, nn.Parameter], *, step: int = 0) -> None:
        self._wanted = wanted
        self.moments: dict[str, tuple[Tensor, Tensor]] = {
            name: (torch.zeros_like(each), torch.zeros_like(each)) for name, each in parameters.items()
        }
        self._groups = [
            _Group(
                [each for each in parameters.values() if is_matrix == (each.ndim > 1)],
                [_local(each) for each in parameters.values() if is_matrix == (each.ndim > 1)],
                [_local(pair[0]) for name, pair in self.moments.items() if is_matrix == (pair[0].ndim > 1)],
                [_local(pair[1]) for name, pair in self.moments.items() if is_matrix == (pair[1].ndim > 1)],
                wanted.weight_decay if is_matrix else 0.0,
            )
            for is_matrix in (True, False)
        ]
        self.settle(step)

    def settle(self, step: int) -> None:
        """So many steps were done: what the correction of the bias counts."""
        for group in self._groups:
            if group.first:
                group.step = torch.full((), float(step), device=group.first[0].device)

    @torch.no_grad()
    def step(self, rate: float, *, times: float = 1.0) -> None:
        """`times`: what gradients are multiplied with on the way, without a pass over memory of its own."""
        wanted = self._wanted
        for group in self._groups:
            if not group.parameters:
                continue
            group.step += 1
            torch._fused_adamw_(
                group.values,
                [_local(each.grad) for each in group.parameters],
                group.first,
                group.second,
                [],
                [group.step] * len(group.first),  # which the kernel only reads
                lr=rate,
                beta1=wanted.beta1,
                beta2=wanted.beta2,
                weight_decay=group.decay,
                eps=wanted.epsilon,
                grad_scale=None if times == 1.0 else torch.full_like(group.step, 1.0 / times),  # it divides
                amsgrad=False,
                maximize=False,
            )


@dataclass
class _Group:
    parameters: list[nn.Parameter]
    values: list[Tensor]
    """What the parameters hold: the same memory, without a graph."""
    first: list[Tensor]
    second: list[Tensor]
    decay: float
    step: Tensor = field(default_factory=lambda: torch.zeros(()))


def _local(tensor: Tensor) -> Tensor:
    """This process's part, where FSDP has cut it."""
    if type(tensor) is Tensor:
        return tensor
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor.detach()
