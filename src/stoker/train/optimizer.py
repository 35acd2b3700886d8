"""AdamW with moments that are there from the start, and the learning rate as a pure function of the step."""

import math
from collections.abc import Mapping

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
    """torch's AdamW over named parameters; vectors (norms, biases) do not decay. `moments` are the two of each parameter,
    by its name: what a checkpoint holds."""

    def __init__(self, wanted: Optimizer, parameters: Mapping[str, nn.Parameter], *, step: int = 0) -> None:
        groups = [
            {"params": [each for each in parameters.values() if each.ndim > 1], "weight_decay": wanted.weight_decay},
            {"params": [each for each in parameters.values() if each.ndim <= 1], "weight_decay": 0.0},
        ]
        self._inner = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=wanted.learning_rate,
            betas=(wanted.beta1, wanted.beta2),
            eps=wanted.epsilon,
            fused=True,
        )
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        for name, parameter in parameters.items():
            pair = (torch.zeros_like(parameter), torch.zeros_like(parameter))
            self.moments[name] = pair
            self._inner.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": pair[0],
                "exp_avg_sq": pair[1],
            }
        self.settle(step)

    def settle(self, step: int) -> None:
        """So many steps were done: what the correction of the bias counts."""
        for state in self._inner.state.values():
            state["step"].fill_(float(step))

    def step(self, rate: float) -> None:
        for group in self._inner.param_groups:
            group["lr"] = rate
        self._inner.step()
