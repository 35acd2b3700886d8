"""`stoker agents check`: what the platform's file says of agents and their tools, without starting anything."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli import show

if TYPE_CHECKING:
    import ast

    from stoker.spec.agents import Agents, Tool

_FILE = click.option(
    "-f", "--file", "file", type=click.Path(path_type=Path), help="Default: platform.yaml, else the defaults."
)
BY_SERVER = "as its server says"
_MIXED = "read; write to write"
_BY_MARK = "read, or as it is marked"


@click.command()
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: Path | None, as_json: bool) -> int:
    """Say what each agent and each tool of the platform's file will be, and what of it is not there."""
    from stoker.spec.loading import DEFAULT_FILE, load_chosen

    platform, chosen = load_chosen(file)
    show.note(chosen)
    root = (file or DEFAULT_FILE).resolve().parent
    found = platform.agents
    rows = [tool_row(name, tool, found) for name, tool in found.tools.items()]
    faults = list(faults_of(found, root, os.environ))
    if as_json:
        show.as_json({"agents": _agents(found), "tools": rows, "faults": faults})
    else:
        _print(found, rows)
        for fault in faults:
            show.note(f"error: {fault}")
    return 1 if faults else 0


def tool_row(name: str, tool: "Tool", agents: "Agents") -> dict[str, Any]:
    """What a tool will be: what the file leaves open is what its kind has (`agents.tools.toolbox`). A function may be
    marked in its code, and a server says it of each of its tools: that is known when a worker has loaded them."""
    effect = tool.effect or _effect(tool.kind)
    writes = effect in ("write", "spend")
    is_open = effect in (BY_SERVER, _MIXED, _BY_MARK)
    # To write a file once more makes no difference.
    repeatable = tool.kind == "workspace" or (None if is_open else not writes)
    repeatable = repeatable if tool.repeatable is None else tool.repeatable
    approval = tool.approval or ("by effect" if is_open else "afterUntrusted" if writes else "never")
    trusted = tool.trusted if tool.trusted is not None else tool.kind not in ("fetch", "mcp", "agent")
    having = [agent for agent, said in agents.definitions.items() if name in said.tools]
    return {
        "tool": name,
        "kind": tool.kind,
        "effect": effect,
        "repeatable": repeatable,
        "approval": approval,
        "trusted": trusted,
        "agents": having,
        "granted": [agent for agent in having if name in agents.definitions[agent].grants],
        "grantable": [agent for agent in having if name in agents.definitions[agent].grantable],
    }


def faults_of(agents: "Agents", root: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """What the file names and this machine does not have. Python files are read, and not run; modules are looked for,
    and not imported."""
    for name, agent in agents.definitions.items():
        if agent.graph is not None:
            yield from (f"agents.definitions.{name}.graph: {why}" for why in _no_object(agent.graph, root))
            if importlib.util.find_spec("langgraph") is None:
                yield f"agents.definitions.{name}.graph: LangGraph is not installed: pip install 'stoker[agents]'"
    for name, tool in agents.tools.items():
        yield from (f"agents.tools.{name}.{tool.kind}{why}" for why in _faults_of_tool(tool, root, environ))


def _faults_of_tool(tool: "Tool", root: Path, environ: Mapping[str, str]) -> Iterator[str]:
    if tool.python is not None:
        yield from (f": {why}" for why in _no_object(tool.python, root))
    elif tool.search is not None:
        path = root / tool.search.path
        if not path.exists():
            yield f".path: there is no {path}"
    elif tool.fetch is not None:
        yield from _unset(".headers", tool.fetch.headers, environ)
    elif tool.mcp is not None:
        if tool.mcp.command and not _is_program(tool.mcp.command[0], root):
            yield f".command: there is no program {tool.mcp.command[0]!r}"
        yield from _unset(".env", tool.mcp.env, environ)
        yield from _unset(".headers", tool.mcp.headers, environ)


def _unset(where: str, names: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str]:
    for key, variable in names.items():
        if variable not in environ:
            yield f"{where}.{key}: the variable {variable} is not set here"


def _is_program(name: str, root: Path) -> bool:
    return shutil.which(name) is not None or ("/" in name and os.access(root / name, os.X_OK))


def _no_object(path: str, root: Path) -> Iterator[str]:
    where, _, name = path.rpartition(":")
    if where == "entry-point":
        offered = sorted(point.name for point in importlib.metadata.entry_points(group="stoker.agents"))
        if name not in offered:
            yield f"no installed package offers {name!r}; there is: {', '.join(offered) or 'nothing'}"
    elif where.endswith(".py"):
        yield from _not_in_file(root / where, name)
    elif not _has_module(where, root):
        yield f"there is no module {where!r}"


def _not_in_file(file: Path, name: str) -> Iterator[str]:
    import ast

    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        yield f"{file} cannot be read: {error.strerror}"
    except (SyntaxError, ValueError) as error:
        yield f"{file} is no Python: {error}"
    else:
        if name not in _names(tree):
            yield f"{file} defines no {name}"


def _names(tree: "ast.Module") -> set[str]:
    """All that is named at the top of it, in branches and loops, too."""
    import ast

    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(inner.name)
                continue
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                found.add(inner.id)
            elif isinstance(inner, ast.alias):
                found.add((inner.asname or inner.name).partition(".")[0])
            waiting.append(inner)
    return found


def _has_module(name: str, root: Path) -> bool:
    """Beside the platform's file, or installed. Of a dotted name its first part is enough: to look further would import
    it."""
    first = name.partition(".")[0]
    beside = root / first
    if beside.with_suffix(".py").is_file() or beside.is_dir() or first in sys.modules:
        return True
    try:
        return importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False


def _effect(kind: str) -> str:
    return {"mcp": BY_SERVER, "workspace": _MIXED, "python": _BY_MARK}.get(kind, "read")


def _agents(agents: "Agents") -> list[dict[str, Any]]:
    from stoker.spec.section import plain

    return [
        {
            "agent": name,
            "graph": agent.graph,
            "model": agent.model,
            "route": agent.route,
            "tools": list(agent.tools),
            "grants": list(agent.grants),
            "grantable": list(agent.grantable),
            "limits": plain(agent.limits, whole=True),
        }
        for name, agent in agents.definitions.items()
    ]


def _print(agents: "Agents", rows: list[dict[str, Any]]) -> None:
    show.table(
        ["agent", "graph", "model", "tools", "dollars", "steps"],
        [
            [
                name,
                agent.graph or "stoker's own",
                agent.route or agent.model,
                ", ".join(agent.tools) or None,
                None if agent.limits.usd is None else show.money(float(agent.limits.usd)),
                agent.limits.steps,
            ]
            for name, agent in agents.definitions.items()
        ],
        right=("dollars",),
    )
    if rows:
        click.echo()
        show.table(
            ["tool", "kind", "effect", "repeatable", "approval", "trusted", "granted to", "on request"],
            [
                [
                    row["tool"],
                    row["kind"],
                    row["effect"],
                    {True: "yes", False: "no", None: "by effect"}[row["repeatable"]],
                    row["approval"],
                    "yes" if row["trusted"] else "no",
                    ", ".join(row["granted"]) or None,
                    ", ".join(row["grantable"]) or None,
                ]
                for row in rows
            ],
        )
