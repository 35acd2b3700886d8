"""What is rendered of each example, byte for byte: a change of the output is seen in the diff of a change.

`.venv/bin/python scripts/build_golden.py` writes the files anew; nothing here does.
"""

from pathlib import Path
from typing import get_args

import pytest

from stoker.render.run import render
from stoker.spec import Mode, load

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
RUN_FILES = ("finetune",)  # of `stoker train`, and no platforms
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml") if path.stem not in RUN_FILES)
CASES = [
    (example, mode)
    for example in EXAMPLES
    for mode in get_args(Mode)
    if example == "platform" or mode == "karpenter"  # other modes differ in what the small example shows, too
]
AGAIN = "scripts/build_golden.py writes them anew"


@pytest.mark.parametrize(("example", "mode"), CASES)
def test_an_example_is_rendered_as_it_was(example: str, mode: Mode) -> None:
    folder = GOLDEN / example / mode
    there = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    texts = render(load(ROOT / "examples" / f"{example}.yaml"), mode=mode)
    assert sorted(texts) == sorted(there), AGAIN
    for name, text in texts.items():
        assert text == there[name], f"{name}: {AGAIN}"


def test_there_is_no_golden_file_of_an_example_that_is_gone() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == EXAMPLES
