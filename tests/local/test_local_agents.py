"""Whether agents run here."""

import pytest

from stoker.base.errors import InvalidInput
from stoker.local import agents
from stoker.spec import loads


@pytest.mark.parametrize(("said", "runs"), [("null", True), ("true", True), ("false", False)])
def test_they_run_where_they_are_installed_unless_the_file_says_no(said: str, runs: bool) -> None:
    assert agents.decide(loads(f"agents: {{enabled: {said}}}")).agents.enabled is runs


def test_without_what_runs_them_they_run_nowhere_and_who_wants_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "is_installed", lambda: False)

    assert agents.decide(loads("")).agents.enabled is False
    with pytest.raises(InvalidInput) as caught:
        agents.decide(loads("agents: {enabled: true}"))
    assert (caught.value.param, caught.value.hint) == (
        "agents.enabled",
        'pip install "stoker[agents]", or leave agents.enabled out',
    )
