"""What `stoker simulate` can tell a person before the run: what they asked for in a form that there is not, a file that
cannot be written. A run may take minutes."""

import io
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, StokerError


class Number(click.FloatRange):
    """A finite one: `nan` is in no range, and `inf` is no amount of anything."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is no number to reckon with.", param, ctx)
        return found


def named_weights(texts: Sequence[str]) -> dict[str, str]:
    """`general=Qwen/Qwen3-8B` of --weights; whether there are such models is for `reading` to say. Raises
    InvalidInput."""
    found: dict[str, str] = {}
    for each in texts:
        model, _, name = (part.strip() for part in each.partition("="))
        if not model or not name or found.get(model, name) != name:
            why = f", and {model} has {found[model]} already" if model in found and name else ""
            raise InvalidInput(
                f"--weights is {each[:60]!r}{why}",
                param="--weights",
                hint="MODEL=WEIGHTS, once for each model, such as general=Qwen/Qwen3-8B",
            )
        found[model] = name
    return found


def is_region(name: str) -> None:
    from stoker.catalog import ec2, spot

    known = sorted({*ec2.regions(), *spot.regions()})
    if name not in known:
        raise InvalidInput(
            f"--region is {name[:60]!r}, which is not known",
            param="--region",
            hint=f"there are {', '.join(known)}",
        )


def can_be_explained(what: str) -> None:
    """As far as that is known before the run: whether it is asked for in a form that there is."""
    from stoker.simulate import moments

    word, _, name = what.strip().partition(" ")
    if word in ("pod", "node") and name.strip():
        return
    if word in ("pod", "node"):
        raise InvalidInput(f"--explain {word}: which one?", param="--explain", hint=f"`--explain {word} NAME`")
    try:
        moments.parse(what, "2026-01-05T00:00:00")
    except InvalidInput as error:
        error.hint = f"{error.hint}; pod NAME; node NAME"
        raise


def can_be_written(path: Path) -> None:
    """Said before a run of minutes, and not after it."""
    folder = path.parent
    if not path.name:
        raise InvalidInput("--html is empty", param="--html", hint="a file, such as report.html")
    if not folder.is_dir():
        raise InvalidInput(
            f"{path} cannot be written: there is no folder {folder}",
            param="--html",
            hint="a file in a folder that exists",
        )
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InvalidInput(
            f"{path} cannot be written: Permission denied", param="--html", hint="a file in a folder of your own"
        )


@contextmanager
def to_stdout() -> Iterator[None]:
    """A disk that is full and a reader who has gone are no fault of Stoker. Raises NotWritten."""
    if sys.stdout is None:
        raise NotWritten("stdout cannot be written: it is closed")
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = io.StringIO()  # what is left in the old one would fail once more as the process ends
        raise NotWritten(f"stdout cannot be written: {error.strerror}") from error


class NotWritten(StokerError):
    """The report was made, and found no place."""

    code = "not_written"


def replace(path: Path, text: str) -> None:
    """At once or not at all. What is a link stays one."""
    target = path.resolve()
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(beside).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """It can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
