"""Graphs of agents: Stoker's own, and those that others wrote with LangGraph, by module and name or by file and
name."""

import contextlib
import functools
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from stoker.agents import react
from stoker.agents.tools.functions import object_at
from stoker.base import json_text
from stoker.base.errors import InvalidInput
from stoker.spec import Agent

ENTRY_POINTS = "stoker.agents"
ENTRY_POINT = "entry-point:"


def named(where: str, base: Path) -> Any:
    """The object behind `entry-point:NAME` (of an installed package, group `stoker.agents`), `module:name`, or
    `file.py:name` relative to `base`. Raises InvalidInput that says what is missing."""
    if not where.startswith(ENTRY_POINT):
        return object_at(where, base)
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    name = where.removeprefix(ENTRY_POINT)
    if name not in offered:
        known = ", ".join(sorted(offered)) or "nothing"
        raise InvalidInput(f"{where}: no installed package offers {name}; there is: {known}", param="graph")
    try:
        return offered[name].load()
    except Exception as error:
        raise InvalidInput(f"{where} cannot be loaded: {type(error).__name__}: {error}", param="graph") from error


async def compiled(agent: Agent, saver: BaseCheckpointSaver[Any], base: Path) -> Any:
    """The agent's graph, with its checkpoints in `saver`. Raises InvalidInput."""
    if agent.graph is None:
        return react.graph().compile(checkpointer=saver)
    found = named(agent.graph, base)
    if not isinstance(found, Pregel | StateGraph) and callable(found):
        found = found()
        if inspect.isawaitable(found):
            found = await found
    if isinstance(found, StateGraph):
        found = found.compile()
    if not isinstance(found, Pregel):
        kind = type(found).__name__
        raise InvalidInput(f"{agent.graph} is {kind}; it has to be a LangGraph graph, or a function that makes one")
    _keep_from_exiting(found)
    return found.copy({"checkpointer": saver})


class _Exited(Exception):
    """A node called `sys.exit`, which would have ended the worker and with it the steps of others."""


def _keep_from_exiting(graph: Pregel[Any, Any, Any, Any]) -> None:
    for node in graph.nodes.values():
        bound: Any = node.bound
        for name in ("func", "afunc"):
            call = getattr(bound, name, None)
            if callable(call) and not hasattr(call, "stoker_keeps"):
                with contextlib.suppress(AttributeError):  # a runnable of another kind
                    setattr(bound, name, _kept(call, is_async=name == "afunc"))


def _kept(call: Any, *, is_async: bool) -> Any:
    @functools.wraps(call)
    def kept(*args: Any, **more: Any) -> Any:
        try:
            return call(*args, **more)
        except SystemExit as exit:
            raise _Exited(f"a node called sys.exit({exit.code!r})") from None

    @functools.wraps(call)
    async def awaited(*args: Any, **more: Any) -> Any:
        try:
            return await call(*args, **more)
        except SystemExit as exit:
            raise _Exited(f"a node called sys.exit({exit.code!r})") from None

    wrapped: Any = awaited if is_async else kept
    wrapped.stoker_keeps = True
    return wrapped


def begin(agent: Agent, asked: Any) -> Any:
    """What the graph is given first. A graph of one's own gets an object as it is, and a text as {"messages":
    [...]}."""
    if agent.graph is not None and isinstance(asked, dict):
        return asked
    return react.begin(asked)


def output(values: Any) -> Any:
    """What a run came to: `output` of the graph's last state, or the last message's content, or all of it as JSON."""
    if isinstance(values, dict):
        if "output" in values:
            return _plain(values["output"])
        messages = values.get("messages")
        if isinstance(messages, list) and messages:
            last = messages[-1]
            content = last.get("content") if isinstance(last, dict) else getattr(last, "content", None)
            return _plain(content if content is not None else "")
    return _plain(values)


def _plain(value: Any) -> Any:
    """As JSON can hold it; anything else as its text."""
    try:
        return json_text.loads(json_text.dumps(value))
    except TypeError:
        return str(value)
