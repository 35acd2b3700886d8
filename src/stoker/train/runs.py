"""Where runs are: `STATE/runs/NAME` holds the run file as it was begun (run.yaml), where its store is (store.json), and the
store itself where `checkpoints` says nothing else. No torch."""

from dataclasses import dataclass
from pathlib import Path

from stoker.registry.stores import Store
from stoker.spec import Run


@dataclass(frozen=True)
class Known:
    name: str
    folder: Path
    run_file: Path
    store_url: str


def begin(run: Run, run_file: Path, state: Path, environ: dict[str, str]) -> tuple[Known, Store]:
    """Remember the run, or find it again. CHECKPOINT_S3 in the environment overrules `checkpoints`. Raises Conflict
    when the run was begun with other settings that change what is learned (it names them, and says that another name or
    `--fresh` would be right)."""
    raise NotImplementedError


def known(state: Path) -> list[Known]:
    raise NotImplementedError


def find(state: Path, name_or_url: str) -> tuple[Known | None, Store]:
    """By name, or `s3://...` of a run that began elsewhere. Raises NotFound, which names those that there are."""
    raise NotImplementedError


def forget(state: Path, name: str) -> None:
    """`--fresh`: what there is of it moves to `NAME.old-1` and so on; nothing is deleted."""
    raise NotImplementedError
