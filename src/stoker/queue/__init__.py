"""Tasks on Redis Streams with leases and dead letters, who serves which model, and the embedded Redis server.

`interface.py` is what it promises. Called by the gateway (submit, wait, usage), the worker (claim, finish, reclaim)
and the supervisor (`server`); knows nothing of HTTP and engines.
"""

from typing import TYPE_CHECKING

from stoker.base.lazy import names_of

if TYPE_CHECKING:
    from stoker.queue.alarm import TaskAlarm
    from stoker.queue.budgets import (
        BudgetStore,
        CounterState,
        Gone,
        Hold,
        InFlightPart,
        Leased,
        NotBegun,
        NotOpen,
        Renewed,
        Settlement,
        Short,
    )
    from stoker.queue.interface import Queue, Registry
    from stoker.queue.letters import Dropped, Letters, Which
    from stoker.queue.memory_budgets import MemoryBudgets
    from stoker.queue.memory_queue import MemoryQueue
    from stoker.queue.memory_registry import MemoryRegistry
    from stoker.queue.redis_budgets import RedisBudgets
    from stoker.queue.redis_queue import RedisQueue
    from stoker.queue.redis_registry import RedisRegistry
    from stoker.queue.replicas import Replica
    from stoker.queue.tasks import (
        Attempt,
        Chunk,
        Claim,
        Delivery,
        Depth,
        LeaseState,
        NewTask,
        Partial,
        Place,
        QueueSettings,
        State,
        Task,
        TokenBound,
        usage_kind,
    )

_HOMES = {
    "alarm": ["TaskAlarm"],
    "budgets": [
        "BudgetStore",
        "CounterState",
        "Gone",
        "Hold",
        "InFlightPart",
        "Leased",
        "NotBegun",
        "NotOpen",
        "Renewed",
        "Settlement",
        "Short",
    ],
    "interface": ["Queue", "Registry"],
    "letters": ["Dropped", "Letters", "Which"],
    "memory_budgets": ["MemoryBudgets"],
    "memory_queue": ["MemoryQueue"],
    "memory_registry": ["MemoryRegistry"],
    "redis_budgets": ["RedisBudgets"],
    "redis_queue": ["RedisQueue"],
    "redis_registry": ["RedisRegistry"],
    "replicas": ["Replica"],
    "tasks": [
        "Attempt",
        "Chunk",
        "Claim",
        "Delivery",
        "Depth",
        "LeaseState",
        "NewTask",
        "Partial",
        "Place",
        "QueueSettings",
        "State",
        "Task",
        "TokenBound",
        "usage_kind",
    ],
}
__getattr__ = names_of(__name__, _HOMES)

__all__ = [
    "Attempt",
    "BudgetStore",
    "Chunk",
    "Claim",
    "CounterState",
    "Delivery",
    "Depth",
    "Dropped",
    "Gone",
    "Hold",
    "InFlightPart",
    "LeaseState",
    "Leased",
    "Letters",
    "MemoryBudgets",
    "MemoryQueue",
    "MemoryRegistry",
    "NewTask",
    "NotBegun",
    "NotOpen",
    "Partial",
    "Place",
    "Queue",
    "QueueSettings",
    "RedisBudgets",
    "RedisQueue",
    "RedisRegistry",
    "Registry",
    "Renewed",
    "Replica",
    "Settlement",
    "Short",
    "State",
    "Task",
    "TaskAlarm",
    "TokenBound",
    "Which",
    "usage_kind",
]
