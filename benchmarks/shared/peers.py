"""Other people's tools, each in an environment of its own, made once in the temporary directory."""

import subprocess
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path


def environment(name: str, packages: Sequence[str]) -> Path | None:
    """The Python of the environment with these packages; None when they cannot be installed, which is said."""
    directory = Path(tempfile.gettempdir()) / f"stoker-peer-{name}"
    python = directory / "bin" / "python"
    if not (directory / "installed").exists():
        venv.create(directory, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        made = subprocess.run(install, capture_output=True, text=True, check=False)
        if made.returncode:
            print(f"{name} is left out: {' '.join(packages)} cannot be installed: {made.stderr.strip()[-300:]}")
            return None
        (directory / "installed").touch()
    return python


def versions(python: Path, packages: Sequence[str]) -> str:
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{p} {v(p)}' for p in sys.argv[1:]))"
    )
    return subprocess.run(
        [str(python), "-c", code, *packages], capture_output=True, text=True, check=True
    ).stdout.strip()
