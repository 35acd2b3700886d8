"""Which platform, and which key."""

from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, NotFound
from stoker.cli.target import Asked, Target, find
from stoker.local.state import Credentials, StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = StateDirectory(tmp_path / "state")
    directory.create()
    directory.write_credentials(Credentials("http://state", "user-key", "admin-key", 7))
    return directory.path


ENVIRON = {"STOKER_URL": "http://environ", "STOKER_KEY": "environ-key"}


def test_url_and_key_win_over_everything(state: Path) -> None:
    asked = Asked("http://said", "said-key", state)

    assert find(asked, environ=ENVIRON) == Target("http://said", "said-key", None)


def test_a_state_directory_that_is_named_wins_over_the_environment(state: Path) -> None:
    assert find(Asked(state=state), environ=ENVIRON) == Target("http://state", "user-key", state)
    assert find(Asked(state=state), admin=True, environ=ENVIRON) == Target("http://state", "admin-key", state)


def test_the_environment_wins_over_a_state_directory_that_lies_around(state: Path) -> None:
    environ = {**ENVIRON, "STOKER_STATE": str(state)}

    assert find(Asked(), environ=environ) == Target("http://environ", "environ-key", None)
    assert find(Asked(), environ={"STOKER_STATE": str(state)}) == Target("http://state", "user-key", state)


def test_a_state_directory_in_the_current_one_is_found(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.rename(tmp_path / ".stoker")
    monkeypatch.chdir(tmp_path)

    assert find(Asked(), environ={}).key == "user-key"


def test_a_key_that_is_said_is_used_with_the_url_that_is_found(state: Path) -> None:
    assert find(Asked(key="said-key", state=state), environ={}) == Target("http://state", "said-key", state)
    assert find(Asked(key="said-key"), environ=ENVIRON) == Target("http://environ", "said-key", None)


def test_a_url_takes_the_key_of_the_environment_and_never_that_of_a_directory(state: Path) -> None:
    asked = Asked("http://said", state=state)

    assert find(asked, environ={"STOKER_KEY": "environ-key"}) == Target("http://said", "environ-key", None)
    with pytest.raises(InvalidInput, match="--url is given without a key"):
        find(asked, environ={})


@pytest.mark.parametrize(
    "said", ["http://said:8080", "http://said:8080/", "http://said:8080/v1", "http://said:8080/v1/"]
)
def test_a_url_may_end_as_sdks_want_it(said: str) -> None:
    assert find(Asked(said, "key"), environ={}) == Target("http://said:8080", "key", None)
    assert find(Asked(), environ={"STOKER_URL": said, "STOKER_KEY": "key"}) == Target("http://said:8080", "key", None)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the platform's URL is 'said:8080'; it must begin with http://") as caught:
        find(Asked("said:8080", "key"), environ={})
    assert caught.value.hint == "did you mean http://said:8080?"


def test_nothing_to_be_found_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NotFound, match=r"no platform was started in \.stoker") as caught:
        find(Asked(), environ={})
    assert "stoker up" in str(caught.value.hint)
