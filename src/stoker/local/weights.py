"""`llm.models.NAME.weights` -> a folder and the digest of what is in it, before anything is started."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from stoker.base.errors import InvalidInput, NotFound
from stoker.spec import Platform

if TYPE_CHECKING:
    from stoker.registry.models import Models, Version

REGISTERED = "models:"
"""What names a model of the state directory."""


@dataclass(frozen=True)
class Weights:
    folder: Path
    digest: str


def resolve(platform: Platform, *, state: Path, here: Path) -> Mapping[str, Weights]:
    """By model, for those that have some. `here`: the folder that paths are relative to. What is elsewhere is fetched
    into the state directory. Raises InvalidInput, NotFound, and Conflict when files are not what their digest says."""
    said = {name: model.weights for name, model in platform.llm.models.items()}
    return {name: _found(name, weights, state, here) for name, weights in said.items() if weights is not None}


def _found(name: str, weights: str, state: Path, here: Path) -> Weights:
    # Here, so that a platform with no weights of its own does not carry a registry around.
    from stoker.registry.weights import check, digest_of

    param = f"llm.models.{name}.weights"
    place, _, wanted = weights.partition("@")
    if place.startswith(REGISTERED):
        place, model = str(state.absolute() / "models"), place.removeprefix(REGISTERED)
    elif "://" not in place and (here / place / "config.json").is_file():
        folder = (here / place).absolute()
        digest = digest_of(folder)[0]
        if not digest.startswith(wanted):
            check(folder, wanted)
        return Weights(folder, digest)
    else:
        place, _, model = place.rstrip("/").rpartition("/")
        place = place if "://" in place else str((here / place).absolute())
    try:
        models, version = _version(place, model, wanted)
    except NotFound as error:
        raise InvalidInput(f"{weights}: {error.message}", param=param, hint=_HINT) from error
    folder = _folder(models, version, state)
    check(folder, version.digest)
    return Weights(folder, version.digest)


_HINT = "`stoker register RUN.yaml` publishes a model and says what to write here"


def _version(place: str, model: str, wanted: str) -> "tuple[Models, Version]":
    from stoker.registry.models import Models
    from stoker.registry.stores import open_store

    models = Models(open_store(place))
    if wanted:
        return models, models.version(model, wanted)
    version = models.current(model)
    if version is None:
        raise NotFound(f"no version of {model} has been registered in {models.store.url}")
    return models, version


def _folder(models: "Models", version: "Version", state: Path) -> Path:
    """Where its files are, if that is on this machine; else they are fetched."""
    url = urlsplit(models.store.url)
    if url.scheme == "file":
        return Path(unquote(url.path)) / models.place(version)
    folder = state.absolute() / "weights" / version.digest
    if not folder.exists():
        models.fetch(version, folder)
    return folder
