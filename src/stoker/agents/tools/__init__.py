"""The tools of agents: `interface` is what the rest of `agents` knows of them, `toolbox` makes them from the spec.

`tool` and `Place` are for whoever writes a function that is to be one (docs/agents/tools.md).
"""

from stoker.agents.tools.functions import tool
from stoker.agents.tools.interface import Place, Result

__all__ = ["Place", "Result", "tool"]
