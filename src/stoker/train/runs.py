"""Where runs are: `STATE/runs/NAME` holds the run file as it was begun (run.yaml), where its store is (store.json), and
the store itself where `checkpoints` says nothing else. No torch.

The store has run.yaml, too, so that a run that goes on elsewhere, on a machine that knows nothing of it, cannot go on
as another one. It is written with every default, and with places that do not depend on where the file is.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.registry.heads import Head
from stoker.registry.runs import RunStore
from stoker.registry.shards import Damaged, verify_shard
from stoker.registry.stores import Changed, Store, open_store
from stoker.spec.loading import dump, run_of
from stoker.spec.run import Run
from stoker.spec.section import plain
from stoker.train import hub, record
from stoker.train.identity import SETTINGS, compare, settings_changed

RUN_FILE = "run.yaml"
PLACE = "CHECKPOINT_S3"
"""Of the environment; overrules `checkpoints`."""

MAY_CHANGE = frozenset(
    {
        # How it is done, what it may cost, and what is said of it.
        *("budget", "checkpointing", "evaluation", "prices", "relaunches", "spot", "tracking", "validateEvery"),
        # On how many machines: what is learned does not depend on it.
        *("dataset.workers", "gpus", "nodes", "parallel", "processes", "recompute", "threads"),
        # Where things are. That they are the same is held by the digests in each checkpoint.
        *("base", "checkpoints", "data", "publish", "registerAs", "validation"),
    }
)
"""What may be another in the next launch of a run; all else changes what is learned."""

_STORE_FILE = "store.json"
_MOST_BYTES = 4 << 20
_MOST_TRIES = 10


@dataclass(frozen=True)
class Known:
    name: str
    folder: Path
    run_file: Path
    store_url: str


def begin(run: Run, run_file: Path, state: Path, environ: Mapping[str, str]) -> tuple[Known, Store]:
    """Remember the run, or find it again. CHECKPOINT_S3 in the environment overrules `checkpoints`. Raises Conflict
    when the run was begun with other settings that change what is learned (it names them, and says that another name or
    `--fresh` would be right), or when this machine knows another place of the run, whose checkpoints are not in this
    one. As long as it has no checkpoint, nothing was learned, and all may change."""
    whole = anchored(run, run_file.absolute().parent)
    store = _store_of(whole, state, environ)
    _settle(store, whole)
    folder = folder_of(state, run.name)
    known = Known(run.name, folder, folder / RUN_FILE, store.url)
    _remember(known, whole)
    return known, store


def look(run: Run, run_file: Path, state: Path, environ: Mapping[str, str]) -> Store:
    """The store that `begin` would take, and what it would raise; nothing is written."""
    whole = anchored(run, run_file.absolute().parent)
    store = _store_of(whole, state, environ)
    _check(store, whole)
    return store


def known(state: Path) -> list[Known]:
    """By name."""
    try:
        folders = sorted((state.absolute() / "runs").iterdir())
    except OSError:
        return []
    found = []
    for folder in folders:
        if "." not in folder.name and (url := _url_of(folder)) is not None:
            found.append(Known(folder.name, folder, folder / RUN_FILE, url))
    return found


def find(state: Path, name_or_url: str) -> tuple[Known | None, Store]:
    """By name, or `s3://...` of a run that began elsewhere. Raises NotFound, which names those that there are."""
    runs = known(state)
    if "://" in name_or_url:
        store = open_store(name_or_url)
        return next((each for each in runs if each.store_url == store.url), None), store
    for each in runs:
        if each.name == name_or_url:
            return each, open_store(each.store_url)
    there_are = f"there are: {', '.join(each.name for each in runs)}" if runs else "there is none yet"
    raise NotFound(
        f"there is no run {name_or_url[:200]!r} in {state}; {there_are}",
        hint="`stoker train RUN.yaml` begins one; --state DIR names another state directory, s3://... a run elsewhere",
    )


def is_over(store: Store, run: Run) -> bool:
    """Whether its last launch completed it and what that left is still whole: then there is nothing to go on with.
    Raises InvalidInput when that was with other settings."""
    latest, is_completed = 0, False
    for each in record.follow(store):
        if each["kind"] == "launch":
            latest, is_completed = int(each["steps"]), False
        elif each["kind"] == "end":
            is_completed = each.get("state") == "completed"
    run_store = RunStore(store, run.name)
    head = run_store.head() if is_completed else None
    if head is None or not head[0].entries or head[0].entries[-1].step != latest:
        return False
    entry = head[0].entries[-1]
    try:
        manifest = run_store.manifest(entry)
        compare(manifest.state, {SETTINGS: learned(run)})
        for shard in manifest.shards:
            verify_shard(store, run_store.prefix(entry.name), shard)
    except Damaged:
        return False
    return True


def folder_of(state: Path, name: str) -> Path:
    """Of what this machine knows of the run."""
    return state.absolute() / "runs" / name


def forget(state: Path, name: str) -> None:
    """`--fresh`: what there is of it moves to `NAME.old-1` and so on; nothing is deleted. Raises InvalidInput when the
    checkpoints are where nothing can be moved."""
    folder = folder_of(state, name)
    url = _url_of(folder)
    if url is None:
        return
    place = _local(url)
    if place is None:
        raise InvalidInput(
            f"run {name} keeps its checkpoints in {url}, where nothing can be put aside",
            param="--fresh",
            hint="give the run another name, with `checkpoints` of its own",
        )
    if place != folder and place.exists():
        _put_aside(place)
    _put_aside(folder)


def learned(run: Run) -> dict[str, Any]:
    """The settings that change what is learned, by their paths as they are written: `optimizer.learningRate`. A
    transform goes by its file's name and its own."""
    found = {path: value for path, value in _flat(plain(run)) if not _may_change(path)}
    transform = run.dataset.transform
    return {
        **found,
        "dataset.transform": None if transform is None else transform.replace("\\", "/").rpartition("/")[2],
    }


