"""A real Redis for tests: starts in a fraction of a second, needs no root and no port, leaves nothing behind."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from stoker.queue import server


class RedisServer:
    """A context manager around a Redis of its own; `url` is where it answers.

    with RedisServer() as redis:
        queue = RedisQueue(redis.url)

    Its data live in `directory` (a new temporary one that is removed at the end, unless one is given), so that `kill`
    or `stop` followed by `start` shows what survives.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._is_temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="stoker-redis-")) if directory is None else directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, *, timeout_s: float = 20.0) -> None:
        """Returns when it answers. Raises RuntimeError with its last words when it does not."""
        command = server.command(self.directory)
        self.url = command.url
        said = self.directory / "server.log"
        with said.open("ab") as out:
            self._process = subprocess.Popen(command.argv, stdout=out, stderr=out)  # noqa: S603 - our own server
        until = time.monotonic() + timeout_s
        while not server.answers(command.socket):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"the Redis server did not start: {said.read_text()[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it as a platform does: it writes what it has, then goes."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_temporary:
            self.kill()  # nobody reads what it would write, which takes a tenth of a second
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            self.stop()
