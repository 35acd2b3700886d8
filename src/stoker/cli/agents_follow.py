"""A run as it goes on: a line on stderr for each call, from its stream of events, which is taken up again where it
broke off. Runs of sub-agents are followed where they begin, further to the right."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stoker.base.errors import StokerError, TimedOut, Unavailable, UpstreamError
from stoker.base.terminal import printable
from stoker.cli import agents_waits, api, show
from stoker.cli.agents_tree import model_line, seconds, short, tool_line
from stoker.cli.target import Target

if TYPE_CHECKING:
    from stoker.web.client import HttpClient

Json = dict[str, Any]
PAUSES_S: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Before the first, second, ... try after a stream broke off. After the last it is an error."""
QUIET_S = 10.0
"""A stream that told of an event, or went on for so long, was one: tries are counted anew."""
ENDED = ("completed", "failed", "cancelled")
_ENDS = tuple(f"run.{status}" for status in ENDED)
_INDENT = "  "


def path_of(run: str, *rest: str) -> str:
    return "/".join(("/v1/agents/runs", quote(run, safe=""), *rest))


def follow(found: Target, run: str, *, say: Callable[[str], None] = show.note) -> Json:
    """The run when it has ended, or when it waits for a person. Raises KeyboardInterrupt when Ctrl-C was typed: the run
    goes on."""

    import asyncio

    async def until_it_rests() -> Json:
        from stoker.web.client import HttpClient, Timeouts

        async with HttpClient(found.url, key=found.key, timeouts=Timeouts(read_s=330.0)) as client:
            return await _Follower(client, say).follow(run, "")

    try:
        return asyncio.run(until_it_rests())
    except KeyboardInterrupt:
        say(f"\n{run} goes on; `stoker agents runs follow {run}` follows it, `stoker agents runs cancel {run}` ends it")
        raise
    except StokerError as error:
        api.explain(error)
        raise


def rest_of(run: Json) -> list[str]:
    """What a person is told of a run that rests: why it ended, or what it waits for and how that is answered."""
    if run["status"] == "waiting":
        waits = agents_waits.of_people(run)
        if waits:
            lines = [agents_waits.line_of(run["id"], wait) for wait in waits]
            return lines + [f"answer with: {each}" for each in agents_waits.how_to_answer(run["id"], waits)]
        inner = [wait["child"] for wait in run["waiting_for"] if wait.get("child")]
        return [f"{run['id']} waits for its sub-agents: {', '.join(inner)}"]
    return [f"{run['id']} {printable(why(run))}"]


def why(run: Json) -> str:
    """`completed`, `failed: the run has used its $1`, `cancelled: ...`."""
    error = run.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    reason = message or run.get("reason")
    return f"{run['status']}: {reason}" if reason else str(run["status"])


