"""Of a run: its store, and the folder of weights that its newest whole checkpoint makes. What is evaluated and what is
registered come from here, so that they are the same."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stoker.base.errors import Conflict, NotFound
from stoker.registry import manifests
from stoker.registry.manifests import Manifest
from stoker.registry.runs import RunStore
from stoker.registry.stores import Store, open_store
from stoker.registry.weights import short
from stoker.spec import Run
from stoker.train import identity, runs
from stoker.train.places import resolved

DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Exported:
    folder: Path
    digest: str
    base: Path
    checkpoint: str
    step: int


def store_of(run: Run, *, here: Path, state: Path, checkpoints: str | None) -> Store:
    """The run's store: the place that was named, or where the run was begun, or what the run file says. Raises
    NotFound."""
    if checkpoints is not None:
        return open_store(resolved(checkpoints, Path.cwd()))
    try:
        return runs.find(state, run.name)[1]
    except NotFound:
        if run.checkpoints is None:
            raise
        return open_store(resolved(run.checkpoints, here))


def newest(run: Run, store: Store, *, here: Path, state: Path, tell: Callable[[str], None]) -> Exported:
    """Of the newest checkpoint that is whole. Raises NotFound when the run has none, NoneWhole when none is whole,
    InvalidInput when it was made from another base or with other settings than there are now."""
    from stoker.train.bases import base_folder, digest_of
    from stoker.train.export import export

    base = base_folder(run, here=here, cache=state / "cache")
    now = {"base_digest": digest_of(base), identity.SETTINGS: runs.learned(run)}
    run_store = RunStore(store, run.name)
    made: list[tuple[Path, str]] = []

    def use(manifest: Manifest) -> None:
        identity.compare(manifest.state, now)
        # By its content: a run that was begun anew counts its steps and launches from the beginning again.
        digest = hashlib.sha256(manifests.to_bytes(manifest)).hexdigest()
        folder = state / "exports" / run.name / f"{manifest.name}-{short(digest)}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.append((folder, export(run, base, run_store, manifest, folder, dtype=dtype_of(base))))

    manifest, skipped = run_store.newest_whole(use)
    for each in skipped:
        tell(f"checkpoint {each.name} was passed over: {each.why}")
    if manifest is None:
        raise NotFound(f"run {run.name} has no checkpoint yet", hint="`stoker train RUN.yaml` makes some")
    folder, digest = made[-1]
    return Exported(folder, digest, base, manifest.name, manifest.step)


def compare_data(run: Run, store: Store, files_digest: str) -> None:
    """Raises InvalidInput when the run's checkpoints were made of other files than these (`reading.digest_of`)."""
    RunStore(store, run.name).newest_whole(lambda made: identity.compare(made.state, {"files_digest": files_digest}))


def dtype_of(base: Path) -> DType:
    """What the base's weights are kept in, so that its engine loads what was made of them."""
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Conflict(f"{base / 'config.json'} cannot be read: {error}") from error
    said = config.get("dtype") or config.get("torch_dtype")
    found: dict[str, DType] = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
    return found.get(said, "bfloat16")
