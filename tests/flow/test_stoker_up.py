"""`stoker up` as a person and as a script meet it: it starts, says so once, survives what dies, and leaves nothing."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from flow_parts import ONE_MODEL, STOKER, STOP_S, Running, Start, begin, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.redis]


def stoker(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    return subprocess.run(
        [str(STOKER), *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=cwd, env=environ
    )


def assert_no_secret_shows(running: Running) -> None:
    """On a command line, which everybody on the machine can read, or in a log, which is sent around."""
    lines = "\n".join(running.left())
    assert "stoker.gateway" in lines
    assert "valkey-server" in lines
    for text in [lines, *(path.read_text() for path in running.state.glob("logs/*"))]:
        assert running.key not in text
        assert running.admin_key not in text


def test_it_starts_answers_stops_and_knows_its_keys_and_usage_the_next_time(start: Start, tmp_path: Path) -> None:
    first = start(spec=ONE_MODEL, state=tmp_path / "state")
    assert sorted(json.loads((first.state / "credentials.json").read_text())) == ["admin_key", "key", "pid", "url"]
    assert (first.state / "credentials.json").stat().st_mode & 0o777 == 0o600
    assert first.run_json()["state"] == "up"
    said = stoker("chat", "Say hello.", "--max-tokens", "4", "--state", str(first.state), cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.strip()

    load = stoker(
        *("load", "--rate", "10", "--seconds", "1", "--max-tokens", "4", "--json", "--state", str(first.state)),
        cwd=tmp_path,
    )
    assert load.returncode == 0, load.stdout
    sent = json.loads(load.stdout)["requests"]
    assert json.loads(load.stdout)["answered"] == sent > 0
    assert_no_secret_shows(first)
    assert first.stop(signal.SIGINT) == 0
    assert first.left() == []
    assert first.run_json()["state"] == "stopped"
    assert first.process.stdout is not None
    assert first.process.stdout.read() == b""

    second = start(spec=ONE_MODEL, state=tmp_path / "state")
    assert (second.key, second.admin_key) == (first.key, first.admin_key)
    usage = stoker("usage", "--json", "--state", str(second.state), cwd=tmp_path)
    assert json.loads(usage.stdout)["total"]["requests"] == 1 + sent
    assert second.stop(signal.SIGTERM) == 0
    assert second.left() == []


def test_what_is_killed_comes_back_and_ps_says_so(start: Start, tmp_path: Path) -> None:
    running = start(spec=ONE_MODEL)
    names = ["engine-general-1", "worker-general-1", "gateway", "redis"]
    for name in names:
        os.kill(running.pid_of(name), signal.SIGKILL)

    def all_are_back() -> bool:
        processes = {p["name"]: p for p in running.run_json()["processes"]}  # type: ignore[attr-defined]
        return all(processes[name]["state"] == "ready" and processes[name]["restarts"] >= 1 for name in names)

    wait_until(all_are_back, 60, lambda: f"not back: {running.run_json()}")
    shown = stoker("ps", "--json", "--state", str(running.state), cwd=tmp_path)
    assert {p["name"]: p["last_exit"] for p in json.loads(shown.stdout)["processes"]}["gateway"] == "signal SIGKILL"
    said = stoker("chat", "Say hello.", "--max-tokens", "4", "--state", str(running.state), cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    running.stop()
    assert running.left() == []


def test_when_the_supervisor_is_killed_everything_leaves_and_the_next_one_takes_over(
    start: Start, tmp_path: Path
) -> None:
    first = start(spec=ONE_MODEL, state=tmp_path / "state")
    first.stop(signal.SIGKILL)

    second = start(spec=ONE_MODEL, state=tmp_path / "state")

    first.wait_until_nothing_is_left()
    assert second.key == first.key
    second.stop()


def test_two_platforms_run_side_by_side(start: Start, tmp_path: Path) -> None:
    """And a third on the directory of one of them is refused, and disturbs nobody."""
    one, two = start(spec=ONE_MODEL), start(spec=ONE_MODEL)
    third = stoker("up", "--state", str(one.state), "--port", "0", cwd=tmp_path)

    assert third.returncode == 2
    assert f"error: another platform runs on {one.state}: pid {one.pid}, {one.url}\n\nhint: " in third.stderr
    for running in (one, two):
        said = stoker("chat", "Say hello.", "--max-tokens", "4", "--state", str(running.state), cwd=tmp_path)
        assert (said.returncode, said.stderr) == (0, "")
        running.stop()


def test_a_second_signal_ends_everything_at_once(start: Start) -> None:
    """The engine and Redis, which leave last, are killed too, though who leaves first stands still and is waited
    for. Half a second later, since before that it is the same wish."""
    running = start(spec=ONE_MODEL)
    os.kill(running.pid_of("gateway"), signal.SIGSTOP)
    running.process.send_signal(signal.SIGINT)
    wait_until(lambda: running.run_json()["state"] == "stopping", STOP_S, lambda: "the signal was not heard")
    is_another_wish_at = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() >= is_another_wish_at, STOP_S, lambda: "time stands still")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(STOP_S) == 0
    ends = {p["name"]: p["last_exit"] for p in running.run_json()["processes"]}  # type: ignore[attr-defined]
    assert (ends["gateway"], ends["engine-general-1"], ends["redis"]) == ("signal SIGKILL",) * 3
    running.wait_until_nothing_is_left()


def test_a_stop_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = begin(state, spec=ONE_MODEL)
    try:
        wait_until((state / "run.json").exists, 20, lambda: "never began")
        run = json.loads((state / "run.json").read_text())
        pids = {p["pid"] for p in run["processes"] if p["pid"]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert pids
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# What is refused, before anything starts


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = stoker("up", "--state", "state", "--port", str(port), cwd=tmp_path)

    assert done.returncode == 2
    assert f"error: port {port} on 127.0.0.1 is taken\n\nhint: choose another with --port N" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "state" / "run.json").exists()
    assert not (tmp_path / "state" / "credentials.json").exists()


def test_a_bad_platform_yaml_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "platform.yaml").write_text("gateway: {prot: 8080}\n")
    done = stoker("up", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "gateway.prot" in done.stderr
    assert "did you mean port?" in done.stderr
    assert not (tmp_path / ".stoker").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = stoker("up", "-f", "nowhere.yaml", cwd=tmp_path)

    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert not (tmp_path / ".stoker").exists()


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = stoker("up", "--state", "file/state", cwd=tmp_path)

    assert done.returncode == 2
    assert "cannot be used: Not a directory" in done.stderr


def test_a_ledger_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "platform.yaml").write_text(f"ledger: {{url: 'sqlite:///{tmp_path}/file/ledger.sqlite'}}\n")
    done = stoker("up", "--port", "0", cwd=tmp_path)

    assert done.returncode == 2
    assert f"the ledger sqlite:///{tmp_path}/file/ledger.sqlite cannot be made: " in done.stderr
    assert "\nhint: ledger.url of platform.yaml must name a file" in done.stderr
    assert not (tmp_path / ".stoker" / "run.json").exists()


def test_a_ledger_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").write_text("not a database " * 100)
    done = stoker("up", "--port", "0", "--state", "state", cwd=tmp_path)

    assert done.returncode == 1
    assert "error: the ledger's database refused: file is not a database\n" in done.stderr
    assert f"\nhint: the ledger is sqlite:///{tmp_path}/state/ledger.sqlite; " in done.stderr
    assert not (tmp_path / "state" / "run.json").exists()


def test_a_redis_of_somebody_else_that_does_not_answer(tmp_path: Path) -> None:
    """It was asked rightly and failed, so the exit code is 1; but nothing was started."""
    (tmp_path / "platform.yaml").write_text(ONE_MODEL + "redis: {url: 'redis://127.0.0.1:1/0'}\n")
    done = stoker("up", "--port", "0", cwd=tmp_path)

    assert done.returncode == 1
    assert "Redis said ConnectionError" in done.stderr
    assert not (tmp_path / ".stoker" / "run.json").exists()
