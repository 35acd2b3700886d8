"""FSDP2 with two real processes: their gradients, put together, are those of one process with everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


CASES = ("tied", "untied", "recompute", "lora", "dpo", "dpo with lora", "an image in one pass", "bfloat16")
WORLD = 2


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """The folder to which two processes wrote what they computed, case by case."""
    out = tmp_path_factory.mktemp("sharded")
    for name in CASES:
        (out / name).mkdir()
    script = Path(__file__).with_name("sharded_process.py")
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(WORLD), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
        )
        for rank in range(WORLD)
    ]
    try:
        said = [process.communicate(timeout=300)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * WORLD, "\n".join(said)
    return out


def _together(out):
    """Whole tensors from the parts that processes have, and each process's loss."""
    import torch
    from safetensors.torch import load_file

    whole, losses = {}, []
    for rank in range(WORLD):
        said = json.loads((out / f"{rank}.json").read_text())
        losses.append(said["loss"])
        for name, local in load_file(out / f"{rank}.safetensors").items():
            shape, at = said["places"][name]
            target = whole.setdefault(name, torch.full(shape, float("nan")))
            target[tuple(slice(begin, begin + size) for begin, size in zip(at, local.shape, strict=True))] = local
    return whole, losses


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_two_processes_are_the_sum_over_all_passes(name, computed):
    import sharded_cases
    import torch
    from sharded_cases import backward, built, loss_of_case, rows_of_pass

    torch.set_num_threads(1)
    assert tuple(sharded_cases.CASES) == CASES
    case = sharded_cases.CASES[name]
    module = built(case)
    loss = loss_of_case(case, module)
    total = sum(backward(module, loss, rows_of_pass(case, number)) for number in range(case.passes))
    tensors, losses = _together(computed / name)
    rough = case.precision == torch.bfloat16
    assert sum(losses) == pytest.approx(total, rel=0.02 if rough else 1e-5)
    for parameter_name, parameter in module.named_parameters():
        assert torch.equal(tensors[f"weight/{parameter_name}"], parameter)
        gradient = tensors.get(f"gradient/{parameter_name}")
        if not parameter.requires_grad:
            assert gradient is None
        elif rough:
            assert (gradient - parameter.grad).norm() < 0.05 * parameter.grad.norm()
        else:
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_plain_tensor_is_one_piece_that_shares_its_memory():
    import torch

    from stoker.train.sharding import local_piece

    parameter = torch.nn.Parameter(torch.zeros(3, 4))
    local, whole, at = local_piece(parameter)
    assert (whole, at, local.requires_grad) == ((3, 4), (0, 0), False)
    local.fill_(2.0)
    assert parameter.sum().item() == 24.0
