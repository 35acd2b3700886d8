"""celery, one prefork child, results in Redis."""

from celery import Celery
from celery.signals import worker_ready
from rules import body_of, drive_threads, say_ready, told

what, url, tasks, size, _ = told()
path = url.removeprefix("unix://")
app = Celery("no_op", broker=f"redis+socket://{path}", backend=f"redis+socket://{path}")


@app.task(name="no_op")
def no_op(text: str) -> int:
    return len(text)


@worker_ready.connect
def on_ready(**_: object) -> None:
    say_ready()


if what == "work":
    app.worker_main(["worker", "--pool=prefork", "--concurrency=1", "--loglevel=ERROR", "--without-gossip"])
else:
    text = body_of(size)
    drive_threads(
        lambda: no_op.delay(text), lambda result: result.get(timeout=60), tasks=tasks, threads=1, right=len(text)
    )
