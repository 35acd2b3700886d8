"""Write tests/render/golden anew: what `stoker render` makes of the examples, to be read in the diff.

The small example in each mode; the large ones in one, since modes differ in what the small one shows, too.

    .venv/bin/python scripts/build_golden.py

Nothing runs this but a person: CI compares (tests/render/test_render_golden.py).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from stoker.render.run import render
from stoker.spec import Mode, load

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "render" / "golden"
EXAMPLES = ROOT / "examples"
RUN_FILES = ("finetune",)  # of `stoker train`, and no platforms


def modes(example: str) -> tuple[Mode, ...]:
    return get_args(Mode) if example == "platform" else ("karpenter",)


def outputs() -> Iterator[tuple[Path, dict[str, str]]]:
    """Each folder below GOLDEN with the texts that belong there."""
    for example in sorted(EXAMPLES.glob("*.yaml")):
        if example.stem in RUN_FILES:
            continue
        platform = load(example)
        for mode in modes(example.stem):
            yield GOLDEN / example.stem / mode, render(platform, mode=mode)


def main() -> None:
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for folder, texts in outputs():
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        print(f"{folder.relative_to(ROOT)}: {len(texts)} files")


if __name__ == "__main__":
    main()
