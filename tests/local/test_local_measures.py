"""What the supervisor tells Prometheus: of its processes, of scaling, and whom to scrape."""

import json
from typing import Any

from stoker.local.board import Board, Child, Role, Status
from stoker.local.measures import SupervisorMetrics
from stoker.local.prometheus import targets
from stoker.telemetry.metrics import Metrics


def samples(measures: SupervisorMetrics, begin: str) -> set[str]:
    return {line for line in measures.metrics.text().decode().splitlines() if line.startswith(begin)}


def decided(number: int, reason: str) -> dict[str, Any]:
    return {
        "number": number,
        "model": "general",
        "by_hand": False,
        "cut_to_machine": False,
        "hpa": {"reason": reason},
        "keda": None,
    }


def test_a_state_that_no_process_has_any_more_has_no_sample_and_a_restart_counts_once() -> None:
    measures = SupervisorMetrics(Metrics())
    engine = Child("engine-general-1", Role.ENGINE, status=Status.STARTING)
    board = Board([engine], now=0.0, backoff_s=lambda _: 1.0)
    measures.board(board)
    engine.status, engine.restarts = Status.READY, 2
    measures.board(board)
    measures.board(board)
    assert samples(measures, "stoker_processes{") == {'stoker_processes{role="engine",state="ready"} 1.0'}
    assert samples(measures, "stoker_process_restarts_total") == {'stoker_process_restarts_total{role="engine"} 2.0'}


def test_a_decision_counts_once_and_the_last_reason_alone_is_shown() -> None:
    measures = SupervisorMetrics(Metrics())
    models = [{"model": "general", "replicas": 2, "ready": 1}]
    measures.scale({"models": models, "decisions": [decided(1, "one")]})
    measures.scale({"models": models, "decisions": [decided(1, "one"), decided(2, "two")]})
    assert samples(measures, "stoker_scale_replicas{") == {'stoker_scale_replicas{model="general",reason="two"} 2.0'}
    assert samples(measures, "stoker_scale_ready_replicas{") == {'stoker_scale_ready_replicas{model="general"} 1.0'}
    assert samples(measures, "stoker_scale_decisions_total{") == {
        f'stoker_scale_decisions_total{{model="general",reason="{reason}"}} 1.0' for reason in ("one", "two")
    }


def test_who_is_ready_and_says_where_is_scraped() -> None:
    url = "http://127.0.0.1:9"
    children = [
        Child("redis", Role.REDIS, status=Status.READY, url="redis://127.0.0.1:1"),
        Child("gateway", Role.GATEWAY, status=Status.READY, url=url),
        Child("engine-general-1", Role.ENGINE, status=Status.STARTING, url=url, model="general"),
        Child("worker-general-1", Role.WORKER, status=Status.READY, model="general"),
        Child("worker-general-2", Role.WORKER, status=Status.READY, url=url, model="general"),
    ]
    found = json.loads(targets(Board(children, now=0.0, backoff_s=lambda _: 1.0), supervisor="http://127.0.0.1:8"))
    assert [(each["targets"], each["labels"]) for each in found] == [
        (["127.0.0.1:8"], {"job": "supervisor", "process": "supervisor"}),
        (["127.0.0.1:9"], {"job": "gateway", "process": "gateway"}),
        (["127.0.0.1:9"], {"job": "worker", "process": "worker-general-2", "model": "general"}),
    ]
