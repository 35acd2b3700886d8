"""taskiq on Redis Streams, 64 tasks at once in one worker process; its result backend polls every millisecond."""

import asyncio

from rules import body_of, drive, say_ready, told
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

what, url, tasks, size, at_once = told()
broker = RedisStreamBroker(url=url).with_result_backend(RedisAsyncResultBackend(redis_url=url, result_ex_time=3600))


@broker.task
async def no_op(text: str) -> int:
    return len(text)


async def work() -> None:
    broker.is_worker_process = True
    await broker.startup()
    say_ready()
    await run_receiver_task(broker, max_async_tasks=64)


async def submit() -> None:
    text = body_of(size)
    await broker.startup()

    async def read(task: object) -> int:
        return (await task.wait_result(check_interval=0.001, timeout=60)).return_value

    await drive(lambda: no_op.kiq(text), read, tasks=tasks, at_once=at_once, right=len(text))
    await broker.shutdown()


asyncio.run(work() if what == "work" else submit())
