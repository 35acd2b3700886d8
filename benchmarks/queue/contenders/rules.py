"""What every contender does, so that they are alike: tasks with a body of so many bytes are submitted, at most
`at_once` calls at a time; then each result is read, in the order of submission, again so many at a time.

It imports nothing but the standard library: a contender runs in an environment that has its own library and no other.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def told() -> tuple[str, str, int, int, int]:
    """From the command line: what to do (work, submit), the URL of Redis, tasks, bytes of a body, calls at once."""
    return sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])


def say_ready() -> None:
    os.write(1, b"ready\n")  # not print: celery turns it into log lines


def body_of(size_bytes: int) -> str:
    """Text that has so many bytes as JSON."""
    return "x" * (size_bytes - 2)


def say(tasks: int, submitted_s: float, done_s: float, results: Sequence[Any], right: Any) -> None:
    wrong = sum(result != right for result in results)
    print(json.dumps({"tasks": tasks, "submitted_s": submitted_s, "done_s": done_s, "wrong": wrong}), flush=True)


async def drive(
    submit: Callable[[], Awaitable[Any]],
    read: Callable[[Any], Awaitable[Any]],
    *,
    tasks: int,
    at_once: int,
    right: Any,
) -> None:
    """Submit, read, and say how long it took. One task goes before, so that everybody is up and connected."""
    await read(await submit())
    begin = time.perf_counter()
    handles = await _each([submit] * tasks, at_once)
    submitted = time.perf_counter()
    results = await _each([lambda handle=handle: read(handle) for handle in handles], at_once)
    say(tasks, submitted - begin, time.perf_counter() - begin, results, right)


async def _each(calls: Sequence[Callable[[], Awaitable[Any]]], at_once: int) -> list[Any]:
    answers: list[Any] = [None] * len(calls)
    numbers = iter(range(len(calls)))

    async def some() -> None:
        for number in numbers:
            answers[number] = await calls[number]()

    await asyncio.gather(*(some() for _ in range(at_once)))
    return answers


def drive_threads(
    submit: Callable[[], Any], read: Callable[[Any], Any], *, tasks: int, threads: int, right: Any
) -> None:
    """The same for a library without asyncio. Threads of one process take turns, so more of them are no faster."""
    read(submit())
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        handles = list(pool.map(lambda _: submit(), range(tasks)))
        submitted = time.perf_counter()
        results = [read(handle) for handle in handles]
        say(tasks, submitted - begin, time.perf_counter() - begin, results, right)
