"""Toolboxes for tests of tools, each closed at the end of its block."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stoker.agents.tools.interface import BoundTool, Result
from stoker.agents.tools.toolbox import Toolbox
from stoker.spec.agents import Agents


@asynccontextmanager
async def toolbox(
    folder: Path, tools: Mapping[str, Any], environ: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[Toolbox]:
    """`tools` as agents.tools has them in platform.yaml."""
    agents = Agents.model_validate({"tools": tools, **more.pop("agents", {"definitions": {}})})
    made = Toolbox(agents, base=folder, folder=folder / "runs", environ=environ or {}, **more)
    try:
        yield made
    finally:
        await made.aclose()


async def the_tool(box: Toolbox, name: str, listed: str | None = None) -> BoundTool:
    return {each.name: each for each in await box.tools_of([listed or name])}[name]


async def said(box: Toolbox, tool: BoundTool, run: str = "run_1", **arguments: Any) -> Result:
    """As an agent calls it: checked first."""
    return await tool.call(tool.check(arguments), box.place(run))