class _Follower:
    def __init__(self, client: "HttpClient", say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say

    async def follow(self, run: str, indent: str) -> Json:
        import asyncio

        following = _One(run, indent)
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            before, began = following.after, clock()
            try:
                found = await self._read(following)
                if found is None:  # the stream came to an end: it may be that of a server that stops
                    found = await self._at_rest(run)
                if found is not None:
                    return found
                error: StokerError = Unavailable("the stream of events broke off")
            except (Unavailable, TimedOut, UpstreamError) as exc:
                error = exc
            if following.after > before or clock() - began > QUIET_S:
                failures = 0
            if failures == len(PAUSES_S):
                error.hint = error.hint or f"the run may go on: `stoker agents runs follow {run}`"
                raise error
            await asyncio.sleep(PAUSES_S[failures])
            failures += 1

    async def _read(self, following: "_One") -> Json | None:
        """The run when it rests; None at the end of a stream that does not say so."""
        headers = {"Last-Event-ID": str(following.after)} if following.after else None
        async with self._client.stream("GET", path_of(following.run, "events"), headers=headers) as stream:
            if stream.error is not None:
                stream.error.raise_for_error()
                raise UpstreamError("the platform answered with no stream of events", upstream_status=stream.status)
            async for data in stream.events:
                if data == b"[DONE]":
                    return None
                event = json.loads(data)
                if not following.is_new(event):
                    continue
                line = following.line_of(event)
                if line is not None:
                    self._say(following.indent + printable(line))
                if event["type"] in _ENDS:
                    return await self._run(following.run)
                if event["type"] == "run.waiting":
                    found = await self._waiting(event, following)
                    if found is not None:
                        return found
        return None

    async def _waiting(self, event: Json, following: "_One") -> Json | None:
        """The run that waits for a person, this or one below it; None: it goes on. The event may be an old one."""
        resting = None
        for wait in event["data"].get("waits") or ():
            if wait["kind"] == "child" and wait.get("child"):
                self._say(f"{following.indent}{printable(str(wait.get('tool')))} is {wait['child']}")
                child = await self.follow(wait["child"], following.indent + _INDENT)
                resting = resting or (child if child["status"] == "waiting" else None)
        own = await self._run(following.run)
        if own["status"] != "waiting":
            return None
        still = {wait["id"] for wait in agents_waits.of_people(own)}
        if any(wait["id"] in still for wait in event["data"].get("waits") or ()):
            return own
        return resting

    async def _at_rest(self, run: str) -> Json | None:
        found = await self._run(run)
        rests = found["status"] in ENDED or (found["status"] == "waiting" and agents_waits.of_people(found))
        return found if rests else None

    async def _run(self, run: str) -> Json:
        found: Json = await self._client.get_json(path_of(run))
        return found


class _One:
    """One run: how far its events were read, and what the lines need of earlier ones."""

    def __init__(self, run: str, indent: str) -> None:
        self.run = run
        self.indent = indent
        self.after = 0
        self._began: dict[str, Json] = {}

    def is_new(self, event: Json) -> bool:
        """Not said before, and of this run."""
        if event["id"] <= self.after or event.get("run", self.run) != self.run:
            return False
        self.after = event["id"]
        return True

    def line_of(self, event: Json) -> str | None:
        """None for what nobody needs to read."""
        kind, data = event["type"], event.get("data") or {}
        if kind in ("model.completed", "model.failed"):
            return self._model(event, data)
        if kind == "tool.started":
            self._began.setdefault(str(data.get("call")), event)
        if kind == "tool.completed":
            began = self._began.pop(str(data.get("call")), {"at": data.get("started_at"), "data": {}})
            line = tool_line(data.get("tool"), began["data"].get("arguments"), data.get("result"))
            return line + ("  failed" if data.get("is_error") else "") + _took(event, began["at"])
        if kind == "run.waiting":
            waits = [wait for wait in data.get("waits") or () if wait["kind"] != "child"]
            return "; ".join(f"waits: {_asked(wait)}" for wait in waits) or None
        if kind == "run.resumed":
            return "goes on"
        if kind == "run.failed":
            error = data.get("error") or {}
            return f"failed: {error.get('message') or error.get('code') or 'nobody knows why'}"
        return kind.removeprefix("run.") if kind in _ENDS else None

    def _model(self, event: Json, data: Json) -> str:
        asked = ", ".join(str(call.get("name")) for call in data.get("tool_calls") or ())
        error = data.get("error") or {}
        return (
            model_line(data.get("model"), data.get("prompt_tokens"), data.get("completion_tokens"), data.get("usd"))
            + (f"  failed: {error.get('message') or error.get('code')}" if error else "")
            + _took(event, data.get("started_at"))
            + (f"  -> {asked}" if asked else "")
        )


def _took(event: Json, began: object) -> str:
    return f"  {seconds(max(0.0, event['at'] - began))}" if isinstance(began, int | float) else ""


def _asked(wait: Json) -> str:
    call = f"{wait.get('tool') or ''} {short(wait.get('arguments'))}".strip()
    message = short(wait.get("message"))
    return " ".join(each for each in (wait["kind"], call, f"({message})" if message else "") if each)
