"""Stoker for the race: a Redis, a worker that announces the upstream as a replica, gateways on one Redis and ledger."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from stoker.meter.keys import KeyStore, new_key
from stoker.meter.store import Store
from stoker.spec import Budgets

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Process, ask, free_port, said_ready, wait_for

PYTHON = (sys.executable, "-P", "-m")


class Gateways:
    """`count` gateway processes, all ready."""

    def __init__(self, directory: Path, *, upstream: str, usd_per_million: float, count: int) -> None:
        directory.mkdir(exist_ok=True)
        spec = directory / "platform.yaml"
        spec.write_text(json.dumps(_spec(upstream, usd_per_million)))
        ledger = f"sqlite:///{directory / 'ledger.sqlite'}"
        self._admin = new_key()
        store = Store(ledger)
        keys = KeyStore(store)
        keys.ensure(self._admin, tenant="default", name="admin", role="admin")
        warm_up = keys.create("default", budgets=Budgets(usd_total=Decimal(1000))).secret
        store.close()
        self._processes = [
            Process("redis", [*PYTHON, "stoker.queue.server", "--dir", str(directory / "redis")], directory)
        ]
        redis = said_ready(self._processes[0])
        named = ["--spec", str(spec), "--redis", redis]
        worker = [*PYTHON, "stoker.worker", *named, "--model", "general", "--replica", "general-1"]
        self._processes.append(Process("worker", [*worker, "--engine-url", upstream], directory))
        said_ready(self._processes[-1])
        self.urls = []
        for number in range(count):
            port = free_port()
            argv = [*PYTHON, "stoker.gateway", *named, "--ledger", ledger, "--host", "127.0.0.1", "--port", str(port)]
            self._processes.append(Process(f"gateway-{number}", argv, directory))
            self.urls.append(f"http://127.0.0.1:{port}")
        for process, url in zip(self._processes[2:], self.urls, strict=True):
            said_ready(process)
            wait_for(process, f"{url}/ready")
            body = {"model": "general", "max_tokens": 1, "messages": [{"role": "user", "content": "warm up"}]}
            ask("POST", f"{url}/v1/chat/completions", key=warm_up, body=body)

    def new_key(self, budget_usd: float, tenant: str) -> str:
        stoker = str(Path(sys.executable).parent / "stoker")
        command = [stoker, "keys", "create", "--tenant", tenant, "--budget-usd", str(budget_usd), "--json"]
        env = {**os.environ, "STOKER_URL": self.urls[0], "STOKER_KEY": self._admin}
        made = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
        if made.returncode:
            raise SystemExit(f"stoker keys create failed: {made.stderr}")
        return str(json.loads(made.stdout)["key"])

    def spent_by(self, tenant: str) -> float:
        """What the ledger says."""
        report = ask("GET", f"{self.urls[0]}/admin/v1/usage?tenant={tenant}", key=self._admin)
        return float(report["total"]["usd"])

    def end(self) -> None:
        for process in reversed(self._processes):
            process.end()


def _spec(upstream: str, usd_per_million: float) -> dict[str, object]:
    prices = {
        "inputUsdPerMillionTokens": 0,
        "cachedInputUsdPerMillionTokens": 0,
        "outputUsdPerMillionTokens": usd_per_million,
    }
    model = {"engine": {"url": f"{upstream}/v1"}, "prices": prices, "limits": {"concurrency": 256}}
    return {"llm": {"models": {"general": model}}}
