"""The replicas of one machine, as the autoscaler sees them: an engine and its worker are one, and so is a worker of
agents."""

from collections.abc import Callable, Sequence

from stoker.local.board import Board, Child, Role, Status
from stoker.local.supervisor import Launch, Supervisor
from stoker.policy import hpa, scaling


class LocalFleet:
    """`autoscaler.Fleet` on a supervisor. `launches` plans replica number N of a model."""

    def __init__(self, supervisor: Supervisor, launches: Callable[[str, int], Sequence[Launch]]) -> None:
        self._supervisor, self._launches = supervisor, launches

    def replicas(self, model: str) -> hpa.Replicas:
        pods = self._pods(model)
        ready = sum(pod.ready_at is not None for pod in pods)
        return hpa.Replicas(len(pods), len(pods), ready)

    def scale(self, model: str, replicas: int) -> None:
        pods = self._pods(model)
        for _ in range(replicas - len(pods)):
            self._supervisor.add(self._launches(model, free_number(self._board, model)))
        leaving = scaling.first_to_leave(pods, len(pods) - replicas) if replicas < len(pods) else []
        for worker in leaving:
            uses = self._board.children[worker].uses
            engines = [name for name in uses if self._board.children[name].role is Role.ENGINE]
            self._supervisor.retire([worker, *engines])

    @property
    def _board(self) -> Board:
        return self._supervisor.board

    def _pods(self, model: str) -> list[scaling.Pod]:
        workers = [child for child in self._board.children.values() if _is_worker_of(child, model)]
        return [_pod(child) for child in workers if child.is_needed]


def free_number(board: Board, model: str) -> int:
    """The least number that no replica of the model has, also none that is leaving."""
    number = 1
    while f"worker-{model}-{number}" in board.children or f"engine-{model}-{number}" in board.children:
        number += 1
    return number


def _is_worker_of(child: Child, model: str) -> bool:
    return child.role in (Role.WORKER, Role.AGENT_WORKER) and child.model == model


def _pod(worker: Child) -> scaling.Pod:
    ready_at = worker.since if worker.status is Status.READY else None
    return scaling.Pod(worker.name, worker.added_at, ready_at, worker.restarts)
