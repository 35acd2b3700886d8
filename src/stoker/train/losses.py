"""What is minimised. Both give a sum, not a mean: the loop divides by the whole step's weight, so that the gradient does
not depend on how a step was cut into passes and processes."""

from collections.abc import Callable

from torch import Tensor, nn

from stoker.spec import Run
from stoker.train.model import TorchRows

Loss = Callable[[nn.Module, TorchRows], Tensor]
"""The sum over a pass, with its graph: a scalar in float32."""


def loss_of(run: Run, module: nn.Module) -> Loss:
    """sft: cross-entropy times weight of each target. dpo: -log sigmoid(beta * ((log p(chosen) - log q(chosen)) - (log
    p(rejected) - log q(rejected)))) of each pair, q being the model before training (with LoRA: without the update;
    else a frozen copy). Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7."""
    raise NotImplementedError
