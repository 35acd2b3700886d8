"""The tools of agents: `interface` is what the rest of `agents` knows of them, `toolbox` makes them from the spec.

`tool`, `Place` and `Result` are for whoever writes a function that is to be one (docs/agents/tools.md).
"""

from typing import TYPE_CHECKING

from stoker.base import lazy

if TYPE_CHECKING:
    from stoker.agents.tools.functions import tool
    from stoker.agents.tools.interface import Place, Result

__all__ = ["Place", "Result", "tool"]

# So that `interface` comes without what checks arguments, which is in the extra.
_HOMES = {"functions": ("tool",), "interface": ("Place", "Result")}
__getattr__ = lazy.names_of(__name__, _HOMES)
