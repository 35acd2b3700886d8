"""Size of the installed environment: a plain `pip install` of Stoker into a new virtual environment, by package.

    .venv/bin/python benchmarks/up/installed_size.py

Beside it the same environment when it is empty (pip alone), since that is what everything else is added to.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from machine import describe

REPOSITORY = Path(__file__).parents[2]


def size_bytes(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def main() -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        packages = next(Path(directory).glob("lib/python*/site-packages"))
        empty = size_bytes(Path(directory))
        subprocess.run(
            [f"{directory}/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", str(REPOSITORY)], check=True
        )
        whole = size_bytes(Path(directory))
        sizes = sorted(
            ((size_bytes(p) if p.is_dir() else p.stat().st_size, p.name) for p in packages.iterdir()), reverse=True
        )
    print(f"empty environment  {empty / 1e6:7.1f} MB")
    print(
        f"with Stoker        {whole / 1e6:7.1f} MB, {len([n for _, n in sizes if n.endswith('.dist-info')])} packages"
    )
    for size, name in sizes[:12]:
        print(f"  {name:20} {size / 1e6:7.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
