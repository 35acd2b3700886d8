"""FSDP2: each process keeps a part of every parameter, and gathers a layer when it computes it.

Gradients are summed over processes, not averaged, as the loop's losses are sums: the loop divides once, by the whole
step's weight. FSDP2 averages unless told otherwise. With a divide factor alone, torch 2.13 asks the backend for
PREMUL_SUM, which gloo does not have; with `set_force_sum_reduction_for_comms` it asks for SUM, and dividing by a factor
of 1 is left out.
"""

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard

from stoker.nn.torch_model import LanguageModel


def shard(module: nn.Module, mesh: DeviceMesh, *, precision: torch.dtype) -> None:
    """Shard a LanguageModel in place: layer by layer, and the rest (embeddings, whether the output layer is tied to
    them or not, the last norm, the projector) as one group. `precision` (`model.compute_type`): what weights are
    gathered and passes computed in; gradients are summed in float32, and parameters stay float32. Names stay.

    Call it after LoRA was injected and layers were compiled, on the device, and before an optimizer is made."""
    if not isinstance(module, LanguageModel):
        raise TypeError(f"a {type(module).__name__} cannot be sharded; a LanguageModel can")
    policy = MixedPrecisionPolicy(
        param_dtype=None if precision == torch.float32 else precision,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # what layers are given beside activations, cosines and sines, stays float32
    )
    for layer in module.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_force_sum_reduction_for_comms(True)
            part.set_gradient_divide_factor(1.0)


def local_piece(tensor: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """This process's part of a parameter, a gradient or a moment: a tensor that shares its memory, the shape of the
    whole, and where the part begins in it. A plain tensor is all of it. The part may be empty: 5 rows over 4 processes
    are 2, 2, 1 and 0."""
    whole = tuple(tensor.shape)
    if not isinstance(tensor, DTensor):
        return tensor.detach(), whole, (0,) * len(whole)
    local = tensor.to_local().detach()
    at = [0] * len(whole)
    places = tensor.device_mesh.get_coordinate()
    if places is None:
        raise ValueError("this process has no part of the tensor: it is not in its mesh")
    cut: set[int] = set()
    for size, place, placement in zip(tensor.device_mesh.shape, places, tensor.placements, strict=True):
        if isinstance(placement, Replicate):
            continue
        if type(placement) is not Shard or placement.dim in cut:
            raise ValueError(f"a tensor is placed as {tensor.placements}; known here is one cut of a dimension")
        cut.add(placement.dim)
        rows = -(-whole[placement.dim] // size)  # as torch.chunk: rounded up, until nothing is left
        at[placement.dim] = min(place * rows, whole[placement.dim])
    return local, whole, tuple(at)
