"""One of two processes, started by test_sharding.py: python sharded_process.py RANK WORLD OUT

Computes the passes of a step of each case with the parameters sharded, and writes its parts of parameters and gradients
to OUT/CASE.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import save_file
from sharded_cases import CASES, Case, backward, built, loss_of_case, rows_of_pass
from torch.distributed.device_mesh import init_device_mesh

from stoker.train.sharding import local_piece, shard


def main(rank: int, world: int, out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
    try:
        for name, case in CASES.items():
            compute(case, rank, world, out / name)
    finally:
        torch.distributed.destroy_process_group()


def compute(case: Case, rank: int, world: int, out: Path) -> None:
    module = built(case)
    loss = loss_of_case(case, module)
    mesh = init_device_mesh("cpu", (world,))
    shard(module, mesh, precision=case.precision)
    if getattr(loss, "reference", None) is not None:
        shard(loss.reference, mesh, precision=case.precision)
    # Each process has a block of the passes; who has fewer goes through one in which nothing counts.
    passes = range(rank * case.passes // world, (rank + 1) * case.passes // world)
    total = sum(backward(module, loss, rows_of_pass(case, number)) for number in passes)
    for _ in range(-(-case.passes // world) - len(passes)):
        backward(module, loss, rows_of_pass(case, None))
    tensors, places = {}, {}
    for name, parameter in module.named_parameters():
        for kind, tensor in (("weight", parameter), ("gradient", parameter.grad)):
            if tensor is not None:
                local, whole, at = local_piece(tensor)
                tensors[f"{kind}/{name}"] = local.clone()
                places[f"{kind}/{name}"] = (whole, at)
    save_file(tensors, out / f"{rank}.safetensors")
    (out / f"{rank}.json").write_text(json.dumps({"places": places, "loss": total}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
