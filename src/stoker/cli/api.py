"""One request to a platform, for commands that need one answer."""

from collections.abc import Mapping
from typing import Any

from stoker.base.errors import NotPermitted, Unauthenticated, Unavailable
from stoker.cli.target import Target


def call(
    target: Target, method: str, path: str, *, body: object = None, params: Mapping[str, str | None] | None = None
) -> Any:
    """The answer's JSON. Raises the StokerError that the platform answered with; Unavailable when nobody answers."""
    import asyncio

    from stoker.web.client import HttpClient, Timeouts

    async def once() -> Any:
        # A `wait` of the caller's is an answer that takes its time, so silence is allowed for longer than that.
        async with HttpClient(target.url, key=target.key, timeouts=Timeouts(read_s=330.0)) as client:
            given = {name: value for name, value in (params or {}).items() if value is not None}
            answer = await client.request(method, path, body=body, params=given)
            return answer.raise_for_error().json()

    try:
        return asyncio.run(once())
    except Exception as error:
        explain(error)
        raise


def explain(error: Exception) -> None:
    """Add what a person can do, where the platform could not know it."""
    if isinstance(error, Unavailable) and error.hint is None:
        error.hint = "is it running? `stoker ps` shows it, `stoker up` starts it"
    elif isinstance(error, NotPermitted) and error.hint is None:
        error.hint = "this needs the admin key: name the state directory with --state DIR, or --key ADMIN_KEY"
    elif isinstance(error, Unauthenticated) and error.hint is None:
        error.hint = "check --key or STOKER_KEY; the keys of a local platform are in its state directory"
