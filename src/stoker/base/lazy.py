"""Names of a package that are loaded when they are first used (PEP 562), so that a process which needs a few of its
modules does not wait for all of them. For type checkers the package imports them, too, under TYPE_CHECKING."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def names_of(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The `__getattr__` of `package`. `homes`: which of its modules has which names."""
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return get
