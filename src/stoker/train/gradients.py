"""Gradients of a step: added up over its passes and over processes; and how long they are.

Where there are several processes, all gradients of each lie in one flat buffer, of which each parameter's `.grad` is a
view: they are summed in one call. `Canonical` adds them in an order that does not depend on the number of processes.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from stoker.base.errors import InvalidInput
from stoker.train.world import World


class Gradients(Protocol):
    def begin(self) -> None:
        """Before the first pass of a step."""

    def passed(self) -> None:
        """After the backward pass of each pass."""

    def finish(self) -> None:
        """After the last: every process has the sum (or its part of it)."""

    def norm(self) -> Tensor:
        """Of the whole gradient, after `finish`."""


def cut(norm: float, most: float) -> float:
    """What a gradient of that norm is multiplied with, so that it is no longer than `most` (0: as it is)."""
    return min(1.0, most / (norm + 1e-6)) if most > 0 else 1.0


class Alone:
    """One process, and passes added up as autograd adds them: what the first one leaves is taken as it is, and nothing
    has to be set to zero."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters

    def begin(self) -> None:
        for each in self._parameters:
            each.grad = None

    def passed(self) -> None:
        pass

    def finish(self) -> None:
        for each in self._parameters:
            if each.grad is None:  # no pass had to do with it
                each.grad = torch.zeros_like(each)

    def norm(self) -> Tensor:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm([each.grad for each in self._parameters])))


class Flat:
    """Passes are added as autograd adds them, processes as the collective does: the same bits for the same number of
    processes, within rounding for another one."""

    def __init__(self, parameters: Sequence[nn.Parameter], world: World) -> None:
        self._world = world
        self.buffer = _views(parameters, world.device)

    def begin(self) -> None:
        self.buffer.zero_()

    def passed(self) -> None:
        pass

    def finish(self) -> None:
        self._world.sum(self.buffer)

    def norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.buffer)


class Canonical(Flat):
    """Passes are the leaves of one binary tree; a process with a block of them computes its subtree, and processes meet
    pairwise (recursive doubling). So the sum has the same bits for 1, 2, 4, ... processes, as long as the number of
    passes divides into blocks that are powers of two. Needs a buffer for each level of the subtree."""

    def __init__(self, parameters: Sequence[nn.Parameter], world: World, passes: int) -> None:
        """`passes`: of a whole step, over all processes. Raises InvalidInput when blocks are no powers of two."""
        super().__init__(parameters, world)
        if world.size & (world.size - 1) or passes % world.size or (passes // world.size) & (passes // world.size - 1):
            raise InvalidInput(
                f"batch.canonical is true: {passes} passes (batch.rows / batch.microRows) on {world.size} processes; "
                "the number of processes, and passes by process, must be powers of two",
                param="batch.canonical",
            )
        self._nodes: list[Tensor | None] = []

    def begin(self) -> None:
        super().begin()
        self._nodes = []

    def passed(self) -> None:
        """As a binary counter counts: two sums of the same height become one of the next."""
        node = self.buffer.clone()
        self.buffer.zero_()
        for level, other in enumerate(self._nodes):
            if other is None:
                self._nodes[level] = node
                return
            node, self._nodes[level] = other.add_(node), None
        self._nodes.append(node)

    def finish(self) -> None:
        left = [node for node in self._nodes if node is not None]  # a last step may have fewer passes: highest last
        self._nodes = []
        if left:
            total = left[0]
            for node in left[1:]:
                total = node.add_(total)
            self.buffer.copy_(total)
        reach = 1
        while reach < self._world.size:
            self.buffer.add_(self._world.swap(self.buffer, self._world.rank ^ reach))
            reach *= 2


class Sharded:
    """FSDP2 has summed already: each process has its part of every gradient."""

    def __init__(self, module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._module = module
        self._parameters = parameters

    def begin(self) -> None:
        for each in self._parameters:
            each.grad = None

    def passed(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def norm(self) -> Tensor:
        norm = nn.utils.get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _views(parameters: Sequence[nn.Parameter], device: torch.device) -> Tensor:
    buffer = torch.zeros(sum(each.numel() for each in parameters), dtype=torch.float32, device=device)
    at = 0
    for each in parameters:
        each.grad = buffer[at : at + each.numel()].view_as(each)
        at += each.numel()
    return buffer
