"""`stoker up`: from options to a running platform and, in the end, to an exit code.

Everything that can be refused is refused before the first process starts. From then on there is one way out, whoever
asks for it: `Supervisor.stop`.
"""

import asyncio
import contextlib
import http.client
import io
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO, cast
from urllib.parse import urlsplit

from stoker import spec
from stoker.base import logs
from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, QueueUnavailable, StokerError, Unavailable
from stoker.base.ids import ModelName
from stoker.base.terminal import wants_colour
from stoker.local import agents, plan, ports, prometheus, weights
from stoker.local.autoscaler import REPLICAS_PER_CORE, Autoscaler
from stoker.local.banner import ready_block, ready_line
from stoker.local.board import MOVABLE, Board, Child, Limits, Trouble
from stoker.local.fleet import LocalFleet
from stoker.local.lives import Recorder, Seen, cores
from stoker.local.measures import SupervisorMetrics
from stoker.local.output import Output
from stoker.local.state import Credentials, Lock, StateDirectory
from stoker.local.status import snapshot
from stoker.local.supervisor import Launch, Supervisor
from stoker.meter import accounts
from stoker.meter.keys import KeyStore, new_key
from stoker.meter.store import Store
from stoker.policy.retry import delay_s
from stoker.policy.scaled import scaled_object
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import sending

DEFAULT_STATE = Path(".stoker")
_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.5, 15.0
_PROBE_S = 2.0
# `timeout` and a closed terminal signal this process and then its group: two signals, one wish.
_SAME_WISH_S = 0.5
_PORTS_REMEMBERED = 1000


@dataclass(frozen=True)
class Options:
    """What the command line says. None: what platform.yaml says, or its default."""

    file: Path | None = None
    host: str | None = None
    port: int | None = None
    state: Path = DEFAULT_STATE
    as_json: bool = False
    is_verbose: bool = False


