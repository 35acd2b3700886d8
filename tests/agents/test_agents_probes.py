"""What a cluster asks of processes of agents."""

import pytest

from stoker.agents.probes import answering
from stoker.base.errors import StokerError
from stoker.local import ports
from stoker.telemetry.metrics import Metrics
from stoker.web import server
from stoker.web.client import HttpClient

LOOPBACK = "127.0.0.1"


async def test_a_worker_answers_its_probes_for_as_long_as_it_runs() -> None:
    port = ports.claim(LOOPBACK, 0)
    async with HttpClient(f"http://{LOOPBACK}:{port}") as http:
        async with answering(Metrics(), port, LOOPBACK):
            health, metrics = await http.request("GET", "/health"), await http.request("GET", "/metrics")
            assert (health.status, health.json()) == (200, {"status": "ok"})
            assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b"process_resident_memory_bytes" in metrics.body
        with pytest.raises(StokerError, match="cannot reach http"):
            await http.request("GET", "/health")


async def test_a_worker_that_nobody_probes_listens_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[tuple[str, int]] = []
    monkeypatch.setattr(server, "bind", lambda host, port: bound.append((host, port)))
    async with answering(Metrics(), None):
        assert bound == []