def anchored(run: Run, here: Path) -> Run:
    """With the places that are relative to a run file in the folder `here` said whole."""

    def place(written: str | None) -> str | None:
        return None if written is None else _whole(written, here)

    data = run.dataset
    is_named = run.base in ("embedded", "scratch") or hub.is_meant(run.base, here)
    suites = tuple(each.model_copy(update={"data": place(each.data)}) for each in run.evaluation.suites)
    return run.model_copy(
        update={
            "base": run.base if is_named else place(run.base),
            "data": tuple(_whole(each, here) for each in run.data),
            "validation": place(run.validation),
            "checkpoints": place(run.checkpoints),
            "publish": place(run.publish),
            "dataset": data.model_copy(update={"transform": place(data.transform)}),
            "tracking": run.tracking.model_copy(update={"tensorboard": place(run.tracking.tensorboard)}),
            "evaluation": run.evaluation.model_copy(update={"suites": suites}),
        }
    )


# --- what was begun, and what is meant now ----------------------------------------------------------------------------


def _settle(store: Store, run: Run) -> None:
    """The store has the run file of this run, now or already. Raises Conflict."""
    text = dump(run).encode()
    for _ in range(_MOST_TRIES):
        condition = _check(store, run)
        if condition is None:
            return
        with contextlib.suppress(Changed):  # another process of the run was first
            store.put(RUN_FILE, [text], **condition)
            return
    raise Conflict(f"{store.url}/{RUN_FILE} is written again and again: is the run begun elsewhere, too?")


