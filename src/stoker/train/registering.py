"""Put what a run made into service: only what was evaluated and passed, and exactly that."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.base.clock import Clock
from stoker.base.errors import Conflict
from stoker.registry import flat
from stoker.registry.cards import Version
from stoker.registry.models import Models
from stoker.registry.stores import open_store
from stoker.registry.weights import short
from stoker.spec import Run
from stoker.train import exporting
from stoker.train.evaluation import passed
from stoker.train.places import resolved


@dataclass(frozen=True)
class Registered:
    """`before`: digest of what was served until now, None when nothing was. `place`: of the registry."""

    version: Version
    before: str | None
    place: str


def name_of(run: Run) -> str:
    return run.register_as or run.name


def models_of(run: Run, *, here: Path, state: Path) -> Models:
    return Models(
        open_store(str((state / "models").absolute()) if run.publish is None else resolved(run.publish, here))
    )


def register(
    run: Run,
    *,
    here: Path,
    state: Path,
    clock: Clock,
    tell: Callable[[str], None],
    checkpoints: str | None = None,
    unevaluated: bool = False,
    to: str | None = None,
) -> Registered:
    """Publish the newest whole checkpoint and make it the one that is served. Idempotent. `to`: lay the files out there
    first, as replicas of a cluster stream them; where that fails, what is served stays. Raises Conflict when it was not
    evaluated or did not pass, unless `unevaluated`; Changed when somebody else has promoted another version
    meanwhile."""
    store = exporting.store_of(run, here=here, state=state, checkpoints=checkpoints)
    exported = exporting.newest(run, store, here=here, state=state, tell=tell)
    card: dict[str, Any] = {"run": run.name, "checkpoint": exported.checkpoint, "step": exported.step, "base": run.base}
    evaluated = None if unevaluated else passed(run, store, exported.digest, here=here)
    if evaluated is not None:
        verdict = evaluated.verdict
        card["evaluation"] = {
            "score": verdict.score,
            "by_suite": dict(verdict.by_suite),
            "reasons": list(verdict.reasons),
            "at": evaluated.at,
            **evaluated.about,
        }
    elif unevaluated:
        card["evaluation"] = None
    else:
        raise Conflict(
            f"weights {short(exported.digest)}, of step {exported.step}, have not been evaluated",
            hint="`stoker evaluate RUN.yaml` does it; `--unevaluated` registers them all the same",
            code="not_evaluated",
        )
    models, name = models_of(run, here=here, state=state), name_of(run)
    before = models.served(name)
    version = models.publish(name, exported.folder, card, now=clock.now(), tell=tell)
    if to is not None:
        _lay_out(exported.folder, version, to, tell)
    models.promote(version, expect=before)
    return Registered(version, before, models.store.url)


def back(run: Run, *, here: Path, state: Path, to: str | None = None, tell: Callable[[str], None]) -> Registered:
    """Serve the version before; `to` as in `register`. Raises Conflict when there is none, or it is not whole."""
    models, name = models_of(run, here=here, state=state), name_of(run)
    left, version = models.served(name), models.before(name)
    models.verify(version)
    if to is not None:
        folder = state / "exports" / "versions" / version.digest
        models.fetch(version, folder)
        _lay_out(folder, version, to, tell)
    models.back(name, expect=version.digest)
    return Registered(version, left, models.store.url)


def _lay_out(folder: Path, version: Version, to: str, tell: Callable[[str], None]) -> None:
    if flat.lay_out(folder, open_store(resolved(to, Path.cwd()))):
        tell(f"the files of {short(version.digest)} are in {to}")
