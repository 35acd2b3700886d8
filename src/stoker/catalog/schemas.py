"""Which kinds of Kubernetes objects there are, and the structural schema of each: as shipped, and as the user added.

Reading one kind reads the file of that kind (or the packages of Kubernetes' API that its pods need), and no other.
What the user added (`stoker schemas add`) is looked at first. It knows nothing of manifests: `lint/structural` does.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from stoker.catalog import core_values, schema_files
from stoker.catalog.schema_files import Tree, label

SHIPPED = Path(__file__).parent / "data" / "schemas"
FOLDER_VARIABLE = "STOKER_SCHEMAS"
DEFAULT_KUBERNETES = "1.36"


@dataclass(frozen=True, eq=False)
class Schema:
    """The structural schema of one kind in one version.

    Subtrees of a core kind may be `{"$ref": name}`: `resolve` gives what stands there.
    """

    api_version: str
    kind: str
    scope: str
    """`Namespaced` or `Cluster`."""
    served: bool
    """False for what no current release of its project serves any more: the API server does not know it."""
    note: str
    """Why it is not served, and what is written instead; empty where it is served."""
    source: str
    """`repository@tag` that it was taken from."""
    tree: Tree
    core: bool = False
    """One of Kubernetes' own kinds. Their enums, defaults and cross-field rules are code: `lint/core_validation`."""
    kubernetes: str = DEFAULT_KUBERNETES
    folder: Path = SHIPPED
    remembered: dict[str, Any] = field(default_factory=dict, repr=False)
    """For who validates: what was computed from this schema once."""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    def resolve(self, tree: Tree) -> Tree:
        """The subtree itself, or the definition that its `$ref` names; `{}`, which allows all, for an unknown one."""
        ref = tree.get("$ref")
        return tree if ref is None else definition(ref, self.kubernetes, self.folder)


def user_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where `stoker schemas add` writes: `STOKER_SCHEMAS`, or `stoker/schemas` in the user's data directory."""
    environ = os.environ if environ is None else environ
    if environ.get(FOLDER_VARIABLE):
        return Path(environ[FOLDER_VARIABLE])
    home = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/")) / ".local" / "share"
    return Path(home) / "stoker" / "schemas"


def find(
    api_version: str, kind: str, kubernetes: str = DEFAULT_KUBERNETES, *, folder: Path | None = None
) -> Schema | None:
    """The schema of a kind; None where nobody here knows it. A minor that is not here is answered by the nearest."""
    answered = False
    for place in _folders(folder):
        found = _in(place, api_version, kind, kubernetes, core=not answered)
        if found is not None:
            return found
        answered = answered or kubernetes in index(place)["minors"]
    return None


def variants(api_version: str, kind: str) -> list[Schema]:
    """The schemas that several releases gave to one version of a custom kind, the one that `find` gives first."""
    entries = index(SHIPPED)["custom"].get(label(api_version, kind), [])
    return [_custom(SHIPPED, api_version, kind, i) for i in range(len(entries))]


def kinds(*, folder: Path | None = None) -> list[tuple[str, str]]:
    """Every (apiVersion, kind) that has a schema, sorted; those that are no longer served among them."""
    found = {each for place in _folders(folder) for section in ("core", "custom") for each in index(place)[section]}
    return sorted((each.partition(" ")[0], each.partition(" ")[2]) for each in found)


def versions_of(group: str, kind: str, *, folder: Path | None = None) -> list[str]:
    """The versions of a kind that are served, the most mature first: `["v1", "v1beta1"]`."""
    found = set()
    for api_version, name in kinds(folder=folder):
        here, _, version = api_version.rpartition("/")
        if here == group and name == kind and _served(api_version, name, folder):
            found.add(version)
    return sorted(found, key=maturity)


def groups(*, folder: Path | None = None) -> list[str]:
    """Every API group with a schema; the core group is the empty text."""
    return sorted({api_version.rpartition("/")[0] for api_version, _ in kinds(folder=folder)})


def known_group(group: str, *, folder: Path | None = None) -> bool:
    return group in groups(folder=folder)


