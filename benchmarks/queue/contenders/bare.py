"""The bare batched loop: XADD; XREADGROUP; then for each batch the results, XACK and XDEL in one pipeline. No lease, no
retry, no usage, no fairness, no fencing: what Redis and redis-py leave to be had."""

import asyncio

import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from rules import body_of, drive, say_ready, told

STREAM, GROUP, RESULT = "bare", "workers", "bare:result:"


async def work(client: Redis) -> None:
    await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    say_ready()
    while True:
        found = await client.xreadgroup(GROUP, "w", {STREAM: ">"}, count=64, block=1000)
        if not found:
            continue
        ids = []
        async with client.pipeline(transaction=False) as pipe:
            for entry, fields in found[0][1]:
                ids.append(entry)
                pipe.set(RESULT + fields[b"id"].decode(), len(fields[b"body"]), px=3_600_000)
            pipe.xack(STREAM, GROUP, *ids)
            pipe.xdel(STREAM, *ids)
            await pipe.execute()


async def submit(client: Redis, tasks: int, size: int, at_once: int) -> None:
    body, numbers = body_of(size), iter(range(tasks + 1))

    async def add() -> int:
        number = next(numbers)
        await client.xadd(STREAM, {"id": number, "body": body})
        return number

    async def read(number: int) -> int:
        while (found := await client.get(f"{RESULT}{number}")) is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        return int(found)

    await drive(add, read, tasks=tasks, at_once=at_once, right=len(body))


async def main() -> None:
    what, url, tasks, size, at_once = told()
    client = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=at_once, protocol=2))
    await (work(client) if what == "work" else submit(client, tasks, size, at_once))
    await client.aclose()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
