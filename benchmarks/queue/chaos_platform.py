"""The processes of `chaos.py`: a Redis that writes to disk before it answers, gateways on one ledger, and pairs of an
engine and its worker. Each can be killed, and is started again at the same place."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.testing.redis import RedisServer

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Place, free_port

TENANT = "acme"
BUDGET_TOKENS = 1_000_000_000
SPEC = f"""
gateway:
  timeouts: {{connectSeconds: 10, firstTokenSeconds: 120, totalSeconds: 120}}
  maxWaiting: {{perTenant: 1000000, perModel: 1000000}}
queue: {{maxAttempts: 20, retryBaseSeconds: 0.05, retryCapSeconds: 0.5, leaseSeconds: 10}}
llm:
  models:
    general:
      limits: {{maxOutputTokens: 200, concurrency: 8}}
      prices: {{inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 1, outputUsdPerMillionTokens: 2}}
tenants: {{{TENANT}: {{budgets: {{tokensTotal: {BUDGET_TOKENS}, usdTotal: 100000}}}}}}
"""
PYTHON = (sys.executable, "-P", "-m")


@dataclass
class Platform:
    redis: RedisServer
    places: list[Place]
    urls: list[str]
    """Of the gateways."""
    key: str
    store: Store
    ledger: Ledger
    redis_kills: int = 0
    logs: Path = field(default_factory=Path)

    def restart_redis(self) -> None:
        self.redis.kill()
        self.redis_kills += 1
        start_synced(self.redis)

    def of(self, *kinds: str) -> list[Place]:
        return [place for place in self.places if place.kind in kinds]


def start_synced(redis: RedisServer) -> None:
    """Each write is on disk before it is answered."""
    redis.start(timeout_s=60.0)
    with Redis.from_url(redis.url, protocol=2) as raw:
        raw.config_set("appendfsync", "always")


@contextlib.contextmanager
def a_platform(directory: Path, *, workers: int, gateways: int) -> Iterator[Platform]:
    spec, logs = directory / "platform.yaml", directory / "logs"
    spec.write_text(SPEC)
    logs.mkdir()
    ledger_url = f"sqlite:///{directory / 'ledger.sqlite'}"
    store = Store(ledger_url)
    key = KeyStore(store).create(TENANT).secret
    redis = RedisServer()
    start_synced(redis)
    ports = [free_port() for _ in range(gateways)]
    common = ["--spec", str(spec), "--redis", redis.url]
    places = []
    for number in range(1, workers + 1):
        port = free_port()
        places.append(Place(f"engine-{number}", "engine", engine_argv(port), logs))
        argv = [*PYTHON, "stoker.worker", *common, "--model", "general", "--replica", f"general-{number}"]
        argv += ["--engine-url", f"http://127.0.0.1:{port}"]
        places.append(Place(f"worker-{number}", "worker", argv, logs))
    for number, port in enumerate(ports, 1):
        argv = [*PYTHON, "stoker.gateway", *common, "--port", str(port), "--ledger", ledger_url]
        argv += ["--journals", str(directory / "journals")]
        places.append(Place(f"gateway-{number}", "gateway", argv, logs))
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    platform = Platform(redis, places, urls, key, store, Ledger(store), logs=logs)
    try:
        for place in places:
            place.begin()
        for place in places:
            place.wait()
        yield platform
    finally:
        for place in reversed(places):
            place.end()
        redis.__exit__(None, None, None)
        store.close()


def engine_argv(port: int) -> list[str]:
    return [sys.executable, str(Path(__file__).parent / "echo.py"), str(port)]