def up(options: Options, *, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> None:
    """Run the platform until SIGTERM or SIGINT. Raises StokerError: SpecInvalid, InvalidInput, StateInUse and
    PortTaken before anything was started, and others when everything that was started has been stopped again."""
    os.umask(0o077)  # the state directory holds keys and what people asked: nobody else reads what we write
    here = (options.file or Path("platform.yaml")).absolute().parent
    platform = agents.decide(_load(options.file, err))
    state = StateDirectory(options.state)
    state.create()
    with state.lock() as lock:
        lock.say(pid=os.getpid(), url="starting")
        place = _place(platform, options, state, here)
        place = replace(place, weights=weights.resolve(platform, state=state.path, here=here))
        url = plan.local_url(place.host, place.port)
        lock.say(pid=os.getpid(), url=url)
        if place.redis_url is not None:
            asyncio.run(_check_redis(place.redis_url, next(iter(platform.llm.models))))
        gateway = platform.gateway.model_copy(update={"host": place.host, "port": place.port})
        platform = platform.model_copy(update={"gateway": gateway})
        credentials = _ensure_credentials(state, place, url, tenant=next(iter(platform.tenants)))
        state.write_spec(spec.dump(platform))
        state.write_scale({"models": [], "decisions": []})  # what the run before decided is history
        asyncio.run(_Run(platform, place, credentials, lock, options, out, err).run())


def _load(file: Path | None, err: TextIO) -> spec.Platform:
    platform, source = spec.load_chosen(file)
    print(source, file=err, flush=True)
    return platform


def _place(platform: spec.Platform, options: Options, state: StateDirectory, here: Path) -> plan.Place:
    for model in platform.llm.models:
        spec.engine_key(platform, model, os.environ)
    redis = platform.redis
    redis_url = redis.url and plan.with_password(redis.url, redis.password_env, os.environ, key="redis.passwordEnv")
    ledger_url = plan.ledger_url(platform, state, os.environ)
    host = platform.gateway.host if options.host is None else options.host
    port = ports.claim(host, platform.gateway.port if options.port is None else options.port)
    return plan.Place(
        state,
        host,
        port,
        redis_url,
        ledger_url,
        engine_key=secrets.token_urlsafe(32),
        agents_key=secrets.token_urlsafe(32),
        agents_db=plan.agents_url(platform, state, os.environ) if platform.agents.enabled else "",
        base=here,
    )


async def _check_redis(url: str, model: str) -> None:
    """Raises QueueUnavailable, by its address, when somebody else's Redis does not answer: nobody here could bring it
    back."""
    from stoker.queue import RedisQueue

    queue = RedisQueue(url)
    try:
        await queue.depth(ModelName(model))
    except QueueUnavailable as error:
        raise QueueUnavailable(
            f"redis.url names a server that cannot be used, {plan.without_password(url)}: "
            + f"{error.message.split(': ')[1]}: {error.detail}",
            hint="start it, or name another with redis.url; without redis.url Stoker starts its own",
        ) from error
    finally:
        await queue.aclose()


def _ensure_credentials(state: StateDirectory, place: plan.Place, url: str, *, tenant: str) -> Credentials:
    """The keys of this state directory, made once, and known to the ledger before anybody asks it. One that was
    revoked or replaced, or has expired, is made anew: who owns the directory owns the platform."""
    known = state.read_credentials()
    key = known.key if known else new_key()
    admin_key = known.admin_key if known else new_key()
    credentials = Credentials(url=url, key=key, admin_key=admin_key, pid=os.getpid())
    state.write_credentials(credentials)
    with _open_ledger(place) as store:
        keys = KeyStore(store)
        key = _usable(keys, key, tenant=tenant, name="stoker up", role="user")
        admin_key = _usable(keys, admin_key, tenant=tenant, name="stoker up, admin", role="admin")
    if (key, admin_key) != (credentials.key, credentials.admin_key):
        credentials = replace(credentials, key=key, admin_key=admin_key)
        state.write_credentials(credentials)
    return credentials


@contextlib.contextmanager
def _open_ledger(place: plan.Place) -> Iterator[Store]:
    """Raises InvalidInput when its file cannot be made, Unavailable when the database refuses; both say which it is."""
    where = plan.without_password(place.ledger_url)
    try:
        store = Store(place.ledger_url)
    except Unavailable as error:
        error.hint = error.hint or f"the ledger is {where}; put a copy of it back, or name another with ledger.url"
        raise
    try:
        yield store
    finally:
        store.close()


def _usable(keys: KeyStore, key: str, *, tenant: str, name: str, role: accounts.Role) -> str:
    """The key, known to the ledger; or another, when this one cannot be used any more."""
    try:
        keys.ensure(key, tenant=tenant, name=name, role=role)
    except Conflict:
        key = new_key()
        keys.ensure(key, tenant=tenant, name=name, role=role)
    return key


class _Run:
    """One run of the platform, from the first process to the last."""

    def __init__(
        self,
        platform: spec.Platform,
        place: plan.Place,
        credentials: Credentials,
        lock: Lock,
        options: Options,
        out: TextIO,
        err: TextIO,
    ) -> None:
        self._platform, self._place, self._credentials = platform, place, credentials
        self._options, self._out, self._err = options, out, err
        self._clock: Clock = SystemClock()
        self._output = Output(place.state.logs, err, verbose=options.is_verbose, colour=wants_colour(err))
        lines = _Lines(lambda line: self._output.line("supervisor", line))
        logs.configure("supervisor", out=cast(TextIO, lines))
        self._log = logs.get(__name__)
        self._used_ports = [place.port]
        self._metrics = SupervisorMetrics(Metrics())
        self._metrics_url: str | None = None
        self._autoscaling: asyncio.Task[None] | None = None
        seen = Seen(cores=cores(), began_at=self._clock.now(), pid=os.getpid())
        self._recorder = Recorder(seen, platform.costs, place.ledger_url, self._clock)
        launches = plan.processes(platform, place, free_port=self._free_port)
        chance = random.Random()
        self._board = Board(
            [launch.child for launch in launches],
            now=self._clock.monotonic(),
            backoff_s=lambda attempt: delay_s(attempt, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, random=chance),
            limits=Limits(),
        )
        self._supervisor = Supervisor(
            launches,
            self._board,
            clock=self._clock,
            log=self._log,
            on_line=self._output.line,
            on_change=self._changed,
            relocate=self._relocate,
            inherit=[lock.fd],
        )

    async def run(self) -> None:
        self._handle_signals()
        self._tell(f"starting {len(self._board.children)} processes; their logs are in {self._place.state.logs}")
        running = asyncio.create_task(self._supervisor.run())
        try:
            trouble = await self._start(running)
            async with self._measured(), self._recording(), self._scaling():
                await running
        finally:
            self._supervisor.stop(hurry=True)  # only a fault of our own comes here with processes left
            await asyncio.wait({running})
            await asyncio.to_thread(self._recorder.close, self._board)
            self._output.close()
        if trouble is not None:
            raise trouble

    async def _start(self, running: asyncio.Task[None]) -> StokerError | None:
        """Returns when the platform is up or stops; with an error, having told everything to stop, when it cannot
        start."""
        while not self._board.is_up:
            if self._board.stopping_at is not None or running.done():
                return None
            trouble = self._board.trouble(self._clock.monotonic())
            if trouble is not None:
                self._supervisor.stop()
                return self._explain(trouble)
            if self._board.all_ready and await asyncio.to_thread(is_ready, self._credentials.url):
                self._supervisor.up()
            await self._clock.sleep(0.05)
        self._log.info("platform is up", url=self._credentials.url, seconds=round(self._seconds(), 3))
        text = ready_line if self._options.as_json else ready_block
        with contextlib.suppress(OSError):  # nobody reads any more; the platform runs on
            self._out.write(text(self._credentials, self._place.state, self._platform) + "\n")
            self._out.flush()
        return None

    @contextlib.asynccontextmanager
    async def _scaling(self) -> AsyncIterator[None]:
        """Inside the block replicas come and go with load, where platform.yaml leaves room for that."""
        models = plan.scaled_streams(self._platform)
        if not models or self._board.stopping_at is not None:
            yield
            return
        # Here, so that a platform that scales nothing does not carry a client of Redis around.
        from stoker.local.load import PlatformLoad

        scaled = {model: scaled_object(self._platform, model) for model in models}
        redis_url = self._place.redis_url or self._board.children[plan.REDIS].url or ""
        triggers = {model: rules.triggers for model, rules in scaled.items()}
        load = PlatformLoad(redis_url, self._credentials.url, triggers, self._log)
        autoscaler = Autoscaler(
            scaled,
            LocalFleet(self._supervisor, self._launches),
            load,
            most=most_replicas(),
            clock=self._clock,
            log=self._log,
            on_change=self._write_scale,
            by_hand=self._place.state.read_by_hand,
        )
        self._autoscaling = asyncio.create_task(autoscaler.run())
        try:
            yield
        finally:
            self._autoscaling.cancel()
            await asyncio.wait({self._autoscaling})
            await load.aclose()

    @contextlib.asynccontextmanager
    async def _measured(self) -> AsyncIterator[None]:
        """Inside the block the supervisor answers /metrics, and a Prometheus finds who else does. It comes with the
        platform and is no condition of it."""
        metrics = self._metrics.metrics
        async with metrics.served(0, plan.LOOPBACK) as self._metrics_url, sending(metrics, "stoker-supervisor"):
            writing = asyncio.create_task(self._write_prometheus())
            try:
                yield
            finally:
                self._metrics_url = None
                writing.cancel()
                await asyncio.wait({writing})

    async def _write_prometheus(self) -> None:
        state = self._place.state
        self._write_targets(self._board)
        try:
            argv = ["-m", "stoker.local.prometheus_rules", str(state.spec), str(state.prometheus / prometheus.RULES)]
            made = await asyncio.create_subprocess_exec(sys.executable, "-P", *argv, stdin=asyncio.subprocess.DEVNULL)
            try:
                await made.wait()
            finally:
                if made.returncode is None:
                    made.kill()
                    await made.wait()
            # Last: who finds it finds the rules, too.
            state.write_prometheus(prometheus.CONFIG, prometheus.config())
        except (StokerError, OSError) as error:
            self._log.warning("files for Prometheus cannot be written", error=str(error))

    def _write_targets(self, board: Board) -> None:
        try:
            text = prometheus.targets(board, supervisor=self._metrics_url)
            self._place.state.write_prometheus(prometheus.TARGETS, text)
        except (StokerError, OSError) as error:
            self._log.warning("targets.json cannot be written", error=str(error))

    @contextlib.asynccontextmanager
    async def _recording(self) -> AsyncIterator[None]:
        """Inside the block the ledger hears that all is still there."""
        looking = asyncio.create_task(self._recorder.look_forever(self._board))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    def _launches(self, model: str, number: int) -> list[Launch]:
        return plan.replica(self._platform, self._place, model, number, self._free_port)

    def _explain(self, trouble: Trouble) -> StokerError:
        words = self._output.last_words(trouble.name) if trouble.name else None
        log = self._place.state.logs / f"{trouble.name or 'supervisor'}.jsonl"
        message = f"{trouble.why}: {words}" if words else trouble.why
        return StokerError(message, hint=f"everything was stopped again; the log is {log}")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # nohup asks to ignore the end of the terminal, and is obeyed
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        hurry = self._board.stopping_at is not None
        if is_same_wish(self._board.stopping_at, self._clock.monotonic()):
            self._log.info("signal again", signal=number.name)
            return
        self._log.info("signal", signal=number.name, hurry=hurry)
        self._tell("killing everything" if hurry else "stopping (again: kill at once)")
        self._supervisor.stop(hurry=hurry)
        if self._autoscaling is not None:
            self._autoscaling.cancel()  # who reads the load of a platform that stops finds nobody there

    def _relocate(self, child: Child) -> str | None:
        """An engine whose port somebody else took meanwhile gets another, and so do the agents. The gateway's was
        promised to people: it keeps trying."""
        if child.role not in MOVABLE or child.url is None:
            return None
        port = urlsplit(child.url).port or 0
        return None if ports.is_free(plan.LOOPBACK, port) else plan.local_url(plan.LOOPBACK, self._free_port())

    def _free_port(self) -> int:
        port = ports.claim(plan.LOOPBACK, 0)
        while port in self._used_ports:
            port = ports.claim(plan.LOOPBACK, 0)
        # Only the last ones: who got one earlier listens there by now, or has left.
        self._used_ports = [*self._used_ports[-_PORTS_REMEMBERED:], port]
        return port

    def _write_scale(self, shown: Mapping[str, object]) -> None:
        self._metrics.scale(shown)
        try:
            self._place.state.write_scale(shown)
        except StokerError as error:
            self._log.warning("scale.json cannot be written", error=error.in_log)

    def _changed(self, board: Board) -> None:
        self._write_run(board)
        self._write_targets(board)
        self._metrics.board(board)
        self._recorder.look(board)

    def _write_run(self, board: Board) -> None:
        try:
            self._place.state.write_run(snapshot(board, self._clock, url=self._credentials.url, pid=os.getpid()))
        except StokerError as error:  # a full disk must not end a platform that still answers
            self._log.warning("run.json cannot be written", error=error.in_log)

    def _tell(self, text: str) -> None:
        """A word to the person, not an event."""
        with contextlib.suppress(OSError):  # a terminal that is gone stops nothing
            print(text, file=self._err, flush=True)

    def _seconds(self) -> float:
        return self._clock.monotonic() - self._board.begun_at


class _Lines(io.TextIOBase):
    """Where the supervisor's own events go: the same way as those of its children."""

    def __init__(self, handle: Callable[[bytes], None]) -> None:
        self._handle = handle
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line:
                self._handle(line.encode())
        return len(text)


def is_same_wish(stopping_at: float | None, now: float) -> bool:
    """Whether a signal says what is being done already, since it comes too soon to be a person's second thought."""
    return stopping_at is not None and now - stopping_at < _SAME_WISH_S


def most_replicas() -> int:
    """How many replicas of all models this machine should have at most."""
    return REPLICAS_PER_CORE * cores()


def is_ready(url: str) -> bool:
    """Whether the gateway says that each model has a live replica. The standard library's client: the supervisor asks
    this one question, and would carry a web stack around for it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_S)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
