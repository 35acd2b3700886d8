"""What README and docs/training tell people to type and to write is there: commands, options, run files, pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stoker.cli.app import stoker
from stoker.spec import run_of

ROOT = Path(__file__).parents[2]
TRAINING = sorted((ROOT / "docs" / "training").glob("*.md"))
TOLD = [
    *TRAINING,
    *(ROOT / name for name in ("README.md", "docs/drills.md", "docs/guide-coverage.md", "examples/training/README.md")),
]


def commands(text: str) -> Iterator[str]:
    """Lines of blocks that begin with `stoker`, and the same within a sentence."""
    for line in text.splitlines():
        if found := re.match(r"(?:    |\$ |    \$ )?(stoker [a-z].*)$", line):
            yield re.split(r"  +|\s#", found[1])[0]
    yield from re.findall(r"`(stoker [a-z][^`\n]*)`", text)


def parse(line: str) -> None:
    """Raises click.UsageError for a command or an option that there is not. `a|b` is a."""
    words = [word.partition("|")[0] for word in shlex.split(line.replace("...", ""))][1:]
    command: click.Command = stoker
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        raise click.UsageError(f"no such command: {words[0]}")
    try:
        command.make_parser(click.Context(command)).parse_args(words)
    except click.BadOptionUsage:  # an option that is spoken of, without its value
        command.make_parser(click.Context(command)).parse_args([*words, "VALUE"])


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_every_command_that_is_told_is_there_with_its_options(page: Path) -> None:
    wrong = []
    for line in commands(page.read_text(encoding="utf-8")):
        try:
            parse(line)
        except (click.UsageError, ValueError) as error:
            wrong.append((line, str(error)))
    assert [each for each in wrong if not each[0].startswith("stoker deploy")] == []  # which is not built yet


def test_commands_are_found_and_a_wrong_one_is_refused() -> None:
    text = "    stoker train RUN.yaml --check\n\nSay `stoker runs pin NAME 3`.\n\n    stoker train FILE  # --x\n"
    assert list(commands(text)) == ["stoker train RUN.yaml --check", "stoker train FILE", "stoker runs pin NAME 3"]
    for line in ("stoker train RUN.yaml --chek", "stoker runs pinn NAME"):
        with pytest.raises(click.UsageError):
            parse(line)


def test_every_run_file_that_is_shown_is_one() -> None:
    shown = [
        block
        for page in TRAINING
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        if block.startswith("name:")
    ]
    assert len(shown) >= 3
    for block in shown:
        run_of(block)


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_every_page_and_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [link for link in linked if not (page.parent / link).exists() and link not in LATER] == []
    files = re.findall(r"`((?:examples|benchmarks|scripts|tests|docs)/[A-Za-z0-9_./-]+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


LATER = {"../benchmarks-training.md"}


def test_every_test_that_the_faults_name_is_there() -> None:
    text = (ROOT / "docs" / "training" / "faults.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    there = {file.stem for file in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) >= 8
    assert named - there == set()
