"""Finding tasks in Redis for people who look: never on the path of a task, no step depends on it."""

import json
from collections.abc import Sequence

from stoker.base.ids import ModelName, TaskId
from stoker.policy.fairness import PRIORITIES
from stoker.queue import codec, keys
from stoker.queue.connection import Connection
from stoker.queue.cursors import parse_cursor
from stoker.queue.letters import ANY, Dropped, Letters, Which
from stoker.queue.tasks import State, Task

PAGE = 500
PAGES = 20  # of dead letters that are looked at in one step


async def newest(redis: Connection, *, model: ModelName | None, state: State | None, limit: int) -> Sequence[Task]:
    """As `interface.Queue.list`."""
    found: dict[str, Task] = {}
    for name in [model] if model is not None else await _models(redis):
        for task in await _summaries(redis, await _ids(redis, name, state, limit)):
            if state is None or task.state == state:  # it may have moved on since its id was read
                found[task.id] = task
    return sorted(found.values(), key=lambda task: (task.submitted_at, task.id), reverse=True)[:limit]


async def dead(redis: Connection, model: str, limit: int) -> Sequence[Task]:
    """As `interface.Queue.dead`."""
    tasks = await _summaries(redis, await _stream_ids(redis, keys.dead(model), limit))
    return [task for task in tasks if task.state == State.DEAD]


async def letters(redis: Connection, model: str, which: Which, after: str | None, limit: int) -> Letters:
    """As `interface.Queue.letters`."""
    found: list[Task] = []
    newest = "+" if after is None else "({}-{}".format(*parse_cursor(after))
    size = (
        min(PAGE, limit + 1) if which == ANY else PAGE
    )  # where all are meant, one more than a page says if there is one
    for _ in range(PAGES):
        page = await redis.ask("list dead letters", redis.client.xrevrange(keys.dead(model), max=newest, count=size))
        tasks = {task.id: task for task in await _summaries(redis, [fields[b"id"].decode() for _, fields in page])}
        for entry, fields in page:
            if len(found) == limit:
                return Letters(found, newest[1:])
            newest = "(" + entry.decode()
            task = tasks.get(TaskId(fields[b"id"].decode()))
            if task is not None and task.state == State.DEAD and which.takes(task):
                found.append(task)
        if len(page) < size:
            return Letters(found, None)
    return Letters(found, newest[1:])


async def one(redis: Connection, task_id: TaskId, most_result_bytes: int) -> Task | None:
    """Without its body, and with its result if that is not larger; None: it is not there."""
    key, names = keys.task(task_id), [*keys.SUMMARY, keys.RESULT]
    length = await redis.call("measure a result", "HSTRLEN", key, keys.RESULT)
    wanted = names if length <= most_result_bytes else keys.SUMMARY
    values = await redis.call("read a task", "HMGET", key, *wanted)
    fields = {name: value for name, value in zip(wanted, values, strict=True) if value is not None}
    return codec.task_from(task_id, fields) if keys.HEAD in fields else None


async def dropped(redis: Connection, limit: int) -> list[Dropped]:
    """As `interface.Queue.dropped`."""
    page = await redis.ask("list dropped letters", redis.client.xrevrange(keys.DROPPED, count=limit))
    return [Dropped(**json.loads(fields[b"d"])) for _, fields in page]


async def _models(redis: Connection) -> list[str]:
    found = await redis.ask("list models", redis.client.smembers(keys.MODELS))
    return sorted(name.decode() for name in found)


async def _ids(redis: Connection, model: str, state: State | None, limit: int) -> list[str]:
    ids: list[str] = []
    if state in (None, State.QUEUED):
        ids += await _waiting_ids(redis, model, limit)
    if state in (None, State.RUNNING):
        ids += await _set_ids(redis, keys.leases(model), limit)
    if state in (None, State.RETRYING):
        ids += await _set_ids(redis, keys.delayed(model), limit)
    if state in (None, State.DEAD):
        ids += await _stream_ids(redis, keys.dead(model), limit)
    if state in (None, State.DONE, State.CANCELLED, State.FORWARDED, State.DROPPED):
        ids += await _stream_ids(redis, keys.ended(model), limit, state)
    return list(dict.fromkeys(ids))


async def _waiting_ids(redis: Connection, model: str, limit: int) -> list[str]:
    """Those that began to wait last, of all priorities and tenants."""
    async with redis.pipeline("list tasks") as pipe:
        for priority in PRIORITIES:
            pipe.zrange(keys.lane(model, priority), 0, -1)
        lanes = await pipe.execute()
    places = [
        keys.tenant_tasks(model, priority, tenant.decode())
        for priority, tenants in zip(PRIORITIES, lanes, strict=True)
        for tenant in tenants
    ]
    async with redis.pipeline("list tasks") as pipe:
        for place in places:
            pipe.zrevrange(place, 0, limit - 1, withscores=True)
        found = [each for newest in await pipe.execute() for each in newest]
    return [task_id.decode() for task_id, _ in sorted(found, key=lambda each: each[1], reverse=True)[:limit]]


async def _set_ids(redis: Connection, key: str, limit: int) -> list[str]:
    found = await redis.ask("list tasks", redis.client.zrevrange(key, 0, limit - 1))
    return [each.decode() for each in found]


async def _stream_ids(redis: Connection, key: str, limit: int, state: State | None = None) -> list[str]:
    """The ids in the stream's newest entries; with a `state`, of entries that carry it, however far back."""
    ids: list[str] = []
    newest = "+"
    while True:
        size = max(1, min(limit, PAGE))
        page = await redis.ask("list tasks", redis.client.xrevrange(key, max=newest, count=size))
        ids += [fields[b"id"].decode() for _, fields in page if state is None or fields[b"state"].decode() == state]
        if len(page) < size or len(ids) >= limit:
            return ids[:limit]
        newest = "(" + page[-1][0].decode()


async def _summaries(redis: Connection, ids: Sequence[str]) -> list[Task]:
    tasks: list[Task] = []
    for start in range(0, len(ids), PAGE):
        some = ids[start : start + PAGE]
        async with redis.pipeline("list tasks") as pipe:
            for task_id in some:
                pipe.hmget(keys.task(task_id), *keys.SUMMARY)
            rows = await pipe.execute()
        for task_id, values in zip(some, rows, strict=True):
            fields = {name: value for name, value in zip(keys.SUMMARY, values, strict=True) if value is not None}
            if keys.HEAD in fields:  # else its time was over meanwhile
                tasks.append(codec.task_from(TaskId(task_id), fields))
    return tasks
