"""Whether agents run here, and where their files are."""

from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput
from stoker.local import agents
from stoker.spec import Platform, dump, loads

HERE = Path("/home/me/my project")


def resolved(text: str) -> Platform:
    return agents.resolve(loads(text), here=HERE)


@pytest.mark.parametrize(("said", "runs"), [("null", True), ("true", True), ("false", False)])
def test_they_run_where_they_are_installed_unless_the_file_says_no(said: str, runs: bool) -> None:
    assert resolved(f"agents: {{enabled: {said}}}").agents.enabled is runs


def test_without_what_runs_them_they_run_nowhere_and_who_wants_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "is_installed", lambda: False)

    assert resolved("").agents.enabled is False
    with pytest.raises(InvalidInput) as caught:
        resolved("agents: {enabled: true}")
    assert (caught.value.param, caught.value.hint) == (
        "agents.enabled",
        'pip install "stoker[agents]", or leave agents.enabled out',
    )


WITH_FILES = """
agents:
  definitions:
    mine: {graph: "graphs/mine.py:graph", tools: [notes, weather, sums]}
    yours: {graph: "package.graphs:make"}
  tools:
    notes: {search: {path: notes}}
    weather: {python: "/opt/tools/weather.py:now"}
    sums: {python: "tools/sums.py:add"}
"""


def test_paths_are_those_of_the_platforms_file_also_in_the_copy_that_processes_read() -> None:
    copy = loads(dump(resolved(WITH_FILES))).agents

    assert {name: agent.graph for name, agent in copy.definitions.items()} == {
        "mine": "/home/me/my project/graphs/mine.py:graph",
        "yours": "package.graphs:make",
    }
    notes = copy.tools["notes"].search
    assert notes is not None
    assert notes.path == "/home/me/my project/notes"
    assert copy.tools["weather"].python == "/opt/tools/weather.py:now"
    assert copy.tools["sums"].python == "/home/me/my project/tools/sums.py:add"
