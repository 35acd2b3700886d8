"""What is rendered runs: the gateway's, the worker's and Redis' own command lines and environments, with real values
put in, answer a request."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deployed_parts import (
    Object,
    command_line,
    containers_that_run,
    environment,
    free_port,
    objects,
    password,
    pod_of,
    process,
    secrets_of,
    the,
)

from stoker.base.errors import Unavailable
from stoker.queue.server import find_binary, wait_ready
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.testing.postgres import PostgresServer, find_programs
from stoker.web.client import HttpClient

pytestmark = [pytest.mark.flow, pytest.mark.redis]

SPEC = """\
llm: {models: {general: {}}}
gateway: {timeouts: {totalSeconds: 20, firstTokenSeconds: 20}}
"""
REDIS_HOST = "redis.agentic-ai.svc.cluster.local"
HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Cluster:
    """What is rendered, its Secrets, and where things are on this machine."""

    found: list[Object]
    secrets: dict[str, dict[str, str]]
    folder: Path
    redis_port: int

    @property
    def admin_key(self) -> str:
        return self.secrets["admin"]["key"]

    def argv(self, container: Object, **options: str) -> list[str]:
        """Its command line, with the values of some options replaced by those of this machine."""
        argv = command_line(container)
        for name, value in options.items():
            argv[argv.index(f"--{name.replace('_', '-')}") + 1] = value
        return argv

    def environ(self, container: Object) -> dict[str, str]:
        """Its environment, with the cluster's DNS names replaced by loopback."""
        made = environment(container, self.secrets, {"metadata.name": "general-0", "status.podIP": "127.0.0.1"})
        url = made["STOKER_REDIS_URL"]
        assert url == f"redis://:{self.secrets['redis']['password']}@{REDIS_HOST}:6379/0"
        return {**made, "STOKER_REDIS_URL": url.replace(f"{REDIS_HOST}:6379", f"127.0.0.1:{self.redis_port}")}

    def redis(self, name: str, port: int) -> tuple[list[str], dict[str, str]]:
        """Command line and environment of a Redis, with its paths and ports replaced by those of this machine."""
        [container, *_] = pod_of(the(self.found, "StatefulSet", name))["containers"]
        folder = self.folder / name
        for each in ("etc", "run", "data"):
            (folder / each).mkdir(parents=True)
        settings = the(self.found, "ConfigMap", "redis")["data"]["valkey.conf"]
        settings = settings.replace("port 6379", f"port {port}\nbind 127.0.0.1").replace("/data", str(folder / "data"))
        (folder / "etc" / "valkey.conf").write_text(settings)
        [sh, flags, script] = container["command"]
        script = script.replace("/etc/valkey", str(folder / "etc")).replace("/run/valkey", str(folder / "run"))
        script = script.replace("valkey-server", str(find_binary()))
        script = script.replace(f"{REDIS_HOST} 6379", f"127.0.0.1 {self.redis_port}")
        return [sh, flags, script], environment(container, self.secrets)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    found = objects(Plan(loads(SPEC), "karpenter"))
    remote = {f"agentic-ai-cluster/{name}": {"password": password()} for name in ("redis", "ledger")}
    remote |= {f"agentic-ai-cluster/{name}": {"key": f"sk-stoker-{password()}"} for name in ("engine", "admin")}
    return Cluster(found, secrets_of(found, remote), tmp_path, free_port())


