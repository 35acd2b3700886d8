"""The names of the tasks' streams in Redis, which KEDA is told too: a contract with the outside."""

GROUP = "workers"
"""The consumer group of every stream of tasks; its lag is what waits, its pending entries are what runs."""


def tasks(model: str) -> str:
    """Stream of tickets: one for each task of the model that waits or runs."""
    return f"stoker:tasks:{model}"
