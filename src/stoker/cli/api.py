"""One request to a platform, for commands that need one answer."""

import re
from collections.abc import Mapping
from typing import Any

from stoker.base.errors import InvalidInput, NotPermitted, StokerError, Unauthenticated, Unavailable
from stoker.cli import show
from stoker.cli.target import Target

# An answer has one text, "what was wrong (what to do)"; what to do is at least three words.
_WITH_HINT = re.compile(r"(?s)(.+) \(([^()]+ [^()]+ [^()]+)\)")


def call(
    target: Target,
    method: str,
    path: str,
    *,
    body: object = None,
    params: Mapping[str, str | None] | None = None,
    headers: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    silence_s: float = 330.0,
) -> Any:
    """The answer's JSON. Raises the StokerError that the platform answered with; Unavailable when nobody answers.

    `options` says by which option each key of the body was given, so that an error names what the person has written.
    """
    from stoker.base import json_text

    given = {name: value for name, value in (params or {}).items() if value is not None}
    asked = fetch(target, method, path, body=body, params=given, headers=headers, options=options, silence_s=silence_s)
    return json_text.loads(asked)


def fetch(
    target: Target,
    method: str,
    path: str,
    *,
    body: object = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    silence_s: float = 330.0,
) -> bytes:
    """As `call`: the answer's bytes. A body of bytes is sent as it is."""
    import asyncio

    from stoker.web.client import HttpClient, Timeouts

    async def once() -> bytes:
        # A `wait` of the caller's is an answer that takes its time, so silence is allowed for longer than that.
        async with HttpClient(target.url, key=target.key, timeouts=Timeouts(read_s=silence_s)) as client:
            answer = await client.request(method, path, body=body, params=params, headers=headers)
            return answer.raise_for_error().body

    try:
        return asyncio.run(once())
    except StokerError as error:
        explain(error)
        if isinstance(error, InvalidInput):
            error.message = in_words_of_options(error.message, options or {})
        raise


def explain(error: Exception) -> None:
    """Add what a person can do, where the platform could not know it."""
    if not isinstance(error, StokerError) or error.hint is not None:
        return
    with_hint = _WITH_HINT.fullmatch(error.message)
    if with_hint:
        error.message, error.hint = with_hint.groups()
    if isinstance(error, Unavailable):
        error.hint = error.hint or "is it running? `stoker ps` shows it, `stoker up` starts it"
    elif isinstance(error, NotPermitted):
        error.hint = "this needs the admin key: name the state directory with --state DIR, or --key ADMIN_KEY"
    elif isinstance(error, Unauthenticated):
        error.hint = "check --key or STOKER_KEY; the keys of a local platform are in its state directory"
    elif isinstance(error, InvalidInput):
        error.hint = error.hint or show.help_hint()


def in_words_of_options(message: str, options: Mapping[str, str]) -> str:
    """`budgets.usdPerDay: 0 does not fit` as `--budget usdPerDay: 0 does not fit`, line by line."""
    return "\n".join(_line_in_words(line, options) for line in message.split("\n"))


def _line_in_words(line: str, options: Mapping[str, str]) -> str:
    path, colon, rest = line.partition(": ")
    name = path.partition("[")[0]
    for sent, option in options.items():
        if name == sent:
            return option + colon + rest
        if name.startswith(sent + "."):
            return f"{option} {name[len(sent) + 1 :]}{colon}{rest}"
    return line
