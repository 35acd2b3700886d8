"""Work that blocks, in a thread of its own: one that never ends holds up neither the loop, nor other calls, nor the end
of the process."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Daemons(ThreadPoolExecutor):
    """As an event loop's executor: a thread for each call. What never returns takes none from others, and does not keep
    the process from ending."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = fn(*args, **kwargs)
            except BaseException as exc:  # it belongs to whoever waits
                future.set_exception(exc)
            else:
                future.set_result(value)

        threading.Thread(target=run, daemon=True, name="call").start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nobody waits for them."""


async def in_thread(function: Callable[[], T]) -> T:
    """What `function` returns or raises. Cancelled, it leaves the thread to itself: nothing can end a thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)  # type: ignore[arg-type]  # T may be Optional
        else:
            done.set_exception(error)

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = context.run(function)
        except StopIteration as exc:  # which no future can hold
            error = RuntimeError(f"StopIteration: {exc}")
        except BaseException as exc:  # it belongs to whoever waits
            error = exc
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, daemon=True, name="tool").start()
    return await done
