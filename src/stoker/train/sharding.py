"""FSDP2: each process keeps a part of every parameter, and gathers a layer when it computes it.

Gradients are summed over processes, not averaged, as the loop's losses are sums: the loop divides once, by the whole
step's weight. FSDP2 averages unless told otherwise. With a divide factor alone, torch 2.13 asks the backend for
PREMUL_SUM, which gloo does not have and which rounds for NCCL; with `set_force_sum_reduction_for_comms` it asks for SUM,
and a factor of 1 is no further operation.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard


def shard(module: nn.Module, mesh: DeviceMesh, *, precision: torch.dtype) -> None:
    """Shard a `torch_model.LanguageModel` in place: layer by layer, and the rest (embeddings, whether the output layer is
    tied to them or not, the last norm, the projector) as one group. `precision` (`model.compute_type`): what weights are
    gathered and passes computed in; gradients are summed in float32, and parameters stay float32. Names stay.

    Call it after LoRA was injected and layers were compiled, and before an optimizer is made. The frozen copy of DPO is
    sharded alike."""
    policy = MixedPrecisionPolicy(
        param_dtype=None if precision == torch.float32 else precision,
        reduce_dtype=torch.float32,
        # Angles stay float32: in bfloat16, positions beyond 256 would not be told apart.
        cast_forward_inputs=False,
    )
    for layer in module.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    for part in sharded_parts(module):
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)


def sharded_parts(module: nn.Module) -> Iterator[FSDPModule]:
    for part in module.modules():
        if isinstance(part, FSDPModule):
            yield part


def is_last_pass(module: nn.Module, is_last: bool) -> None:
    """Whether the next backward pass sums gradients over processes: once in a step is enough, after its last pass. In
    between each process holds the whole gradient of each layer that it computed."""
    for part in sharded_parts(module):
        part.set_requires_gradient_sync(is_last, recurse=False)
        break  # the root tells the others
    raise NotImplementedError


def local_pieces(parameter: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """This process's part of a parameter, a gradient or a moment: a tensor that shares its memory, the shape of the whole,
    and where the part begins in it. A plain tensor is all of it. The part may be empty where a dimension has fewer rows
    than there are processes."""
    whole = tuple(parameter.shape)
    if not isinstance(parameter, DTensor):
        return parameter.detach(), whole, (0,) * len(whole)
    local = parameter.to_local().detach()
    at = [0] * len(whole)
    for size, rank, placement in zip(
        parameter.device_mesh.shape, parameter.device_mesh.get_coordinate() or (), parameter.placements, strict=True
    ):
        if isinstance(placement, Replicate):
            continue
        if type(placement) is not Shard or at[placement.dim]:
            raise ValueError(f"a parameter is placed as {parameter.placements}; known here is one cut of each dimension")
        # As torch.chunk: parts of the size rounded up, until nothing is left.
        rows = -(-whole[placement.dim] // size)
        at[placement.dim] = min(rank * rows, whole[placement.dim])
    return local, whole, tuple(at)
