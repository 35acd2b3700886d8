"""A model, made ready on this process's device."""

from torch import nn

from stoker.spec import Run
from stoker.train.losses import Dpo, Loss, loss_of
from stoker.train.model import Model, compute_type
from stoker.train.world import World


def is_sharded_in(run: Run, world: World) -> bool:
    """auto: where there are several GPUs. One process has nothing to share out."""
    is_meant = run.parallel == "shard" or (run.parallel == "auto" and world.device.type == "cuda")
    return is_meant and world.size > 1


def prepared(run: Run, model: Model, world: World, *, is_sharded: bool) -> tuple[nn.Module, Loss]:
    """The module on its device, and what is minimised, whose reference (DPO) is the module as it is now."""
    module = model.module
    loss = loss_of(run, module)
    for each in (module, loss.reference if isinstance(loss, Dpo) else None):
        if each is None:
            continue
        each.to(world.device)
        if is_sharded:
            from stoker.train.sharding import shard  # loads FSDP

            shard(each, world.mesh(), precision=compute_type(run, world.device))
    return module, loss
