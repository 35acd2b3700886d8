"""What a Prometheus beside `stoker up` needs: `prometheus --config.file .stoker/prometheus/prometheus.yml` is all.

    prometheus.yml    scrapes who is in targets.json, with the rules of rules.yml
    targets.json      file_sd: each process that answers /metrics, kept current while replicas come and go
    rules.yml         the platform's own rules, those whose metrics are there on one machine

JSON is YAML: the supervisor carries no writer of YAML around.
"""

import json
from typing import Any
from urllib.parse import urlsplit

from stoker.local.board import Board, Role, Status

TARGETS, CONFIG, RULES = "targets.json", "prometheus.yml", "rules.yml"
INTERVAL_S = 5


def config(*, interval_s: int = INTERVAL_S) -> str:
    """File names are relative to the file itself. honor_labels: a metric's own `model` is the platform's."""
    every = f"{interval_s}s"
    scrape = {
        "job_name": "stoker",
        "honor_labels": True,
        "file_sd_configs": [{"files": [TARGETS], "refresh_interval": every}],
    }
    made = {
        "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every},
        "rule_files": [RULES],
        "scrape_configs": [scrape],
    }
    return json.dumps(made, indent=1) + "\n"


def targets(board: Board, *, supervisor: str | None) -> str:
    """Whoever has said that it is ready and where it answers. `supervisor`: its own URL."""
    found = [] if supervisor is None else [_target(supervisor, "supervisor", "supervisor", None)]
    for child in board.children.values():
        if child.role is not Role.REDIS and child.status is Status.READY and child.url is not None:
            found.append(_target(child.url, str(child.role), child.name, child.model))
    return json.dumps(found, indent=1) + "\n"


def _target(url: str, job: str, process: str, model: str | None) -> dict[str, Any]:
    labels = {"job": job, "process": process, **({} if model is None else {"model": model})}
    return {"targets": [urlsplit(url).netloc], "labels": labels}
