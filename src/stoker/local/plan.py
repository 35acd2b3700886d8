"""`platform.yaml` into the processes of one machine: who there is, what each uses, and its command line.

Command lines are the contract of docs/decisions/02-one-machine.md. URLs that may hold a password go by environment
variable, because everybody on the machine can read command lines.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from stoker.base.errors import InvalidInput
from stoker.base.process import ENGINE_KEY
from stoker.local.board import Child, Role
from stoker.local.children import Command
from stoker.local.state import StateDirectory
from stoker.local.supervisor import Launch
from stoker.local.weights import Weights
from stoker.policy import scaled
from stoker.spec import AGENT_STEPS, EMBEDDED, Model, Platform

REDIS_URL = "STOKER_REDIS_URL"
LEDGER_URL = "STOKER_LEDGER_URL"
GATEWAY_URL = "STOKER_GATEWAY_URL"
AGENTS_URL, AGENTS_KEY, AGENTS_DB = "STOKER_AGENTS_URL", "STOKER_AGENTS_KEY", "STOKER_AGENTS_DB"
LOOPBACK = "127.0.0.1"  # where engines listen: only the gateway and their workers talk to them
REDIS, AGENTS = "redis", "agents"


@dataclass(frozen=True)
class Place:
    """Where this platform runs: what platform.yaml leaves to the one who starts it."""

    state: StateDirectory
    host: str
    port: int
    redis_url: str | None
    """A Redis server of somebody else; None starts one."""
    ledger_url: str
    engine_key: str
    """What the embedded engines ask of the gateway and the workers."""
    weights: Mapping[str, Weights] = field(default_factory=dict)
    """By model, for those that platform.yaml gives some to; for as long as the platform runs."""
    agents_key: str = ""
    """What grants are signed with, for those who make them and the gateway."""
    agents_db: str = ""
    """SQLAlchemy URL of the database of runs."""
    base: Path = Path()
    """Folder of platform.yaml, to which the paths of agents are relative; processes read a copy elsewhere."""


def processes(platform: Platform, place: Place, *, free_port: Callable[[], int]) -> list[Launch]:
    """In the order in which they are started and shown."""
    launches = [_redis(place)] if place.redis_url is None else []
    for name, model in platform.llm.models.items():
        for number in range(1, _replicas(platform, name, model) + 1):
            launches += replica(platform, place, name, number, free_port)
    if platform.agents.enabled:
        launches.append(_agents(place, free_port))
        for number in range(1, scaled.agent_workers(platform) + 1):
            launches += replica(platform, place, AGENT_STEPS, number, free_port)
    return [*launches, _gateway(platform, place)]


def with_password(url: str, variable: str | None, environ: Mapping[str, str], *, key: str) -> str:
    """`url` with the password that stands in an environment variable. Raises InvalidInput when it is not set."""
    if variable is None:
        return url
    password = environ.get(variable)
    if not password:
        raise InvalidInput(
            f"{key} names the environment variable {variable}, which is not set",
            param=key,
            hint=f"export {variable}=... before `stoker up`",
        )
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def without_password(url: str) -> str:
    """`url` as it may be shown to people."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    # Not by urlunsplit, which makes sqlite:////absolute/path of three slashes
    return url.replace(f"//{parts.netloc}", f"//{user.partition(':')[0]}{at}{host}", 1) if at else url


def ledger_url(platform: Platform, state: StateDirectory, environ: Mapping[str, str]) -> str:
    """Where usage is kept: in the state directory, unless platform.yaml says otherwise."""
    url = platform.ledger.url or f"sqlite:///{state.ledger}"
    return with_password(url, platform.ledger.password_env, environ, key="ledger.passwordEnv")


def agents_url(platform: Platform, state: StateDirectory, environ: Mapping[str, str]) -> str:
    """Where runs of agents are kept: in the state directory, unless platform.yaml says otherwise."""
    store = platform.agents.store
    url = store.url or f"sqlite:///{state.agents_database}"
    return with_password(url, store.password_env, environ, key="agents.store.passwordEnv")


def local_url(host: str, port: int) -> str:
    """Where a server that listens on `host` is reached from this machine."""
    reached = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104 - named, not listened on
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def scaled_streams(platform: Platform) -> list[str]:
    """What scales: models, and AGENT_STEPS for the workers of agents."""
    has_agents = bool(platform.agents.enabled) and scaled.scales_agents(platform)
    return [*scaled_models(platform), *([AGENT_STEPS] if has_agents else [])]


def scaled_models(platform: Platform) -> list[str]:
    """Those whose replicas come and go with load. One worker is enough for a server that batches by itself."""
    if not platform.keda.enabled:
        return []
    ranges = {name: platform.local_replicas(name) for name in platform.llm.models}
    models = platform.llm.models
    return [name for name, range_ in ranges.items() if range_.min < range_.max and models[name].engine == EMBEDDED]


def _replicas(platform: Platform, name: str, model: Model) -> int:
    if model.engine != EMBEDDED:
        return 1
    least = platform.local_replicas(name).min
    # With nobody here who would start the first replica when a request comes, `min: 0` runs one.
    return least if name in scaled_models(platform) else max(1, least)


def _redis(place: Place) -> Launch:
    argv = _python("stoker.queue.server", "--dir", str(place.state.redis))
    return Launch(Child(REDIS, Role.REDIS), lambda urls: Command(argv))


