"""An MCP server in plain JSON-RPC, so that it starts at once and can do what no library would let it do.

`python tool_server.py FOLDER [http]`: FOLDER/starts gets a byte for each start, FOLDER/pid is the process that runs.
With `http` it speaks streamable HTTP and prints its port; there `die` is an answer with status 500.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
READS = {"readOnlyHint": True}
ANY: dict[str, Any] = {"type": "object"}
PAIR = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ENDLESS = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}
NUMBER = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def tool(name: str, schema: dict[str, Any] = ANY, annotations: Any = None, **more: Any) -> dict[str, Any]:
    made = {"name": name, "description": f"does {name}", "inputSchema": schema, **more}
    return made if annotations is None else {**made, "annotations": annotations}


TOOLS = [
    tool("add", {**PAIR, "additionalProperties": False}, READS),
    tool("die"),
    tool("hang", annotations=READS),
    tool("refuse"),
    tool("env", annotations=READS),
    tool("files", annotations={"idempotentHint": True}),
    tool("lies", outputSchema=NUMBER),
    tool("endless", ENDLESS),
    tool("slow", {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}),
    tool("broken", {"type": "object", "properties": {"x": {"type": "no such type"}}}),
    tool("dotted.name/with spaces"),
    tool("add"),
    tool("long" * 20),
]
CONTENT = [
    {"type": "text", "text": "two"},
    {"type": "image", "data": "iVBORw==", "mimeType": "image/png"},
    {"type": "image", "data": "AAAA", "mimeType": "image/tiff"},
    {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
    {"type": "resource_link", "name": "plan", "uri": "file:///plan.md"},
    {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
]


def called(name: str, arguments: dict[str, Any], headers: Any) -> dict[str, Any] | None:
    """The result; None for one that never comes."""
    match name:
        case "add":
            return said(str(arguments["a"] + arguments["b"]))
        case "die":
            sys.stderr.write("died of it\n")
            sys.stderr.flush()
            os._exit(1)
        case "hang":
            (FOLDER / "hanging").touch()
            return None
        case "refuse":
            return {"content": [{"type": "text", "text": "no such city"}], "isError": True}
        case "env":
            return said(repr(sorted(os.environ.items())) if headers is None else str(headers["X-Token"]))
        case "files":
            return {"content": CONTENT}
        case "lies":
            return {"content": [], "structuredContent": {"n": "many"}}
    return said(f"{name} was called")


def said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def answer(message: dict[str, Any], headers: Any = None) -> dict[str, Any] | None:
    """To one message of a client; None where there is none."""
    given = message.get("params") or {}
    match message["method"]:
        case "initialize":
            with (FOLDER / "sessions").open("a") as sessions:
                sessions.write(".")
            server = {"name": "faults", "version": "1"}
            version = given["protocolVersion"]
            result: Any = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
        case "tools/list":
            half = 5  # two pages
            result = {"tools": TOOLS[half:]} if given.get("cursor") else {"tools": TOOLS[:half], "nextCursor": "2"}
        case "tools/call":
            result = called(given["name"], given.get("arguments") or {}, headers)
            if result is None:
                return None
        case "notifications/cancelled":
            (FOLDER / "cancelled").touch()
            return None
        case _:
            if "id" not in message:
                return None
            error = {"code": -32601, "message": "no such method"}
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if message["method"] == "tools/call" and message["params"]["name"] == "die":
            self.send_error(500)
            return
        found = answer(message, self.headers)
        body = b"" if found is None else json.dumps(found).encode()
        self.send_response(202 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_error(405)

    def log_message(self, *_: object) -> None:
        pass


def over_http() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def over_stdio() -> None:
    for line in sys.stdin:
        if (found := answer(json.loads(line))) is not None:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with (FOLDER / "starts").open("a") as starts:
        starts.write(".")
    (FOLDER / "pid").write_text(str(os.getpid()))
    over_http() if "http" in sys.argv else over_stdio()
