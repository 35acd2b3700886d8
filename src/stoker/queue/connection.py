"""The one door to Redis: the pool, the scripts, and the translation of its errors to QueueUnavailable.

Used by `redis_queue` and `redis_registry`; nothing else in Stoker opens a connection to Redis.
"""

import asyncio
import functools
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, ResponseError

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput, QueueUnavailable
from stoker.policy import fairness
from stoker.policy.budgets import MOST, SHARE
from stoker.queue import budgets, keys
from stoker.queue.batching import Batches, Script, sha_of
from stoker.queue.letters import DROPPED_KEPT, GONE_S
from stoker.queue.tasks import CHUNKS_KEPT_S
from stoker.spec import AGENT_STEPS

CONNECTIONS = 32  # of one process, for short calls; more callers than that take turns
ANSWER_TIMEOUT_S = 10.0  # after which a Redis that is connected and silent counts as gone
RECONNECTS = 3  # tries of one call, 50 to 800 ms apart, so that a restart of Redis is not an error for most calls


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of Redis and of the way to it become QueueUnavailable. `doing` completes "cannot ..."."""
    try:
        yield
    except (RedisError, OSError) as exc:
        first_line = (str(exc).splitlines() or [""])[0][:300]
        said = type(exc).__name__
        if isinstance(exc, ResponseError):  # Redis' own words; others name its address
            said += f": {first_line}"
        error = QueueUnavailable(
            f"cannot {doing}: Redis said {said}",
            hint="it may be starting again, full (maxmemory) or read-only; the step may be repeated safely",
        )
        error.detail = first_line
        raise error from exc


def _check(url: str) -> None:
    """Raises InvalidInput for a password with a character that ends what stands before the host: what follows it would
    be taken for a place or a database, and be told to whoever reads the error."""
    whole, _, rest = url.partition("://")
    if whole != "unix" and "@" in rest and re.search("[/?#]", rest.rpartition("@")[0]):
        raise _no_url()


def _no_url() -> InvalidInput:
    """Without its cause, which may quote a piece of the URL."""
    return InvalidInput(
        "redis.url is not a URL of Redis; it would be redis://HOST:PORT/0, rediss://... or unix:///PATH",
        param="redis.url",
        hint="in a password, other characters than letters, digits and -._~ are written as %XX",
    )


class Connection:
    """Two clients on one URL: one for short calls, one whose connections may block for long (one each caller)."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """`clock` replaces Redis' own time, for tests and simulations. Raises InvalidInput for a bad URL."""
        self._clock = clock
        _check(url)
        try:
            self.client = Redis(connection_pool=self._pool(url, CONNECTIONS, ANSWER_TIMEOUT_S))
            self.blocking = Redis(connection_pool=self._pool(url, 2**16, None))
        except ValueError:
            raise _no_url() from None
        self._batches = Batches(self.client)

    @staticmethod
    def _pool(url: str, size: int, answer_timeout_s: float | None) -> BlockingConnectionPool:
        return BlockingConnectionPool.from_url(
            url,
            protocol=2,  # RESP3, redis-py's default, answers streams in another shape
            max_connections=size,
            timeout=ANSWER_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            socket_connect_timeout=5.0,
            retry=Retry(ExponentialBackoff(cap=0.8, base=0.05), RECONNECTS),
        )

    def now_arg(self) -> str:
        """The first argument of each script: the time in ms, or '' for Redis' own."""
        return "" if self._clock is None else str(math.floor(self._clock.now() * 1000))

    async def run(self, script: str, redis_keys: Iterable[str], *args: str | bytes | int) -> Any:
        """Run `lua/<script>.lua` with the time as its first argument. Raises QueueUnavailable."""
        with translated(script.replace("_", " ")):
            return await self._batches.script(source(script), tuple(redis_keys), (self.now_arg(), *args))

    async def step(
        self,
        script: str,
        redis_keys: tuple[str, ...],
        key: str,
        shared: tuple[str, str],
        args: tuple[str | bytes | int, ...],
    ) -> Any:
        """As `run`, for a script about one task, whose `key` it has as KEYS[10]; several that are made at the same time
        are one run of it. `shared` are its arguments after the time, `args` those after them."""
        with translated(script.replace("_", " ")):
            return await self._batches.step(step_source(script), redis_keys, key, (self.now_arg(), *shared), args)

    async def call(self, doing: str, *command: str | bytes | int) -> Any:
        """One command by its words; goes with the scripts in one batch. Raises QueueUnavailable."""
        with translated(doing):
            return await self._batches.call(*command)

    async def ask(self, doing: str, answer: Any) -> Any:
        """Await one command of redis-py, whose types fit neither its decoding nor its being asynchronous."""
        with translated(doing):
            return await _apart(answer)

    async def ask_blocking(self, doing: str, answer: Any, wait_s: float) -> Any:
        """As `ask`, for a command that Redis may answer only after `wait_s`; a Redis that says nothing for much longer
        than that is gone without having closed the connection."""
        with translated(doing):
            async with asyncio.timeout(wait_s + ANSWER_TIMEOUT_S):
                return await _apart(answer)

    @asynccontextmanager
    async def pipeline(self, doing: str, *, transaction: bool = False) -> AsyncIterator[Any]:
        """A pipeline of redis-py, whose commands are untyped; errors on the way are translated."""
        with translated(doing):
            async with self.client.pipeline(transaction=transaction) as pipe:
                yield pipe

    async def aclose(self) -> None:
        await self._batches.aclose()
        await self.client.aclose()
        await self.client.connection_pool.disconnect()
        await self.blocking.aclose()
        await self.blocking.connection_pool.disconnect()


