"""The processes of one node, started together and begun again together. No torch here.

`stoker train` on one machine; in a pod torchrun does the same. Each process is `python -m stoker.train --run FILE` with
RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and STOKER_LAUNCH (a nonce).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stoker.spec import Run


@dataclass(frozen=True)
class Ended:
    """`code` is of `exits`. `launches`: how many there were."""

    code: int
    launches: int
    why: str


def launch(run: Run, run_file: Path, *, state: Path, tell: Callable[[str], None], grace_s: float = 100.0) -> Ended:
    """Run to its end. When one process dies, the others are ended (SIGTERM, then SIGKILL) and all begin again, up to
    `run.relaunches` times in a row without a new checkpoint, with backoff; exits.PREEMPTED ends it, unless the wish came
    from this process's own SIGTERM, which is passed on to all. Ports are free ones, loopback only, when nodes is 1; with
    more nodes PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT say where the others are. No process is left."""
    raise NotImplementedError