def minors(*, folder: Path | None = None) -> list[str]:
    """The Kubernetes minors whose core kinds are here, oldest first."""
    found = {minor for place in _folders(folder) for minor in index(place)["minors"]}
    return sorted(found, key=_minor_number)


def index(folder: Path) -> Tree:
    """What a folder has; nothing where there is no folder."""
    path = folder / schema_files.INDEX
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return schema_files.empty_index()
    return _index(path, changed)


@lru_cache(maxsize=16)
def _index(path: Path, changed: int) -> Tree:
    found = schema_files.unpack(path)
    return found if isinstance(found, dict) else schema_files.empty_index()


def _folders(folder: Path | None) -> tuple[Path, ...]:
    return (folder or user_folder(), SHIPPED)


def _in(folder: Path, api_version: str, kind: str, kubernetes: str, *, core: bool) -> Schema | None:
    here = index(folder)
    name = label(api_version, kind)
    if name in here["custom"]:
        return _custom(folder, api_version, kind, 0)
    entry = here["core"].get(name)
    if entry is None or not core:
        return None
    if kubernetes in here["minors"] and kubernetes not in entry["minors"]:
        return None
    if kubernetes not in here["minors"] and folder != SHIPPED:
        return None
    return _core(folder, api_version, kind, _nearest(kubernetes, entry["minors"]))


@lru_cache(maxsize=1024)
def _custom(folder: Path, api_version: str, kind: str, which: int) -> Schema:
    entry = index(folder)["custom"][label(api_version, kind)][which]
    return Schema(
        api_version=api_version,
        kind=kind,
        scope=entry["scope"],
        served=entry["served"],
        note=entry["note"],
        source=entry["source"],
        tree=schema_files.unpack(folder / entry["file"]),
        folder=folder,
    )


@lru_cache(maxsize=1024)
def _core(folder: Path, api_version: str, kind: str, minor: str) -> Schema:
    here = index(folder)
    entry = here["core"][label(api_version, kind)]
    return Schema(
        api_version=api_version,
        kind=kind,
        scope=entry["scope"],
        served=True,
        note="",
        source=here["minors"][minor],
        tree=definition(entry["name"], minor, folder),
        core=True,
        kubernetes=minor,
        folder=folder,
    )


@lru_cache(maxsize=8192)
def definition(name: str, minor: str, folder: Path = SHIPPED) -> Tree:
    """One definition of Kubernetes' API by its full name; `{}` where there is none."""
    package = _package(schema_files.package_of(name), folder)
    place = package.get(minor, {}).get(name)
    found = {} if place is None else package["trees"][place]
    return core_values.completed(name, found) if isinstance(found, dict) else {}


@lru_cache(maxsize=256)
def _package(name: str, folder: Path) -> Tree:
    try:
        found = schema_files.unpack(folder / "core" / f"{name}.json.gz")
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}


def forget() -> None:
    """Read anew what was changed on disk: for the command that changes it, and for tests."""
    for cached in (_index, _custom, _core, definition, _package):
        cached.cache_clear()


def _served(api_version: str, kind: str, folder: Path | None) -> bool:
    for place in _folders(folder):
        entries = index(place)["custom"].get(label(api_version, kind))
        if entries:
            return bool(entries[0]["served"])
    return True


def _nearest(kubernetes: str, here: list[str]) -> str:
    if kubernetes in here:
        return kubernetes
    wanted = _minor_number(kubernetes)
    return min(here, key=lambda each: (abs(_minor_number(each) - wanted), -_minor_number(each)))


def _minor_number(minor: str) -> int:
    tail = minor.rpartition(".")[2]
    return int(tail) if tail.isdecimal() else 0


def maturity(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' own order of versions: v2, v1, v2beta1, v1beta1, v1alpha1, then anything else."""
    major, level, minor = 0, 0, 0
    digits = version.removeprefix("v")
    for rank, word in ((2, "beta"), (1, "alpha")):
        if word in digits:
            first, _, last = digits.partition(word)
            if first.isdecimal() and last.isdecimal():
                major, level, minor = int(first), rank, int(last)
    if digits.isdecimal():
        major, level = int(digits), 3
    return (-level, -major, -minor, version)
