"""Agents: durable runs of LangGraph graphs, with a budget. docs/decisions/10-agents.md has the whole picture.

For graphs and tools of your own: `current()`, the run in which a node is run; `tool`, what a function says of itself as
a tool; `Place`, where a tool is called.
"""

from typing import TYPE_CHECKING

from stoker.base.lazy import names_of

if TYPE_CHECKING:
    from stoker.agents.context import current
    from stoker.agents.tools.functions import tool
    from stoker.agents.tools.interface import Place, Result

_HOMES = {
    "context": ["current"],
    "tools.functions": ["tool"],
    "tools.interface": ["Place", "Result"],
}
__getattr__ = names_of(__name__, _HOMES)

__all__ = ["Place", "Result", "current", "tool"]
