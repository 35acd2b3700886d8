"""docs/questions: each page names commands that are there, metrics that some process has, and pages that exist."""

import re
from pathlib import Path

import click
import pytest

from stoker.cli.app import stoker
from stoker.render.metric_names import COUNTERS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path for path in (DOCS / "questions").glob("*.md") if path.name != "index.md")
_METRIC = re.compile(r"\b(?:stoker_[a-z_]+|vllm:[a-z_]+|DCGM_[A-Z_]+)\b")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def commands(text: str) -> list[list[str]]:
    """What begins with `stoker` in code, up to where two spaces end it."""
    lines = [re.split(r"\s{2,}", line[4:])[0] for line in text.splitlines() if line.startswith("    stoker ")]
    return [each.split() for each in [*lines, *re.findall(r"`(stoker [^`]+)`", text)]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_to_run_and_to_look_at_is_there(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# ")
    assert text.splitlines()[0].endswith("?") or ", or not" in text.splitlines()[0]
    said = commands(text)
    assert said
    for words in said:
        command: click.Command = stoker
        for word in words[1:]:
            if isinstance(command, click.Group) and word in command.commands:
                command = command.commands[word]
        assert command is not stoker, words
        known = {option for each in command.params for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known, words
        assert "--state" not in words, "that is a directory; of tasks it is --only"
    found = {re.sub("_bucket$", "", name) for name in _METRIC.findall(text)}
    listed = set(_METRIC.findall((DOCS / "telemetry" / "metrics.md").read_text())) | set(COUNTERS)
    assert found
    assert found <= listed


@pytest.mark.parametrize("page", [*PAGES, DOCS / "questions" / "index.md"], ids=lambda page: page.stem)
def test_every_link_of_a_question_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).resolve().is_file(), target


def test_every_question_is_in_the_index() -> None:
    assert set(_LINK.findall((DOCS / "questions" / "index.md").read_text())) == {page.name for page in PAGES}
