"""Graphs of agents: Stoker's own, and those that others wrote with LangGraph, by module and name or by file and
name."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from stoker.agents import react
from stoker.base import json_text
from stoker.base.errors import InvalidInput
from stoker.spec import Agent

ENTRY_POINTS = "stoker.agents"


def loaded(where: str, base: Path) -> Any:
    """The object behind `module:name` or `path.py:name`; a path is relative to `base`. Raises InvalidInput that says
    what is missing."""
    place, _, name = where.rpartition(":")
    try:
        module = _file(base / place) if place.endswith(".py") else importlib.import_module(place)
        return getattr(module, name)
    except AttributeError:
        raise InvalidInput(f"{where}: there is no {name} in {place}", param="graph") from None
    except FileNotFoundError:
        raise InvalidInput(f"{where}: there is no file {base / place}", param="graph") from None
    except ImportError as error:
        raise InvalidInput(f"{where}: {error}", param="graph", hint="is it installed where agents run?") from error


def _file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(path)
    name = f"stoker_agent_{path.stem}_{abs(hash(path.resolve())):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def registered() -> Mapping[str, str]:
    """Graphs that installed packages offer (entry points of the group `stoker.agents`): name to `module:name`."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


async def compiled(agent: Agent, saver: BaseCheckpointSaver[Any], base: Path) -> Any:
    """The agent's graph, with its checkpoints in `saver`. Raises InvalidInput."""
    if agent.graph is None:
        return react.graph().compile(checkpointer=saver)
    found = loaded(agent.graph, base)
    if not isinstance(found, Pregel | StateGraph) and callable(found):
        found = found()
        if inspect.isawaitable(found):
            found = await found
    if isinstance(found, StateGraph):
        found = found.compile()
    if not isinstance(found, Pregel):
        kind = type(found).__name__
        raise InvalidInput(f"{agent.graph} is {kind}; it has to be a LangGraph graph, or a function that makes one")
    return found.copy({"checkpointer": saver})


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
