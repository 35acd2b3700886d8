"""The state directory: who holds it, what is kept in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, NotFound, StateInUse, StokerError
from stoker.local.state import Credentials, StateDirectory


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.create()
    return made


def test_it_is_made_for_its_owner_only(state: StateDirectory) -> None:
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert state.logs.is_dir()
    assert state.metadata.stat().st_mode & 0o777 == 0o700


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    with pytest.raises(InvalidInput, match="cannot be used: File exists"):
        StateDirectory(tmp_path / "state").create()


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the state directory /proc/stoker cannot be used") as caught:
        StateDirectory(Path("/proc/stoker")).create()
    assert caught.value.hint == "name a directory that you may write to with --state DIR"
    assert caught.value.exit_code == 2


def test_who_comes_second_is_told_who_is_there(state: StateDirectory) -> None:
    with state.lock() as lock:
        lock.say(pid=os.getpid(), url="http://127.0.0.1:8080")
        waited: list[float] = []

        with pytest.raises(StateInUse) as caught:
            state.lock(sleep=waited.append)
        assert caught.value.message == (
            f"another platform runs on {state.path}: pid {os.getpid()}, http://127.0.0.1:8080"
        )
        assert 0.5 <= sum(waited) < 0.6
        assert state.is_locked()
    assert not state.is_locked()


def test_the_lock_is_free_again_when_its_holder_is_gone(state: StateDirectory) -> None:
    with state.lock() as lock:
        lock.say(pid=os.getpid(), url="http://x")
    with state.lock():
        pass


def test_what_a_killed_supervisor_left_behind_is_waited_for(state: StateDirectory) -> None:
    """A process that inherited the lock still lives; the supervisor that the lock names does not."""
    lock = state.lock()
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    lock.say(pid=ended.pid, url="http://x")
    left = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fd])
    assert left.stdin is not None
    os.close(lock.fd)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if sum(waited) > 3 and left.poll() is None:
            assert left.stdin is not None
            left.stdin.close()
            left.wait()

    with state.lock(sleep=sleep):
        assert 3 < sum(waited) < 4


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies are told apart by /proc")
def test_a_killed_supervisor_that_nobody_has_reaped_yet_is_dead(state: StateDirectory) -> None:
    killed = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    lock = state.lock()
    lock.say(pid=killed.pid, url="http://x")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 60:
            os.close(lock.fd)  # the last of its processes leaves after 3 s

    with state.lock(sleep=sleep):
        assert len(waited) == 60
    killed.communicate()


def test_what_never_leaves_is_named_as_what_it_is(state: StateDirectory) -> None:
    with state.lock() as lock:
        lock.say(pid=2**22 + 1, url="http://x")  # above Linux's and macOS's largest pid
        waited: list[float] = []

        with pytest.raises(StateInUse, match=r"processes of a platform that was killed \(pid 4194305\) still use"):
            state.lock(sleep=waited.append)
        assert 10.0 <= sum(waited) < 10.1


def test_credentials_are_kept_for_their_owner_only(state: StateDirectory) -> None:
    credentials = Credentials("http://127.0.0.1:8080", "sk-stoker-a", "sk-stoker-b", 7)
    state.write_credentials(credentials)

    assert state.read_credentials() == credentials
    assert state.credentials.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in state.path.iterdir() if path.name.startswith(".")] == []


def test_no_credentials_is_not_an_error_and_damaged_ones_are(state: StateDirectory) -> None:
    assert state.read_credentials() is None
    state.credentials.write_text('{"url": "http://x"}')

    with pytest.raises(StokerError, match=r"credentials\.json is damaged"):
        state.read_credentials()


def test_what_runs_is_written_and_read(state: StateDirectory) -> None:
    with pytest.raises(NotFound, match="no platform was started in"):
        state.read_run()
    state.write_run({"state": "up"})

    assert state.read_run() == {"state": "up"}
    assert json.loads(state.run.read_text()) == {"state": "up"}


def test_what_a_person_wants_of_a_model_is_kept_until_they_want_it_no_more(state: StateDirectory) -> None:
    assert state.read_by_hand() == {}
    state.write_by_hand("general", 2)
    state.write_by_hand("code", 0)
    assert state.read_by_hand() == {"general": 2, "code": 0}
    assert state.by_hand.stat().st_mode & 0o777 == 0o600
    state.write_by_hand("general", None)
    assert state.read_by_hand() == {"code": 0}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"general": -1}', '{"general": "2"}', '{"general": true}'])
def test_what_we_did_not_write_is_nobodys_wish(state: StateDirectory, text: str) -> None:
    state.by_hand.write_text(text)
    assert state.read_by_hand() == {}
