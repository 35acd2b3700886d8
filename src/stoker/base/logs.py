"""Logs are events with fields. A process of the platform writes them as JSON lines on stderr; the supervisor keeps
them in the state directory and shows them readably. Never a body, a key or an environment in a field.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TextIO, TypeVar, cast

# For a renderer that is not used here structlog loads rich, if it is there: a quarter of a second of each start.
_loads_rich = "rich" not in sys.modules
if _loads_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # which Python takes for a package that is missing
try:
    import structlog
finally:
    if _loads_rich:
        del sys.modules["rich"]

Logger = structlog.stdlib.BoundLogger
T = TypeVar("T")


class InLogs(Protocol):
    @property
    def in_logs(self) -> Mapping[str, str]: ...


class Turns:
    """For a task that does one thing after the other, such as the requests of a connection: it is bound once, and `now`
    is what is bound. To bind each costs several times as much. A task that may go on when `now` is another begins
    `beside`."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now: InLogs | None = None


# structlog's own needs 4 us for each bind and unbind, which every request does.
bound: ContextVar[InLogs | Turns | None] = ContextVar("bound", default=None)
"""Its fields go into every event that this task, and those that it begins, log while it is set."""


def current() -> InLogs | None:
    what = bound.get()
    return what.now if isinstance(what, Turns) else what


def beside(
    step: Coroutine[Any, Any, T], then: "Callable[[asyncio.Task[T]], object] | None" = None
) -> "asyncio.Task[T]":
    """A task that keeps what is bound now, however long it takes, and so does its callback `then`."""
    context = bearing(current())
    task = asyncio.create_task(step, context=context)
    if then is not None:
        task.add_done_callback(then, context=context)
    return task


def bearing(what: InLogs | None) -> Context:
    """To begin something in that outlives what is bound now. None: it is nobody's, as what a process has only once."""
    context = copy_context()
    context.run(bound.set, what)
    return context


def configure(process: str, *, level: str = "info", out: TextIO | None = None) -> None:
    """Send every event of this process, and what libraries log through `logging`, as JSON lines to `out` (stderr)."""
    stream = out or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_bound,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Without locals: they hold bodies and keys (and whole arrays), which a log must never do.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _with_bound(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    what = current()
    return event if what is None else {**what.in_logs, **event}


def get(name: str) -> Logger:
    return cast(Logger, structlog.get_logger(source=name))
