"""Whether agents run on this machine, and where their files are, before anything is started."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.spec import Agents, Platform, Tool


def resolve(platform: Platform, *, here: Path) -> Platform:
    """The platform with `agents.enabled` decided, and with the paths of agents that run absolute: processes read them
    in the state directory's copy of the file. `here`: the folder that paths are relative to. Raises InvalidInput when
    they are to run and what they need is not installed."""
    is_enabled = platform.agents.enabled
    if is_enabled is not False and not is_installed():
        if is_enabled:
            raise InvalidInput(
                "agents.enabled is true, and LangGraph is not installed, which runs them",
                param="agents.enabled",
                hint='pip install "stoker[agents]", or leave agents.enabled out',
            )
        is_enabled = False
    agents = platform.agents
    if is_enabled is not False:
        agents = _with_absolute_paths(agents, here)
    return platform.model_copy(update={"agents": agents.model_copy(update={"enabled": is_enabled is not False})})


def is_installed() -> bool:
    """Without importing it, which takes a second."""
    return find_spec("langgraph") is not None


def _with_absolute_paths(agents: Agents, here: Path) -> Agents:
    definitions = {
        name: agent.model_copy(update={"graph": agent.graph and _object(agent.graph, here)})
        for name, agent in agents.definitions.items()
    }
    tools = {name: _tool(tool, here) for name, tool in agents.tools.items()}
    return agents.model_copy(update={"definitions": definitions, "tools": tools})


def _tool(tool: Tool, here: Path) -> Tool:
    update: dict[str, Any] = {}
    if tool.python is not None:
        update["python"] = _object(tool.python, here)
    if tool.search is not None:
        update["search"] = tool.search.model_copy(update={"path": str(here / tool.search.path)})
    return tool.model_copy(update=update)


def _object(named: str, here: Path) -> str:
    """`file.py:name` with the whole path; `module:name` as it is."""
    where, _, name = named.rpartition(":")
    return f"{here / where}:{name}" if where.endswith(".py") else named
