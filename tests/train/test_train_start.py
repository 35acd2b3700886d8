"""What a process loads before its first step: each module of these is a part of the seconds until a run goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
from training_parts import write_data, write_run

pytestmark = pytest.mark.torch

UNNEEDED = (
    "accelerate",
    "boto3",
    "rich",
    "stoker.registry.s3",
    "stoker.spec.platform",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.fsdp",
    "transformers",
)
LAUNCH = """
import os, sys
from pathlib import Path
from stoker import spec
from stoker.base.clock import SystemClock
from stoker.train.starting import Process

file, state = map(Path, sys.argv[1:3])
environ = {"AWS_EC2_METADATA_DISABLED": "true"}
code, _ = Process(spec.load_run(file), file, state, environ=environ, clock=SystemClock()).go()
print(code, *(name for name in sys.argv[3:] if name in sys.modules))
"""


def test_a_run_into_a_folder_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    write_data(tmp_path, lines=8)
    run_file = write_run(tmp_path, epochs=1)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAUNCH, str(run_file), str(tmp_path / "state"), *UNNEEDED],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert done.stdout.split() == ["0"]