async def ready(started: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    assert started.stdout is not None
    async with asyncio.timeout(60):
        line = await asyncio.to_thread(started.stdout.readline)
    assert line, await asyncio.to_thread(log.read_text)
    return dict(json.loads(line))


LEDGER = "ledger.agentic-ai.svc.cluster.local:5432"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_of(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """From the URL of the ledger in the cluster to one on this machine: a file, or a PostgreSQL with that user,
    password and database."""
    if request.param == "sqlite":
        yield lambda url: f"sqlite:///{cluster.folder / 'ledger.sqlite'}"
        return
    try:
        find_programs()
    except Unavailable as missing:
        pytest.skip(f"{missing.message}; {missing.hint}")
    with PostgresServer() as server:
        with server.connect("postgres") as connection:
            secret = cluster.secrets["ledger"]["password"]
            connection.execute(f"ALTER ROLE stoker PASSWORD '{secret}'")
            connection.execute("CREATE DATABASE stoker")
        yield lambda url: url.replace(LEDGER, f"127.0.0.1:{server.port}")


async def test_the_rendered_platform_answers(cluster: Cluster, ledger_of: Callable[[str], str]) -> None:
    """Gateway, worker and Redis with the command lines and environments of their pods; vLLM's place is taken by the
    embedded engine."""
    folder = cluster.folder
    spec = folder / "platform.yaml"
    spec.write_text(the(cluster.found, "ConfigMap", "platform")["data"]["platform.yaml"])
    [gateway_container] = containers_that_run(cluster.found, "stoker.gateway")
    environ = cluster.environ(gateway_container)
    url = environ["STOKER_LEDGER_URL"]
    assert url == f"postgresql://stoker:{cluster.secrets['ledger']['password']}@{LEDGER}/stoker"
    environ["STOKER_LEDGER_URL"] = ledger_of(url)

    with ExitStack() as stack:
        argv, redis_environ = cluster.redis("redis", cluster.redis_port)
        stack.enter_context(process(folder / "redis.log", argv, redis_environ))
        await wait_ready(environ["STOKER_REDIS_URL"])
        engine_argv = ["python", "-m", "stoker.engine", "--model", "general", "--port", "0"]
        engine_environ = {"STOKER_ENGINE_KEY": cluster.secrets["engine"]["key"]}
        engine = stack.enter_context(process(folder / "engine.log", engine_argv, engine_environ))
        engine_url = f"{(await ready(engine, folder / 'engine.log'))['url']}/v1"

        argv = cluster.argv(
            gateway_container, spec=str(spec), host="127.0.0.1", port="0", journals=str(folder / "journals")
        )
        gateway = stack.enter_context(process(folder / "gateway.log", argv, environ))
        url = (await ready(gateway, folder / "gateway.log"))["url"]

        argv, worker_environ = worker_of(cluster, spec, engine_url)
        worker = stack.enter_context(process(folder / "worker.log", argv, worker_environ))
        await ready(worker, folder / "worker.log")

        async with HttpClient(url, key=cluster.admin_key) as admin:
            made = await admin.post_json("/admin/v1/keys", {"tenant": "default"})
        async with HttpClient(url, key=made["key"]) as client:
            body = {"model": "general", "messages": HELLO, "max_tokens": 8}
            answer = await client.request("POST", "/v1/chat/completions", body=body)
            assert (answer.status, answer.json()["model"]) == (200, "general"), answer.body
            assert answer.json()["usage"]["completion_tokens"] > 0
            task = await client.post_json("/v1/tasks", body)
            done = await client.request("GET", f"/v1/tasks/{task['id']}", params={"wait": "30"})
            assert done.json()["state"] == "done"
            assert (await client.request("GET", "/health")).status == 200
            assert b"stoker_requests_total" in (await client.request("GET", "/metrics")).body

        for each in (worker, gateway):
            each.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(each.wait, 30) == 0


def worker_of(cluster: Cluster, spec: Path, engine_url: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the worker beside the model's engine."""
    [container] = containers_that_run(cluster.found, "stoker.worker")
    argv = cluster.argv(container, spec=str(spec), engine_url=engine_url, replica="general-0")
    return argv, cluster.environ(container)


async def test_a_copy_of_redis_follows_and_asks_for_a_password(cluster: Cluster) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import AuthenticationError

    port = free_port()
    secret = cluster.secrets["redis"]["password"]
    with ExitStack() as stack:
        for name, where in (("redis", cluster.redis_port), ("redis-replica", port)):
            argv, environ = cluster.redis(name, where)
            assert secret not in " ".join(argv)
            stack.enter_context(process(cluster.folder / f"{name}.log", argv, environ))
            await wait_ready(f"redis://:{secret}@127.0.0.1:{where}/0")
        first = Redis.from_url(f"redis://:{secret}@127.0.0.1:{cluster.redis_port}/0", protocol=2, socket_timeout=60)
        copy = Redis.from_url(f"redis://:{secret}@127.0.0.1:{port}/0", protocol=2)
        stranger = Redis.from_url(f"redis://127.0.0.1:{cluster.redis_port}/0", protocol=2)
        await first.set("told", "all")
        assert await first.wait(1, 30_000) == 1
        assert await copy.get("told") == b"all"
        settings = await first.config_get()
        kept = {key: settings[key] for key in ("appendonly", "appendfsync", "maxmemory-policy", "save", "maxmemory")}
        assert kept == {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "save": "",
            "maxmemory": str(3 * 1024**3),
        }
        with pytest.raises(AuthenticationError):
            await stranger.get("told")
        for client in (first, copy, stranger):
            await client.aclose()
