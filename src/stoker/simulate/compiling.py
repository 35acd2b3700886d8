"""`sharing` as machine code, where numba is installed. The source is one; this makes its compiled twin.

numba takes a moment to import, and the first run on a machine compiles for some seconds; the code is then kept beside
the source, or in the user's cache folder where that cannot be written, or nowhere where neither can.
"""

import functools
import os
from collections.abc import Callable, Mapping
from types import FunctionType, SimpleNamespace
from typing import Any

from stoker.simulate import sharing

SWITCH = "STOKER_NO_NUMBA"
"""Set in the environment to anything: nothing is compiled."""


INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Of functions that only others of them call. Wrappers that unpack the whole state are half of the compilation."""
LEAN: Any = {"_nrt": False}
"""Nothing is allocated there, so no reference is counted: with counts each call would touch each array, and compiled
code would be no faster than the interpreter."""


def twin() -> Any | None:
    """The functions of `sharing` that can be called from outside, compiled. None without numba, where it is switched
    off, and where it does not go with the numpy that is there."""
    return None if os.environ.get(SWITCH) else _twin()


@functools.cache
def _twin() -> Any | None:
    try:
        import numba
    except ImportError:
        return None
    names = dict(vars(sharing))
    for function in (*sharing.PARTS, *sharing.ENTRIES):
        # Its own globals, so that what it calls is compiled, too, and `sharing` itself stays as it is.
        own = FunctionType(function.__code__, names, function.__name__)
        options = LEAN if function in sharing.ENTRIES else LEAN | INSIDE
        names[function.__name__] = compiled(numba.njit, own, options)
    return SimpleNamespace(**{each.__name__: names[each.__name__] for each in sharing.ENTRIES})


def compiled(njit: Callable[..., Any], function: FunctionType, options: Mapping[str, bool]) -> Any:
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it could write to.
        return njit(**options)(function)
