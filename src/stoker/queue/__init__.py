"""Tasks on Redis Streams with leases and dead letters, who serves which model, and the embedded Redis server.

`interface.py` is what it promises. Called by the gateway (submit, wait, usage), the worker (claim, finish, reclaim)
and the supervisor (`server`); knows nothing of HTTP and engines.
"""

from stoker.queue.interface import Queue, Registry
from stoker.queue.memory_queue import MemoryQueue
from stoker.queue.memory_registry import MemoryRegistry
from stoker.queue.redis_queue import RedisQueue
from stoker.queue.redis_registry import RedisRegistry
from stoker.queue.replicas import Replica
from stoker.queue.tasks import (
    Attempt,
    Chunk,
    Claim,
    Depth,
    LeaseState,
    NewTask,
    QueueSettings,
    State,
    Task,
)

__all__ = [
    "Attempt",
    "Chunk",
    "Claim",
    "Depth",
    "LeaseState",
    "MemoryQueue",
    "MemoryRegistry",
    "NewTask",
    "Queue",
    "QueueSettings",
    "RedisQueue",
    "RedisRegistry",
    "Registry",
    "Replica",
    "State",
    "Task",
]
