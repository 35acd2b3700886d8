"""The state directory of a platform: who holds it, its keys, and what runs.

    lock               held (flock) by the supervisor and every process that it started; says by whom
    platform.yaml      the normalised spec, with every default filled in
    credentials.json   mode 0600: url, key, admin_key, pid
    run.json           what runs now, for `stoker ps`
    scale.json         how many replicas run and why, for `stoker scale`
    by-hand.json       how many replicas a person wants of a model, written by `stoker scale MODEL N`
    redis/             the queue's files          ledger.sqlite      keys and usage
    logs/              one <process>.jsonl each   journals/          what each gateway has in flight
    agents/            runs' workspaces                agents.sqlite      runs, events and schedules of agents
    prometheus/        prometheus.yml, who is scraped, and rules: for a Prometheus that a person starts
    metadata/          <worker>: the URL of a metadata service, while a drill plays that worker's instance

It is made for its owner only. One that is there keeps its mode; what is written in it is private all the same. Nothing
is ever removed from it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from stoker.base.errors import InvalidInput, NotFound, StateInUse, StokerError

_HOLD_RETRY_S = 0.5  # `stoker ps` holds the lock for an instant to see whether anybody else does
_LEAVE_S = 10.0  # what a killed supervisor leaves behind is gone by then


@dataclass(frozen=True)
class Credentials:
    """How to reach a platform. The keys of one state directory never change; the rest is of its latest start."""

    url: str
    key: str
    admin_key: str
    pid: int


class StateDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def spec(self) -> Path:
        return self.path / "platform.yaml"

    @property
    def credentials(self) -> Path:
        return self.path / "credentials.json"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def scale(self) -> Path:
        return self.path / "scale.json"

    @property
    def by_hand(self) -> Path:
        return self.path / "by-hand.json"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.sqlite"

    @property
    def journals(self) -> Path:
        return self.path / "journals"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def agents(self) -> Path:
        return self.path / "agents"

    @property
    def agents_database(self) -> Path:
        return self.path / "agents.sqlite"

    @property
    def prometheus(self) -> Path:
        return self.path / "prometheus"

    @property
    def metadata(self) -> Path:
        return self.path / "metadata"

    def create(self) -> None:
        """Make the directory, for its owner only. Raises InvalidInput when that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self.metadata.mkdir(mode=0o700, exist_ok=True)
            self.prometheus.mkdir(mode=0o700, exist_ok=True)
            self.agents.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._unusable(PermissionError(13, "you may not write there"))

    def lock(self, *, sleep: Callable[[float], None] = time.sleep) -> "Lock":
        """Hold the directory until the lock is closed here and in every process that inherited it. Raises StateInUse.

        When the supervisor that held it is gone, the processes that it started are about to leave too: they are waited
        for, so that two Redis servers never write the same files.
        """
        try:
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        waited_s = 0.0
        while not _try_lock(fd, fcntl.LOCK_EX):
            holder = _read_holder(fd)
            patience_s = _HOLD_RETRY_S if _is_alive(holder.get("pid")) else _LEAVE_S
            if waited_s >= patience_s:
                os.close(fd)
                raise self._in_use(holder)
            sleep(0.05)
            waited_s += 0.05
        return Lock(fd)

    def is_locked(self) -> bool:
        """Whether a platform runs here, or its last processes are leaving."""
        try:
            fd = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def read_credentials(self) -> Credentials | None:
        """None when no platform was ever started here. Raises StokerError when the file is not what we wrote."""
        try:
            text = self.credentials.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fields = json.loads(text)
            return Credentials(str(fields["url"]), str(fields["key"]), str(fields["admin_key"]), int(fields["pid"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StokerError(
                f"{self.credentials} is damaged",
                hint="remove it, and the next `stoker up` makes new keys (the old ones stay valid)",
            ) from error

    def write_credentials(self, credentials: Credentials) -> None:
        self._write(self.credentials, json.dumps(asdict(credentials), indent=1) + "\n")

    def write_spec(self, text: str) -> None:
        self._write(self.spec, text)

    def write_run(self, run: Mapping[str, object]) -> None:
        self._write(self.run, json.dumps(run, indent=1) + "\n")

    def read_run(self) -> dict[str, object]:
        """What ran here last. Raises NotFound when nothing ever did."""
        try:
            run = json.loads(self.run.read_text())
        except (OSError, ValueError) as error:
            raise NotFound(
                f"no platform was started in {self.path}",
                hint="start one with `stoker up`, or name one with --state DIR",
            ) from error
        return run if isinstance(run, dict) else {}

    def write_scale(self, scale: Mapping[str, object]) -> None:
        self._write(self.scale, json.dumps(scale, indent=1) + "\n")

    def read_scale(self) -> dict[str, object]:
        """How many replicas ran last, and why. Raises NotFound when no platform here ever scaled."""
        try:
            scale = json.loads(self.scale.read_text())
        except (OSError, ValueError) as error:
            raise NotFound(
                f"no platform in {self.path} has scaled anything",
                hint="`stoker up` scales models whose replicas.min is less than their replicas.max",
            ) from error
        return scale if isinstance(scale, dict) else {}

    def write_prometheus(self, name: str, text: str) -> None:
        """A file for a Prometheus that a person starts, if it says anything new."""
        path = self.prometheus / name
        if not path.exists() or path.read_text() != text:
            self._write(path, text)

    def write_by_hand(self, model: str, replicas: int | None) -> None:
        """None: nobody wants a number of it any more."""
        wanted = {**self.read_by_hand(), model: replicas}
        kept = {name: number for name, number in wanted.items() if number is not None}
        self._write(self.by_hand, json.dumps(kept, indent=1) + "\n")

    def read_by_hand(self) -> dict[str, int]:
        """By model. What is not what we wrote nobody wanted."""
        try:
            wanted = json.loads(self.by_hand.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(wanted, dict):
            return {}
        return {name: number for name, number in wanted.items() if type(number) is int and number >= 0}

    def _write(self, path: Path, text: str) -> None:
        """All or nothing, readable by the owner only: a reader sees the old file or the new one."""
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> InvalidInput:
        return InvalidInput(
            f"the state directory {self.path} cannot be used: {error.strerror or error}",
            param="state",
            hint="name a directory that you may write to with --state DIR",
        )

    def _in_use(self, holder: Mapping[str, object]) -> StateInUse:
        pid, url = holder.get("pid", "unknown"), holder.get("url", "unknown")
        if not _is_alive(holder.get("pid")):
            return StateInUse(
                f"processes of a platform that was killed (pid {pid}) still use {self.path}",
                hint=f"their pids are in {self.run}; end them, or choose another directory with --state DIR",
            )
        return StateInUse(
            f"another platform runs on {self.path}: pid {pid}, {url}",
            hint="use that one, stop it, or run a second one beside it with --state DIR and --port N",
        )


class Lock:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def say(self, *, pid: int, url: str) -> None:
        """Write down who holds it, for whoever is refused."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps({"pid": pid, "url": url}).encode(), 0)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        os.close(self.fd)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(fd: int) -> dict[str, object]:
    try:
        holder = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and only waits for its parent to ask how. Known where there is /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # PID (NAME) STATE ...; a name may hold anything, a parenthesis too
    return stat.rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"])
