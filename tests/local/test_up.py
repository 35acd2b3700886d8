"""`up` in this process, with small children in place of the platform's: what it says when it cannot start."""

import io
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from local_children import DIES, GOOD, python

from stoker.base.errors import InvalidInput, QueueUnavailable, StokerError
from stoker.local import plan, ports, state, status
from stoker.local.board import Child, Role
from stoker.local.supervisor import Launch
from stoker.local.up import Options, is_ready, is_same_wish, up


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`up` owns its process: it sets the umask and the logging, and looks for platform.yaml where it stands."""
    monkeypatch.chdir(tmp_path)
    umask, handlers = os.umask(0o022), logging.getLogger().handlers[:]
    yield
    os.umask(umask)
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def children(*launches: Launch) -> object:
    return lambda platform, place, *, free_port: list(launches)


class WhenUp(io.StringIO):
    """A stdout that does something as soon as the platform is up."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self._do = do

    def write(self, text: str) -> int:
        self._do()
        return super().write(text)


def run_until_up(monkeypatch: pytest.MonkeyPatch, folder: Path, launch: Launch, do: Callable[[], None]) -> str:
    """What `up` says to people, from the start with one child to the end, which `do` asks for."""
    monkeypatch.setattr(plan, "processes", children(launch))
    monkeypatch.setattr("stoker.local.up.is_ready", lambda url: True)
    err = io.StringIO()
    up(Options(port=0, state=folder, as_json=True), out=WhenUp(do), err=err)
    return err.getvalue()


def test_a_process_that_does_not_start_is_named_with_its_last_words_and_all_is_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    redis = Launch(Child("redis", Role.REDIS), lambda urls: python(GOOD, "unix:///r"))
    url = f"http://127.0.0.1:{ports.claim('127.0.0.1', 0)}"
    engine = Launch(Child("engine-general-1", Role.ENGINE, url=url), lambda urls: python(DIES))
    monkeypatch.setattr(plan, "processes", children(redis, engine))
    out, err = io.StringIO(), io.StringIO()

    with pytest.raises(StokerError) as caught:
        up(Options(port=0, state=tmp_path / "state", as_json=True), out=out, err=err)

    assert caught.value.message == (
        "engine-general-1 does not start: exit code 7, 3 times in a row: there is no such model"
    )
    assert caught.value.hint == (
        f"everything was stopped again; the log is {tmp_path}/state/logs/engine-general-1.jsonl"
    )
    assert caught.value.exit_code == 1
    assert out.getvalue() == ""
    run = status.current(state.StateDirectory(tmp_path / "state"))
    assert run["state"] == "stopped"
    assert [(p["name"], p["state"], p["pid"]) for p in run["processes"]] == [  # type: ignore[attr-defined]
        ("redis", "stopped", None),
        ("engine-general-1", "stopped", None),
    ]
    lines = (tmp_path / "state" / "logs" / "supervisor.jsonl").read_text().splitlines()
    died = [event for event in map(json.loads, lines) if event["event"] == "process died"]
    assert [(e["name"], e["how"], e["attempt"]) for e in died] == [
        ("engine-general-1", "exit code 7", number) for number in (1, 2, 3)
    ]


def test_a_gateway_that_nobody_reaches_is_not_ready() -> None:
    assert is_ready("http://127.0.0.1:1") is False


def test_a_key_of_an_engine_that_is_not_set_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NOT_SET_KEY", raising=False)
    file = tmp_path / "platform.yaml"
    file.write_text(
        "llm: {models: {general: {engine: {url: 'http://127.0.0.1:1/v1', apiKeyEnv: NOT_SET_KEY}}}}\n"
        "gateway: {port: 0}\n"
    )
    monkeypatch.setattr(plan, "processes", lambda *given, **more: pytest.fail("something starts"))

    with pytest.raises(InvalidInput) as caught:
        up(Options(file=file, state=tmp_path / "state"), out=io.StringIO(), err=io.StringIO())

    assert caught.value.message == (
        "llm.models.general.engine.apiKeyEnv names the environment variable NOT_SET_KEY, which is not set"
    )
    assert caught.value.exit_code == 2


def test_two_signals_at_once_are_one_wish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`timeout` signals its child, then the group."""

    def both() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    redis = Launch(Child("redis", Role.REDIS), lambda urls: python(GOOD, "unix:///r"))
    said = run_until_up(monkeypatch, tmp_path / "state", redis, both)

    assert "stopping (again: kill at once)" in said
    assert "killing everything" not in said


@pytest.mark.parametrize(
    ("stopping_at", "now", "is_same"), [(None, 7.0, False), (7.0, 7.0, True), (7.0, 7.49, True), (7.0, 7.5, False)]
)
def test_a_signal_half_a_second_later_is_another(stopping_at: float | None, now: float, is_same: bool) -> None:
    assert is_same_wish(stopping_at, now) is is_same


# Says in a file whether it holds the lock, and which mode a file has that nobody took care of.
TELLS = (
    """
import os, sys
lock, told = os.stat(sys.argv[2]), sys.argv[3]
def inode(fd):
    try: return os.fstat(fd).st_ino
    except OSError: return None
with open(told, "w") as file:
    file.write(str(lock.st_ino in [inode(fd) for fd in range(3, 64)]))
"""
    + GOOD
)


def test_children_hold_the_lock_and_no_file_in_a_directory_that_others_may_enter_is_theirs_to_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    told = folder / "told"
    redis = Launch(Child("redis", Role.REDIS), lambda urls: python(TELLS, "unix:///r", str(folder / "lock"), str(told)))
    run_until_up(monkeypatch, folder, redis, lambda: os.kill(os.getpid(), signal.SIGTERM))

    assert told.read_text() == "True"
    assert folder.stat().st_mode & 0o777 == 0o755  # somebody made it so
    modes = {path.relative_to(folder): path.stat().st_mode & 0o777 for path in folder.rglob("*")}
    assert {"told", "lock", "ledger.sqlite", "run.json", "logs/redis.jsonl"} <= {str(path) for path in modes}
    assert [path for path, mode in modes.items() if mode != (0o700 if (folder / path).is_dir() else 0o600)] == []


def test_a_redis_that_does_not_answer_is_named_by_its_key_and_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_PW", "hunter2")
    file = tmp_path / "platform.yaml"
    file.write_text("redis: {url: 'redis://me@127.0.0.1:1/0', passwordEnv: REDIS_PW}\ngateway: {port: 0}\n")

    with pytest.raises(QueueUnavailable) as caught:
        up(Options(file=file, state=tmp_path / "state"), out=io.StringIO(), err=io.StringIO())

    assert caught.value.message.startswith(
        "redis.url names a server that cannot be used, redis://me@127.0.0.1:1/0: Redis said ConnectionError: "
    )
    assert caught.value.hint == "start it, or name another with redis.url; without redis.url Stoker starts its own"
    assert "hunter2" not in caught.value.message
    assert caught.value.exit_code == 1
