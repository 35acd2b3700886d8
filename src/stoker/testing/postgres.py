"""A real PostgreSQL for tests: on a free port of loopback, with a password, its files gone with it.

    with PostgresServer() as postgres, postgres.database() as url:
        store = Store(url)

Needs the server's programs (`find_programs` says where they are looked for) and the extra `postgres`; no root, and as
root an account that is not, since PostgreSQL refuses root.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stoker.base.errors import Unavailable

if TYPE_CHECKING:
    import psycopg

USER = "stoker"
# Nothing here outlives the machine, so nothing is flushed to its disk; what a server that was killed had written stays.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def find_programs() -> Path:
    """The directory with `initdb` and `postgres`: of PATH, or the newest of Debian's. Raises Unavailable."""
    on_path = shutil.which("initdb")
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    for directory in [*([Path(on_path).resolve().parent] if on_path else []), *packaged]:
        if all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres")):
            return directory
    raise Unavailable(
        "there is no PostgreSQL server on this machine: no initdb on PATH or in /usr/lib/postgresql/*/bin",
        hint="install it, as with `apt-get install postgresql` (no server has to run)",
        code="postgres_missing",
    )


def _version(directory: Path) -> float:
    with suppress(ValueError):
        return float(directory.parent.name)
    return 0.0


class PostgresServer:
    """A context manager around a server of its own. `stop` and `start`, or `crash` and `start`, show what survives."""

    def __init__(self) -> None:
        self.password = secrets.token_urlsafe(12)
        self.port = 0
        self._programs = find_programs()
        self._as_user = _somebody()
        self._directory = Path(tempfile.mkdtemp(prefix="stoker-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, *, template: str = "template1") -> Iterator[str]:
        """The URL of a new database, a copy of `template`; gone afterwards, whoever is still connected."""
        self._databases += 1
        name = f"test_{self._databases}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self.url(name)
        finally:
            with self.connect("postgres") as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def connect(self, database: str) -> Iterator["psycopg.Connection[Any]"]:
        """A plain connection, each statement a transaction of its own."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    # --- its life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> "PostgresServer":
        try:
            self._make_cluster()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGQUIT)  # what it has not written yet is removed with the rest
        self._remove()

    def start(self, *, timeout_s: float = 30.0) -> None:
        """Returns when it answers; after `stop` or `crash`, on the same port again. Raises RuntimeError with its last
        words when it does not."""
        if self.port:
            self._serve(timeout_s)
            return
        for attempts_left in (2, 1, 0):  # another process may take the port that was free a moment ago
            self.port = _free_port()
            try:
                self._serve(timeout_s)
            except RuntimeError:
                if not attempts_left:
                    raise
            else:
                return

    def stop(self) -> None:
        """As an administrator does, who does not wait for those who are connected."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """All its processes end at once, in the middle of whatever they do; the next start recovers."""
        self._end(signal.SIGQUIT)

    def _make_cluster(self) -> None:
        for name in ("", "password"):
            place = self._directory / name
            if name:
                place.write_text(self.password)
            if self._as_user is not None:
                os.chown(place, self._as_user.pw_uid, self._as_user.pw_gid)
        options = ["--no-sync", "--username", USER, "--pwfile", str(self._directory / "password")]
        options += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        command = [str(self._programs / "initdb"), "--pgdata", str(self._data), *options]
        made = subprocess.run(  # noqa: S603 - the server's own program, with our options
            command, capture_output=True, text=True, check=False, **self._whose()
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb made no database: {(made.stderr or made.stdout).strip()[-2000:]}")

    def _serve(self, timeout_s: float) -> None:
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        said = self._directory / "server.log"
        with said.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - as above
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **self._whose()
            )
        until = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self._end(signal.SIGQUIT)
                raise RuntimeError(f"PostgreSQL did not start: {said.read_text()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        """Its own file says so, in the eighth line; the first one says that it is this server's and no older one's."""
        with suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().split()
            return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[-1:] == ["ready"]
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def _remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _whose(self) -> dict[str, Any]:
        """Who the server's programs run as, and where."""
        place = {"cwd": self._directory, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
        if self._as_user is None:
            return place
        return {**place, "user": self._as_user.pw_uid, "group": self._as_user.pw_gid, "extra_groups": []}


def _somebody() -> pwd.struct_passwd | None:
    """For root, an account that PostgreSQL runs as; None: we are one."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unavailable(
        "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody",
        hint="run the tests as another user",
        code="postgres_missing",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
