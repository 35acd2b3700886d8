"""arq, 64 jobs at once in one worker process, polling every 10 ms; results are polled for every millisecond."""

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from rules import body_of, drive, say_ready, told

what, url, tasks, size, at_once = told()
redis = RedisSettings(unix_socket_path=url.removeprefix("unix://"))


async def no_op(_: dict[str, Any], text: str) -> int:
    return len(text)


async def work() -> None:
    say_ready()
    await Worker([func(no_op)], redis_settings=redis, max_jobs=64, poll_delay=0.01, handle_signals=False).async_run()


async def submit() -> None:
    text = body_of(size)
    pool = await create_pool(redis)

    async def read(job: Any) -> int:
        return await job.result(timeout=60, poll_delay=0.001)

    await drive(lambda: pool.enqueue_job("no_op", text), read, tasks=tasks, at_once=at_once, right=len(text))


asyncio.run(work() if what == "work" else submit())
