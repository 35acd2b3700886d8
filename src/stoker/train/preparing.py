"""A model, made ready on this process's device: precision, FSDP2, compilation."""

import torch
from torch import nn

from stoker.spec import Run
from stoker.train.model import Model
from stoker.train.sharding import shard
from stoker.train.world import World


def is_sharded_in(run: Run, world: World) -> bool:
    """auto: where there are several GPUs."""
    return run.parallel == "shard" or (run.parallel == "auto" and world.size > 1 and world.device.type == "cuda")


def precision_of(run: Run, world: World) -> torch.dtype:
    """What passes are computed in."""
    if run.precision == "auto":
        is_able = world.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if is_able else torch.float32
    return torch.bfloat16 if run.precision == "bfloat16" else torch.float32


def prepared(run: Run, model: Model, world: World, *, is_sharded: bool) -> nn.Module:
    module = model.module.to(world.device)
    dtype = precision_of(run, world)
    if run.compile:
        for layer in module.model.layers:
            layer.compile()
    if is_sharded:
        shard(module, world.mesh(), precision=dtype)
    elif dtype != torch.float32:
        module.forward = torch.autocast(world.device.type, dtype=dtype)(module.forward)
    return module
