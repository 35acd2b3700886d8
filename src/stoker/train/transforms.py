"""`dataset.transform`: a person's own function on each example, with chance that is a pure function of where it is."""

import hashlib
import importlib.util
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput

Function = Callable[[dict[str, Any], random.Random], Mapping[str, Any]]


@dataclass(frozen=True)
class Transform:
    name: str
    """`FILE.py:NAME`, as it was written."""
    function: Function
    digest: str
    """sha256 of the file; what it imports is not in it."""

    def __call__(self, example: dict[str, Any], *, seed: int, epoch: int, index: int) -> object:
        """Raises ValueError in words for whatever the function raises."""
        try:
            return self.function(example, chance(seed, epoch, index))
        except Exception as exc:  # somebody else's code: its error is told with the example that it stumbled on
            raise ValueError(f"{self.name} raised {type(exc).__name__}: {exc}") from exc


def chance(seed: int, epoch: int, index: int) -> random.Random:
    """The same for the same three, whichever process asks, and whatever it has done before."""
    return random.Random(hashlib.sha256(f"{seed} {epoch} {index}".encode()).digest())


def load(name: str, here: Path) -> Transform:
    """Raises InvalidInput: no such file, no such function, or the file cannot be run."""
    file, _, function = name.rpartition(":")
    path = here / file
    try:
        source = path.read_bytes()
    except OSError as exc:
        raise InvalidInput(
            f"dataset.transform is {name}, and {path} cannot be read: {exc.strerror}", param="dataset.transform"
        ) from exc
    digest = hashlib.sha256(source).hexdigest()
    module_name = f"stoker_transform_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"dataset.transform is {name}; {file} is no Python file", param="dataset.transform")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses of the file look for it there
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        del sys.modules[module_name]
        raise InvalidInput(
            f"dataset.transform is {name}, and {file} raised {type(exc).__name__}: {exc}", param="dataset.transform"
        ) from exc
    found = getattr(module, function, None)
    if not callable(found):
        raise InvalidInput(
            f"dataset.transform is {name}, and {file} has no function {function}",
            param="dataset.transform",
            hint=f"def {function}(example: dict, rng: random.Random) -> dict: would be right",
        )
    return Transform(name, found, digest)
