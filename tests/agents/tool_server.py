"""An MCP server of ours: `python tool_server.py FOLDER [http]`. It does what good servers do, and what bad ones do.

FOLDER/starts gets a byte for each start, and FOLDER/pid the process that runs now. With `http` it prints its port.
"""

import asyncio
import base64
import os
import socket
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

FOLDER = Path(sys.argv[1])
READS = types.ToolAnnotations(read_only_hint=True)
ANY: dict[str, Any] = {"type": "object"}


def tool(name: str, schema: dict[str, Any] = ANY, **more: Any) -> types.Tool:
    return types.Tool(name=name, description=f"does {name}", input_schema=schema, **more)


PAIR = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ENDLESS = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}
TOOLS = [
    tool("add", {**PAIR, "additionalProperties": False}, annotations=READS),
    tool("die"),
    tool("hang", annotations=READS),
    tool("refuse"),
    tool("env", annotations=READS),
    tool("files", annotations=types.ToolAnnotations(idempotent_hint=True)),
    tool("lies", ANY, output_schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}),
    tool("endless", ENDLESS),
    tool("broken", {"type": "object", "properties": {"x": {"type": "no such type"}}}),
    tool("list", {"type": "array"}),
    tool("dotted.name/with spaces"),
    tool("long" * 20),
]


async def listed(context: Any, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=TOOLS)


async def called(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    arguments = params.arguments or {}
    match params.name:
        case "add":
            return said(str(arguments["a"] + arguments["b"]))
        case "die":
            sys.stderr.write("died of token-12345678\n")
            sys.stderr.flush()
            os._exit(1)
        case "hang":
            (FOLDER / "hanging").touch()
            try:
                await asyncio.Event().wait()
            finally:
                (FOLDER / "cancelled").touch()
        case "refuse":
            return types.CallToolResult(content=[types.TextContent(text="no such city")], is_error=True)
        case "env":
            return said(repr(sorted(os.environ.items())))
        case "files":
            png = base64.b64encode(b"\x89PNG").decode()
            return types.CallToolResult(
                content=[
                    types.TextContent(text="two"),
                    types.ImageContent(data=png, mime_type="image/png"),
                    types.ImageContent(data="AAAA", mime_type="image/tiff"),
                    types.AudioContent(data="AAAA", mime_type="audio/wav"),
                    types.ResourceLink(name="plan", uri="file:///plan.md"),
                    types.EmbeddedResource(resource=types.TextResourceContents(uri="file:///a.txt", text="inside")),
                ]
            )
        case "lies":
            return types.CallToolResult(content=[], structured_content={"n": "many"})
    return said(f"{params.name} was called")


def said(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


def server() -> Server[Any]:
    return Server("faults", on_list_tools=listed, on_call_tool=called)


async def over_stdio() -> None:
    made = server()
    async with stdio_server() as (reading, writing):
        await made.run(reading, writing, made.create_initialization_options())


def over_http() -> None:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(server().streamable_http_app(), log_level="critical")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    with (FOLDER / "starts").open("a") as starts:
        starts.write(".")
    (FOLDER / "pid").write_text(str(os.getpid()))
    if "http" in sys.argv:
        over_http()
    else:
        asyncio.run(over_stdio())
