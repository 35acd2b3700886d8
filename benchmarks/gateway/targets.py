"""What is compared: each gateway in front of the same mock, how it is started, and how it is told who asks."""

import json
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from cores import GATEWAY, LOAD, pinned_to

from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.spec import Budgets

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Process, free_port, said_ready, wait_for

HERE = Path(__file__).parent
PYTHON = (sys.executable, "-P", "-m")
LITELLM_VERSION = "1.108.7"
MASTER = "sk-compare-master"


@dataclass
class Target:
    """One gateway. `begin` starts its process, which is then pinned to the gateway's core; `beside` are the processes
    that it needs and that are none of it: they are on the load's core. `direct` has no process of its own."""

    name: str
    port: int
    key: str | None = None
    begin: Callable[[], Process] | None = None
    beside: Mapping[str, Process] = field(default_factory=dict)
    process: Process | None = None

    def start(self) -> None:
        if self.begin is not None:
            with pinned_to(GATEWAY):
                self.process = self.begin()

    def end(self) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None

    def end_all(self) -> None:
        self.end()
        for process in reversed(list(self.beside.values())):
            process.end()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def wait_until_listening(process: Process, port: int, *, timeout_s: float = 180.0) -> None:
    until = time.monotonic() + timeout_s
    while not listens(port):
        process.check()
        if time.monotonic() > until:
            raise SystemExit(f"{process.name} does not listen on {port} after {timeout_s:g} s:\n{process.tail()}")
        time.sleep(0.01)


def mock(work: Path) -> tuple[Process, int]:
    """On the load's core."""
    port = free_port()
    with pinned_to(LOAD):
        process = Process("mock", [sys.executable, str(HERE / "mock_upstream.py"), "--port", str(port)], work)
    wait_for(process, f"http://127.0.0.1:{port}/health")
    return process, port


# --- nginx ------------------------------------------------------------------------------------------------------------

_NGINX = """
daemon off;
pid {work}/nginx.pid;
error_log {work}/nginx-errors.log warn;
worker_processes 1;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    client_max_body_size 16m;
    client_body_buffer_size 1m;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream engine {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def nginx_binary() -> str:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise SystemExit("no nginx on this machine: install the system's package (nginx-light)")
    return binary


def nginx(work: Path, upstream: int) -> Target:
    """One worker process, connections to the upstream kept, nothing buffered, nothing written down."""
    directory = work / "nginx"
    directory.mkdir()
    port = free_port()
    is_root = Path("/proc/self").stat().st_uid == 0
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(work=directory, upstream=upstream, port=port, user="user root;" if is_root else ""))
    argv = [nginx_binary(), "-c", str(config), "-p", str(directory), "-e", str(directory / "nginx-errors.log")]
    return Target("nginx", port, begin=lambda: Process("nginx", argv, directory))


# --- LiteLLM ----------------------------------------------------------------------------------------------------------


def litellm_python(directory: Path) -> Path:
    """The Python of an environment with LiteLLM's proxy in it, made if it is not there."""
    python = directory / "bin" / "python"
    if not (directory / "bin" / "litellm").exists():
        venv.create(directory, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-qq"]
        subprocess.run([*pip, f"litellm[proxy]=={LITELLM_VERSION}"], check=True)
    return python


def litellm(work: Path, upstream: int, python: Path) -> Target:
    """As its documentation starts it: one worker, no database, the master key, retries off."""
    directory = work / "litellm"
    directory.mkdir()
    prices = {"input_cost_per_token": 1e-7, "output_cost_per_token": 4e-7}
    engine = f"http://127.0.0.1:{upstream}/v1"
    parameters = {"model": "openai/general", "api_base": engine, "api_key": "none", **prices}
    config = {
        "model_list": [{"model_name": "general", "litellm_params": parameters, "model_info": prices}],
        "general_settings": {"master_key": MASTER},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    written = directory / "config.yaml"
    written.write_text(json.dumps(config))
    port = free_port()
    argv = [str(python.parent / "litellm"), "--config", str(written), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Target("litellm", port, MASTER, lambda: Process("litellm", argv, directory, env=env))


def version_in(python: Path, package: str) -> str:
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


# --- Stoker -----------------------------------------------------------------------------------------------------------

BUDGETS = {"tokensPerDay": 10**12, "usdPerMonth": 500_000}
TENANT, TEAM = "bench", "load"


def stoker(
    work: Path,
    upstream: int,
    *,
    runner: Sequence[str] = (*PYTHON, "stoker.gateway"),
    fill: Callable[[Path], None] = lambda ledger: None,
    settings: Mapping[str, object] | None = None,
) -> Target:
    """One gateway process with all that it does: a key from the store, tokens a day and dollars a month reserved and
    settled on three levels (key, team, tenant), routing, usage records in SQLite, metrics; beside it the embedded Redis
    and a worker that announces the mock as a replica. `runner`: what the gateway's own arguments are given to; `fill`
    puts more into the store, in a file of SQLite; `settings`: more sections of platform.yaml."""
    directory = work / "stoker"
    directory.mkdir()
    fill(directory / "ledger.sqlite")
    ledger = f"sqlite:///{directory / 'ledger.sqlite'}"
    spec = directory / "platform.yaml"
    spec.write_text(json.dumps({**platform(upstream), **(settings or {})}))
    store = Store(ledger)
    made = Budgets(tokens_per_day=BUDGETS["tokensPerDay"], usd_per_month=Decimal(BUDGETS["usdPerMonth"]))
    secret = KeyStore(store).create(TENANT, team=TEAM, name="load", budgets=made).secret
    store.close()
    with pinned_to(LOAD):
        redis = Process("redis", [*PYTHON, "stoker.queue.server", "--dir", str(directory / "redis")], directory)
        url = said_ready(redis)
        named = ["--spec", str(spec), "--redis", url]
        engine = ["--model", "general", "--replica", "general-1", "--engine-url", f"http://127.0.0.1:{upstream}"]
        worker = Process("worker", [*PYTHON, "stoker.worker", *named, *engine], directory)
        said_ready(worker)
    port = free_port()
    here = ["--host", "127.0.0.1", "--port", str(port), "--ledger", ledger, "--journals", str(directory / "journals")]
    argv = [*runner, *named, *here]
    return Target(
        "stoker", port, secret, lambda: Process("gateway", argv, directory), {"redis": redis, "worker": worker}
    )


def platform(upstream: int) -> dict[str, object]:
    model = {
        "engine": {"url": f"http://127.0.0.1:{upstream}/v1"},
        "limits": {"concurrency": 512, "contextTokens": 1_000_000},
        "prices": {
            "inputUsdPerMillionTokens": 0.1,
            "cachedInputUsdPerMillionTokens": 0.05,
            "outputUsdPerMillionTokens": 0.4,
        },
    }
    return {
        # Two, so that there is something to route between; only the first is up.
        "llm": {"models": {"general": model, "code": model}},
        "tenants": {TENANT: {"budgets": BUDGETS, "teams": {TEAM: {"budgets": BUDGETS}}}},
    }