def _gateway(platform: Platform, place: Place) -> Launch:
    argv = _python(
        "stoker.gateway",
        *("--spec", str(place.state.spec), "--host", place.host, "--port", str(place.port)),
        *("--journals", str(place.state.journals)),
    )
    has_agents = bool(platform.agents.enabled)
    uses = (*_uses_redis(place), *((AGENTS,) if has_agents else ()))
    child = Child("gateway", Role.GATEWAY, uses=uses, url=local_url(place.host, place.port))

    def command(urls: Mapping[str, str]) -> Command:
        agents = {AGENTS_URL: urls[AGENTS], AGENTS_KEY: place.agents_key} if has_agents else {}
        return Command(argv, {**_shared(place, urls), LEDGER_URL: place.ledger_url, **agents})

    return Launch(child, command)


def _agents(place: Place, free_port: Callable[[], int]) -> Launch:
    child = Child(AGENTS, Role.AGENTS, uses=_uses_redis(place), url=local_url(LOOPBACK, free_port()))

    def command(urls: Mapping[str, str]) -> Command:
        listens = ("--host", LOOPBACK, "--port", str(urlsplit(urls[AGENTS]).port))
        argv = _python("stoker.agents", "--spec", str(place.state.spec), *listens)
        return Command(argv, _of_agents(place, urls))

    return Launch(child, command)


def _agent_worker(platform: Platform, place: Place, number: int) -> Launch:
    """What runs steps of agents; it has no engine."""
    replica = f"{AGENT_STEPS}-{number}"
    worker = f"worker-{replica}"
    argv = _python(
        "stoker.agents.worker",
        *("--spec", str(place.state.spec), "--name", replica, "--folder", str(place.state.agents)),
        *("--base", str(place.base), "--metadata-file", str(place.state.metadata / worker)),
        *("--health-host", LOOPBACK, "--health-port", "0"),
    )
    uses, finish_s = _uses_redis(place), platform.step_seconds
    child = Child(worker, Role.AGENT_WORKER, uses=uses, model=AGENT_STEPS, finish_s=finish_s)
    gateway = local_url(place.host, place.port)
    return Launch(child, lambda urls: Command(argv, {**_of_agents(place, urls), GATEWAY_URL: gateway}))


def _of_agents(place: Place, urls: Mapping[str, str]) -> dict[str, str]:
    return {REDIS_URL: _redis_url(place, urls), AGENTS_KEY: place.agents_key, AGENTS_DB: place.agents_db}


def replica(platform: Platform, place: Place, name: str, number: int, free_port: Callable[[], int]) -> list[Launch]:
    """An engine and the worker beside it; for a model on a server elsewhere, and for agents, the worker alone."""
    if name == AGENT_STEPS:
        return [_agent_worker(platform, place, number)]
    model, replica = platform.llm.models[name], f"{name}-{number}"
    if model.engine != EMBEDDED:
        server = model.engine.url
        return [_worker(platform, place, name, replica, (), lambda urls: server)]
    engine = f"engine-{replica}"
    weights = place.weights.get(name)
    url = local_url(LOOPBACK, free_port())
    child = Child(engine, Role.ENGINE, url=url, model=name, weights=weights.digest if weights else None)
    return [
        Launch(
            child, lambda urls: Command(_engine(name, model, urls[engine], weights), {ENGINE_KEY: place.engine_key})
        ),
        _worker(platform, place, name, replica, (engine,), lambda urls: urls[engine]),
    ]


def _worker(
    platform: Platform,
    place: Place,
    name: str,
    replica: str,
    uses: tuple[str, ...],
    engine_url: Callable[[Mapping[str, str]], str],
) -> Launch:
    worker = f"worker-{replica}"
    argv = _python(
        "stoker.worker",
        *("--spec", str(place.state.spec), "--model", name, "--replica", replica),
        # So that a drill can give this worker a notice, and nobody waits for a service that a laptop has not.
        *("--metadata-file", str(place.state.metadata / worker)),
        *("--metrics-host", LOOPBACK, "--metrics-port", "0"),
    )
    # What runs there may run for as long as a task or a request may.
    finish_s = max(platform.llm.models[name].limits.timeout_seconds, platform.gateway.timeouts.total_seconds)
    child = Child(worker, Role.WORKER, uses=(*_uses_redis(place), *uses), model=name, finish_s=finish_s)
    return Launch(
        child,
        lambda urls: Command([*argv, "--engine-url", engine_url(urls)], _shared(place, urls)),
    )


def _engine(name: str, model: Model, url: str, weights: Weights | None) -> Sequence[str]:
    port, limits = urlsplit(url).port, model.limits
    return _python(
        "stoker.engine",
        *("--model", name, "--task", model.task, "--host", LOOPBACK, "--port", str(port)),
        *("--context", str(limits.context_tokens), "--max-running", str(limits.concurrency)),
        *(("--weights", str(weights.folder), "--digest", weights.digest) if weights else ()),
    )


def _shared(place: Place, urls: Mapping[str, str]) -> dict[str, str]:
    return {REDIS_URL: _redis_url(place, urls), ENGINE_KEY: place.engine_key}


def _uses_redis(place: Place) -> tuple[str, ...]:
    return (REDIS,) if place.redis_url is None else ()


def _redis_url(place: Place, urls: Mapping[str, str]) -> str:
    return place.redis_url if place.redis_url is not None else urls[REDIS]


def _python(module: str, *arguments: str) -> list[str]:
    # -P: a file called redis.py where the person happens to stand is not ours to import.
    return [sys.executable, "-P", "-m", module, *arguments, "--leash"]
