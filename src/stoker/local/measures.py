"""What the supervisor of `stoker up` counts, for Prometheus: processes, restarts, replicas and why."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from stoker.local.board import Board
from stoker.telemetry.metrics import Metrics


class SupervisorMetrics:
    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._processes = metrics.gauge("stoker_processes", "Processes of this machine, by state.", ["role", "state"])
        self._restarts = metrics.counter(
            "stoker_process_restarts_total", "Starts of a process after one that ended unasked.", ["role"]
        )
        self._replicas = metrics.gauge(
            "stoker_scale_replicas", "Replicas that the autoscaler wants; the reason is its last.", ["model", "reason"]
        )
        self._ready = metrics.gauge("stoker_scale_ready_replicas", "Those of them that are ready.", ["model"])
        self._decisions = metrics.counter(
            "stoker_scale_decisions_total", "Decisions that a person would see in `stoker scale`.", ["model", "reason"]
        )
        self._seen_restarts: dict[str, int] = {}
        self._seen_decision = 0

    def board(self, board: Board) -> None:
        """After each change. States that no process has any more are left out."""
        children = list(board.children.values())
        self._processes.clear()
        for (role, state), count in Counter((str(one.role), str(one.status)) for one in children).items():
            self._processes.labels(role, state).set(count)
        for one in children:
            self._restarts.labels(str(one.role)).inc(max(0, one.restarts - self._seen_restarts.get(one.name, 0)))
        self._seen_restarts = {one.name: one.restarts for one in children}

    def scale(self, shown: Mapping[str, Any]) -> None:
        """`shown` as scale.json has it."""
        self._replicas.clear()
        latest = {each["model"]: each for each in shown["decisions"]}
        for model in shown["models"]:
            why = latest.get(model["model"])
            self._replicas.labels(model["model"], "none" if why is None else word(why)).set(model["replicas"])
            self._ready.labels(model["model"]).set(model["ready"])
        for each in shown["decisions"]:
            if each["number"] > self._seen_decision:
                self._decisions.labels(each["model"], word(each)).inc()
                self._seen_decision = each["number"]


def word(decision: Mapping[str, Any]) -> str:
    """Why, in one of few words: `policy.keda.Reason` or `policy.hpa.Reason`, or who stood above them."""
    if decision["by_hand"]:
        return "by hand"
    if decision["cut_to_machine"]:
        return "machine is full"
    reason: str = (decision["hpa"] or decision["keda"])["reason"]
    return reason