def _check(store: Store, run: Run) -> dict[str, Any] | None:
    """Against the run file in the store, and where that is another or gone against the newest checkpoint, which knows
    better what was learned. None: the file may stay; else on what condition it is to be written. Raises Conflict when
    the run cannot go on like this, NoneWhole among them."""
    settings, run_store = learned(run), RunStore(store, run.name)
    head = run_store.head()  # which raises when it is gone, and checkpoints are not
    before: dict[str, Any] = {}
    condition: dict[str, Any] = {"if_absent": True}
    with contextlib.suppress(NotFound):
        text, etag = store.read(RUN_FILE, most_bytes=_MOST_BYTES)
        begun = run_of(text, f"{store.url}/{RUN_FILE}")
        if begun.name != run.name:
            raise Conflict(
                f"{store.url} has the checkpoints of run {begun.name}, and this is run {run.name}",
                hint="each run needs `checkpoints` of its own",
            )
        before, condition = learned(begun), {"if_match": etag}
        if not settings_changed(before, settings):
            return None
    changes = settings_changed(_of_newest(run_store, head, before), settings)
    if changes:
        raise Conflict(
            f"run {run.name} was begun with other settings: {'; '.join(changes)}",
            hint="write them as they were; or another `name`, which begins another run; or `stoker train --fresh`, "
            "which begins this one anew and puts aside what there is",
        )
    return condition


def _of_newest(store: RunStore, head: tuple[Head, str] | None, otherwise: dict[str, Any]) -> Mapping[str, Any]:
    """The settings of the newest checkpoint whose manifest can be read. `otherwise`: of one that does not say them.
    Nothing when there is no checkpoint."""
    entries = () if head is None else head[0].entries
    for entry in reversed(entries):
        with contextlib.suppress(Damaged):
            settings: Mapping[str, Any] = store.manifest(entry).state.get(SETTINGS) or otherwise
            return settings
    return otherwise if entries else {}


def _has_checkpoints(store: Store, name: str) -> bool:
    head = RunStore(store, name).head()
    return head is not None and bool(head[0].entries)


def _may_change(path: str) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:n]) in MAY_CHANGE for n in range(1, len(parts) + 1))


def _flat(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(entry, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


# --- places -----------------------------------------------------------------------------------------------------------


def _store_of(run: Run, state: Path, environ: Mapping[str, str]) -> Store:
    """Raises Conflict when the run has checkpoints in another place and none in this one: a place that is mistyped, or
    left out, would begin it anew without a word."""
    folder = folder_of(state, run.name)
    store = open_store(environ.get(PLACE) or run.checkpoints or str(folder))
    before = _url_of(folder)
    if before is None or before == store.url or _has_checkpoints(store, run.name):
        return store
    if _has_checkpoints(open_store(before), run.name):
        said = f"{PLACE} of the environment" if environ.get(PLACE) else "`checkpoints`"
        raise Conflict(
            f"run {run.name} has its checkpoints in {before}, and {said} now says {store.url}, where there are none",
            hint="write the place as it was, or first move everything there; or give the run another name; or "
            "`stoker train --fresh`, which begins this one anew and puts aside what there is in a folder",
        )
    return store


def _whole(written: str, here: Path) -> str:
    return written if "://" in written else os.path.normpath(here / written)


def _remember(known: Known, run: Run) -> None:
    """Raises InvalidInput when the state directory cannot be written."""
    try:
        known.folder.mkdir(parents=True, exist_ok=True)
        if not known.run_file.exists():  # it is the store's own, or this machine sees the run for the first time
            _write(known.run_file, dump(run))
        if _url_of(known.folder) != known.store_url:
            _write(known.folder / _STORE_FILE, json.dumps({"url": known.store_url}) + "\n")
    except OSError as error:
        raise InvalidInput(f"{known.folder} cannot be written: {error.strerror}", param="state") from error


def _write(file: Path, text: str) -> None:
    """All or nothing."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _url_of(folder: Path) -> str | None:
    """None: no run is there."""
    try:
        url = json.loads((folder / _STORE_FILE).read_bytes())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) else None


def _local(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _put_aside(folder: Path) -> None:
    number = 1
    while True:
        aside = folder.with_name(f"{folder.name}.old-{number}")
        if not aside.exists():
            folder.rename(aside)
            return
        number += 1