async def _apart(answer: Any) -> Any:
    """The answer, in a task of its own. redis-py waits within the `wait_for` of Python 3.11, which swallows a
    cancellation that comes with its result (github.com/python/cpython/issues/86296): a reader would never end."""
    asking = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({asking})
    except asyncio.CancelledError:
        asking.add_done_callback(_ended)
        asking.cancel()
        raise
    return asking.result()


def _ended(asking: "asyncio.Future[Any]") -> None:
    if not asking.cancelled():
        asking.exception()  # nobody waits for it


@functools.cache
def source(script: str) -> Script:
    """The text of a script: names and numbers as Lua locals, what it uses of what scripts share, the script itself."""
    own = _text(f"{script}.lua")
    return _script(needed(_shared(), own) + own)


@functools.cache
def step_source(script: str) -> Script:
    """One that does a script's step for many tasks, see `step.lua`."""
    own = _text("step.lua").replace("STEP()", _text(f"{script}.lua"))
    return _script(needed(_shared(), own) + own)


def _text(name: str) -> str:
    return (resources.files("stoker.queue") / "lua" / name).read_text()


def _script(text: str) -> Script:
    return Script(text, sha_of(text))


@functools.cache
def _shared() -> str:
    names: dict[str, str | int] = {
        "TASK_PREFIX": keys.TASK_PREFIX,
        "CHUNKS_PREFIX": keys.CHUNKS_PREFIX,
        "CHUNKS_MS": round(CHUNKS_KEPT_S * 1000),
        "SAID_PREFIX": keys.SAID_PREFIX,
        "EVENTS": keys.EVENTS,
        "GROUP": keys.WORKERS_GROUP,
        "USAGE_STREAM": keys.USAGE,
        "AGENT_STEPS": AGENT_STEPS,
        "BUDGET_PREFIX": keys.BUDGET_PREFIX,
        "OWNER_PREFIX": keys.OWNER_PREFIX,
        "OWNERS": keys.OWNERS,
        "BOOKS": keys.BOOKS,
        "WANTED": keys.WANTED,
        "SCOPE_PREFIX": keys.SCOPE_PREFIX,
        "GONE_PREFIX": keys.GONE_PREFIX,
        "GONE_MS": round(GONE_S * 1000),
        "CALLBACKS": keys.CALLBACKS,
        "DROPPED": keys.DROPPED,
        "DROPPED_KEPT": DROPPED_KEPT,
        "APPENDED_PREFIX": keys.APPENDED_PREFIX,
        "WANTED_MS": budgets.WANTED_MS,
        "GIVE_BACK_MS": budgets.GIVE_BACK_MS,
        "LEAST_MS": budgets.LEAST_MS,
        "REMEMBERED_MS": budgets.REMEMBERED_MS,
        "UNTOUCHED_MS": budgets.UNTOUCHED_MS,
        "OPENING_MS": budgets.OPENING_MS,
        "SHARE": SHARE,
        "MOST": MOST,
        "MOST_PASSED": fairness.MOST_PASSED,
        "MOST_TOKENS": fairness.MOST_TOKENS,
        "UNITS_PER_TOKEN": fairness.UNITS_PER_TOKEN,
        "SERVED_MS": round(fairness.REMEMBERED_S * 1000),
        "LOOKED_AT": fairness.LOOKED_AT,
    }
    parts = ("clock.lua", "fields.lua", "money.lua", "order.lua", "prelude.lua")
    return "".join(f"local {name} = {_lua(value)}\n" for name, value in names.items()) + "".join(map(_text, parts))


def needed(shared: str, own: str) -> str:
    """The statements of `shared` that `own` uses, or that one of those uses: Redis makes every function anew each time
    that a script runs, which took longer than all that most of them do.

    A statement begins with `local` at the begin of a line and goes on until the next one."""
    blocks = re.split(r"^(?=local )", re.sub(r"^--.*\n", "", shared, flags=re.MULTILINE), flags=re.MULTILINE)
    words = set(_WORD.findall(own))
    kept = []
    for block in reversed(blocks):  # what a statement uses stands before it
        if not block.startswith("local ") or words.intersection(_names_in(block)):
            kept.append(block)
            words.update(_WORD.findall(block))
    return "".join(reversed(kept))


_WORD = re.compile(r"[A-Za-z_]\w*")


def _names_in(block: str) -> list[str]:
    """What a statement makes: a function, or variables."""
    function = re.match(r"local function (\w+)", block)
    return [function[1]] if function else _WORD.findall(block.removeprefix("local ").partition("=")[0])


def _lua(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"
