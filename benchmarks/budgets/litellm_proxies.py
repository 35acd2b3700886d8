"""LiteLLM for the race: its environment, a PostgreSQL and a Redis for it, and its proxies.

LiteLLM reaches its database through Prisma, whose engine binaries come from a host of Prisma's own. Where that cannot
be reached, npm has the same version of the engine as WebAssembly; `prisma_engine.mjs` puts it in the binary's place.
The tables are made by running the migrations that come with LiteLLM, in their order, through psql instead of Prisma's
schema engine. LiteLLM itself, and Prisma's Python client, are as they are published.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Process, ask, free_port, wait_for

VERSION = "1.108.7"
MASTER = "sk-race-master"
MODEL, FREE_MODEL = "general", "warm-up"
NODE_PACKAGES = ("@prisma/client", "@prisma/adapter-pg", "prisma")
PACKAGES = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Installed:
    root: Path
    versions: Mapping[str, str]

    @property
    def bin(self) -> Path:
        return self.root / "venv" / "bin"

    @property
    def prisma(self) -> Mapping[str, str]:
        """The environment in which Prisma's Python client finds an engine."""
        return {"PRISMA_QUERY_ENGINE_BINARY": str(self.root / "query-engine")}


def install(root: Path) -> Installed:
    """LiteLLM's proxy in a virtual environment of its own, and Prisma's engine in a folder of npm beside it."""
    environment = root / "venv"
    if not (environment / "bin" / "litellm").exists():
        venv.create(environment, with_pip=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-compile"]
        subprocess.run([*pip, f"litellm[proxy]=={VERSION}", "prisma"], check=True)
    wanted = "from prisma import config; print(config.prisma_version)"
    prisma = _output([str(environment / "bin" / "python"), "-c", wanted])
    if not (root / "node_modules").exists():
        packages = [*(f"{name}@{prisma}" for name in NODE_PACKAGES), "pg", "graphql"]
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(root), *packages], check=True)
    _write_engine(root)
    if not (environment / PACKAGES / "prisma" / "client.py").exists():
        _generate(root, environment)
    versions = {"litellm": VERSION, "prisma engine (wasm)": prisma, "node": _output(["node", "--version"]).lstrip("v")}
    return Installed(root, versions)


def _write_engine(root: Path) -> None:
    """An executable where the Python client expects Prisma's."""
    engine = root / "query-engine"
    engine.write_text(f'#!/bin/sh\nPRISMA_MODULES="{root}/node_modules" exec node "{HERE}/prisma_engine.mjs" "$@"\n')
    engine.chmod(0o755)


def _generate(root: Path, environment: Path) -> None:
    """Prisma's Python client for LiteLLM's schema. Of its engines only the targets for other machines are left out."""
    published = (environment / PACKAGES / "litellm_proxy_extras" / "schema.prisma").read_text()
    schema = root / "schema.prisma"
    schema.write_text("".join(line for line in published.splitlines(True) if "binaryTargets" not in line))
    engine = str(root / "query-engine")
    names = ("PRISMA_QUERY_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY")
    env = {
        **os.environ,
        **dict.fromkeys(names, engine),
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "PRISMA_CLI_QUERY_ENGINE_TYPE": "binary",
        "CHECKPOINT_DISABLE": "1",
    }
    cli = root / "node_modules" / "prisma" / "build" / "index.js"
    subprocess.run(["node", str(cli), "generate", "--schema", str(schema)], check=True, env=env, capture_output=True)


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


class Postgres:
    """A PostgreSQL of our own on loopback, with LiteLLM's tables; as `nobody` where we are root, which it refuses."""

    def __init__(self, installed: Installed, directory: Path) -> None:
        self._user = "nobody" if os.getuid() == 0 else None
        self._bin = postgres_binaries()
        self._data = directory / "data"
        self._port = free_port()
        directory.mkdir()
        if self._user is not None:
            shutil.chown(directory, self._user)
        self.version = _output([str(self._bin / "postgres"), "--version"]).split()[2]
        self._run("initdb", "-D", str(self._data), "-U", "litellm", "-A", "trust", "--no-sync")
        argv = [str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self._port)]
        argv += ["-h", "127.0.0.1", "-k", str(directory)]
        self.process = Process("postgres", argv, directory.parent, user=self._user)
        self._wait()
        self._run("createdb", *self._at(), "litellm")
        self._migrate(installed, directory.parent / "migrations.sql")
        self.url = f"postgresql://litellm@127.0.0.1:{self._port}/litellm"

    def end(self) -> None:
        self.process.end()

    def _at(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self._port), "-U", "litellm")

    def _wait(self) -> None:
        while subprocess.run([str(self._bin / "pg_isready"), "-q", *self._at()], check=False).returncode:
            self.process.check()
            time.sleep(0.1)

    def _migrate(self, installed: Installed, script: Path) -> None:
        found = sorted((installed.root / "venv" / PACKAGES / "litellm_proxy_extras/migrations").glob("*/migration.sql"))
        script.write_text("\n".join(each.read_text() for each in found))
        self._run("psql", "-q", *self._at(), "-d", "litellm", "-v", "ON_ERROR_STOP=1", "-f", str(script))

    def _run(self, program: str, *arguments: str) -> None:
        as_user = {} if self._user is None else {"user": self._user, "group": "nogroup", "extra_groups": []}
        argv = [str(self._bin / program), *arguments]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd="/", **as_user)
        if done.returncode:
            raise SystemExit(f"{program} failed: {done.stderr[-2000:]}")


def postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian keeps them off the path
    on_path = shutil.which("pg_ctl")
    if not found and not on_path:
        raise SystemExit("no PostgreSQL on this machine: install the system's package")
    return found[-1] if found else Path(str(on_path)).resolve().parent


class Proxies:
    """`count` proxies of one configuration, all ready. Without `database` they know the master key only."""

    def __init__(
        self,
        installed: Installed,
        directory: Path,
        *,
        upstream: str,
        usd_per_token: float,
        count: int = 1,
        provider_budget_usd: float | None = None,
        database: str | None = None,
        redis: tuple[str, int] | None = None,
        is_strict: bool = False,
    ) -> None:
        directory.mkdir(exist_ok=True)
        config = directory / "config.yaml"
        config.write_text(json.dumps(_config(upstream, usd_per_token, provider_budget_usd, redis, is_strict)))
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DISABLE_SCHEMA_UPDATE": "true", **installed.prisma}
        env["PATH"] = f"{installed.bin}:{os.environ['PATH']}"
        if database is not None:
            env["DATABASE_URL"] = database
        self.urls = []
        self._processes = []
        for number in range(count):
            port = free_port()
            argv = [str(installed.bin / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
            self._processes.append(Process(f"litellm-{number}", argv, directory, env=env))
            self.urls.append(f"http://127.0.0.1:{port}")
        for process, url in zip(self._processes, self.urls, strict=True):
            wait_for(process, f"{url}/health/readiness")
            ask("POST", f"{url}/v1/chat/completions", key=MASTER, body=_warm_up())

    def new_key(self, budget_usd: float) -> str:
        made = ask("POST", f"{self.urls[0]}/key/generate", key=MASTER, body={"max_budget": budget_usd})
        return str(made["key"])

    def spent_by_key(self, key: str) -> float:
        """What LiteLLM's database says."""
        return float(ask("GET", f"{self.urls[0]}/key/info?key={key}", key=MASTER)["info"]["spend"])

    def spent_at_provider(self) -> float:
        return float(ask("GET", f"{self.urls[0]}/provider/budgets", key=MASTER)["providers"]["openai"]["spend"])

    def end(self) -> None:
        for process in self._processes:
            process.end()


def _config(
    upstream: str,
    usd_per_token: float,
    provider_budget_usd: float | None,
    redis: tuple[str, int] | None,
    is_strict: bool,
) -> dict[str, object]:
    settings: dict[str, object] = {"master_key": MASTER, "proxy_batch_write_at": 1}
    if is_strict:
        settings["fail_closed_budget_enforcement"] = True
    router: dict[str, object] = {"num_retries": 0, "disable_cooldowns": True}
    litellm: dict[str, object] = {"telemetry": False, "num_retries": 0}
    if provider_budget_usd is not None:
        budget = {"budget_limit": provider_budget_usd, "time_period": "1d"}
        router["provider_budget_config"] = {"openai": budget}
    if redis is not None:
        litellm["cache"] = True
        litellm["cache_params"] = {"type": "redis", "host": redis[0], "port": redis[1], "supported_call_types": []}
    return {
        "model_list": [_model(MODEL, upstream, usd_per_token), _model(FREE_MODEL, upstream, 0.0)],
        "general_settings": settings,
        "router_settings": router,
        "litellm_settings": litellm,
    }


def _model(name: str, upstream: str, usd_per_token: float) -> dict[str, object]:
    prices = {"input_cost_per_token": 0.0, "output_cost_per_token": usd_per_token}
    parameters = {"model": f"openai/{name}", "api_base": f"{upstream}/v1", "api_key": "none", **prices}
    return {"model_name": name, "litellm_params": parameters, "model_info": prices}


def _warm_up() -> dict[str, object]:
    return {"model": FREE_MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "warm up"}]}
