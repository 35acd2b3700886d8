"""dramatiq on Redis, 8 threads in one worker process (its default), results kept by its Redis backend."""

import threading

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.worker import Worker
from rules import body_of, drive_threads, say_ready, told

what, url, tasks, size, _ = told()
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=url)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def no_op(text: str) -> int:
    return len(text)


if what == "work":
    Worker(broker, worker_threads=8).start()
    say_ready()
    threading.Event().wait()
else:
    text = body_of(size)
    # One thread submits faster than several, which share one interpreter.
    drive_threads(
        lambda: no_op.send(text),
        lambda message: message.get_result(block=True, timeout=60_000),
        tasks=tasks,
        threads=1,
        right=len(text),
    )
