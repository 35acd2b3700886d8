"""The tools of one platform, made from `agents.tools`. Every result and error of theirs goes through here: within its
time, of a bounded size, and without the value of a secret.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.agents.tools import calculator, fetch, interface, schemas, search, workspace
from stoker.agents.tools.functions import Function, function_at
from stoker.agents.tools.interface import BoundTool, Json, Place, Result
from stoker.agents.tools.secrets import Secrets
from stoker.base.errors import InvalidInput, StokerError, TimedOut
from stoker.spec import agents as spec
from stoker.spec.agents import Approval, Effect

if TYPE_CHECKING:
    from stoker.agents.tools.mcp import Server

MOST_TEXT = 200_000
"""Characters of one result."""

Call = Callable[[Json, Place], Awaitable[Result]]


class Toolbox(interface.Toolbox):
    """`base` is the folder of platform.yaml, `folder` the one in which each run has its own, `environ` where the values
    of secrets are."""

    def __init__(
        self,
        agents: spec.Agents,
        *,
        base: Path,
        folder: Path,
        environ: Mapping[str, str],
        resolve: fetch.Resolve = fetch.resolved,
    ) -> None:
        self._agents = agents
        self._base = base
        self._folder = folder
        self._resolve = resolve
        self._secrets = Secrets(environ)
        self._made: dict[str, Sequence[BoundTool]] = {}
        self._servers: dict[str, Server] = {}

    def place(self, run: str) -> Place:
        """Where calls of this run are made. Raises InvalidInput for what is no run's id."""
        if not re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}", run):
            raise InvalidInput(f'"{run[:100]}" is not the id of a run')
        return Place(run=run, folder=self._folder / run, secrets=self._secrets.value)

    async def tools_of(self, listed: Sequence[str]) -> Sequence[BoundTool]:
        found: dict[str, BoundTool] = {}
        for name in dict.fromkeys(listed):
            for tool in await self._of(name):
                if tool.name in found:
                    other = found[tool.name].listed_as
                    raise InvalidInput(
                        f'two tools are called "{tool.name}": one of agents.tools.{other}, one of agents.tools.{name}',
                        hint="rename one of the two in agents.tools",
                    )
                found[tool.name] = tool
        return list(found.values())

    def redacted(self, text: str) -> str:
        return self._secrets.redacted(text)

    async def aclose(self) -> None:
        await asyncio.gather(*(server.aclose() for server in self._servers.values()))

    async def _of(self, name: str) -> Sequence[BoundTool]:
        said = self._agents.tools.get(name)
        if said is None:
            known = ", ".join(self._agents.tools) or "none"
            raise InvalidInput(f'"{name}" is not a tool; those of agents.tools are: {known}')
        try:
            if said.mcp is not None:
                return await self._of_server(name, said, said.mcp)
            if name not in self._made:
                self._made[name] = self._make(name, said)
        except StokerError as error:
            raise self._told(error) from error.__cause__
        return self._made[name]

    # --- one kind each ------------------------------------------------------------------------------------------------

    def _make(self, name: str, said: spec.Tool) -> Sequence[BoundTool]:
        if said.calculator:
            return [self._tool(name, said, calculator.DESCRIPTION, calculator.PARAMETERS, calculator.call)]
        if said.fetch is not None:
            return [self._fetch(name, said, said.fetch)]
        if said.search is not None:
            documents = search.Documents(said.search, self._base)
            return [self._tool(name, said, search.DESCRIPTION, search.PARAMETERS, documents.call)]
        if said.workspace is not None:
            return self._workspace(name, said, said.workspace)
        if said.python is not None:
            return [self._function(name, said, said.python)]
        if said.agent is not None:
            return [self._agent(name, said, said.agent)]
        raise InvalidInput(f"agents.tools.{name} says nothing of what it is")

    def _fetch(self, name: str, said: spec.Tool, wanted: spec.Fetch) -> BoundTool:
        def headers() -> Mapping[str, str]:
            return {header: self._secrets.header(variable) for header, variable in wanted.headers.items()}

        headers()  # so that what is missing is said before a run has begun
        fetcher = fetch.Fetcher(wanted, headers, resolve=self._resolve)
        description = fetch.DESCRIPTION.format(hosts=", ".join(wanted.hosts)[:500])
        return self._tool(name, said, description, fetch.PARAMETERS, fetcher.call, trusted=False)

    def _workspace(self, name: str, said: spec.Tool, wanted: spec.Workspace) -> Sequence[BoundTool]:
        files = workspace.Files(wanted)
        kinds: Sequence[tuple[str, tuple[str, Json], Call, Effect]] = (
            ("list", workspace.LIST, files.list, "read"),
            ("read", workspace.READ, files.read, "read"),
            ("write", workspace.WRITE, files.write, "write"),
        )
        return [
            # A whole file is written, so that once more makes no difference.
            self._tool(name, said, description, schema, call, called=f"{name}_{verb}", effect=effect, repeatable=True)
            for verb, (description, schema), call, effect in kinds
        ]

    def _function(self, name: str, said: spec.Tool, path: str) -> BoundTool:
        function = Function(name, function_at(path, self._base))
        marks = function.marks
        return self._tool(
            name,
            said,
            function.description or f"The function {path.rpartition(':')[2]}.",
            function.parameters,
            function.call,
            check=function.check,
            effect=marks.effect or "read",
            repeatable=marks.repeatable,
            approval=marks.approval,
        )

    def _agent(self, name: str, said: spec.Tool, agent: str) -> BoundTool:
        definition = self._agents.definitions.get(agent)
        if definition is None:
            raise InvalidInput(f'"{agent}", which agents.tools.{name} names, is not an agent')

        async def never(arguments: Json, place: Place) -> Result:
            raise InvalidInput(f"{name} is the agent {agent}: it is begun as a run, and not called")

        task = {"type": "string", "minLength": 1, "description": "What it has to do, with all that it needs to know"}
        schema = {"type": "object", "properties": {"input": task}, "required": ["input"], "additionalProperties": False}
        description = definition.description or f"The agent {agent}."
        return replace(self._tool(name, said, description, schema, never, trusted=False), agent=agent)

    async def _of_server(self, name: str, said: spec.Tool, wanted: spec.Mcp) -> Sequence[BoundTool]:
        # A third of all that a worker loads, and most platforms have no such server.
        from stoker.agents.tools import mcp

        if name not in self._servers:
            timeout_s = said.timeout_seconds
            self._servers[name] = mcp.Server(name, wanted, self._secrets, base=self._base, timeout_s=timeout_s)
        server = self._servers[name]
        tools = {each.name: each for each in await server.tools()}

        def calling(tool: str) -> Call:
            async def call(arguments: Json, place: Place) -> Result:
                return await server.call(tool, arguments)

            return call

        return [
            self._tool(
                name,
                # What is written of a server is not what one of its tools does.
                said.model_copy(update={"description": ""}),
                (tools[own].description or tools[own].title or own)[: mcp.MOST_DESCRIPTION],
                tools[own].input_schema,
                calling(own),
                called=called,
                effect=mcp.effect_of(tools[own]),
                repeatable=mcp.is_repeatable(tools[own]),
                trusted=False,
            )
            for called, own in mcp.names_of(name, list(tools)).items()
        ]

    # --- what holds for all -------------------------------------------------------------------------------------------

    def _tool(
        self,
        listed_as: str,
        said: spec.Tool,
        description: str,
        parameters: Json,
        call: Call,
        *,
        called: str | None = None,
        check: Callable[[Json], Json] | None = None,
        effect: Effect = "read",
        repeatable: bool | None = None,
        approval: Approval | None = None,
        trusted: bool = True,
    ) -> BoundTool:
        """A tool of which `said` wins over what its kind says; what is left open follows from the effect."""
        name = called or listed_as
        effect = said.effect or effect
        is_read = effect == "read"
        return BoundTool(
            name=name,
            listed_as=listed_as,
            description=self.redacted(said.description or description),
            parameters=parameters,
            effect=effect,
            repeatable=_first(said.repeatable, repeatable, is_read),
            approval=said.approval or approval or ("never" if is_read else "afterUntrusted"),
            trusted=_first(said.trusted, trusted),
            timeout_s=said.timeout_seconds,
            call=self._guarded(name, call, said.timeout_seconds),
            check=self._checked(check or schemas.checker(name, parameters)),
        )

    def _guarded(self, name: str, call: Call, timeout_s: float) -> Call:
        async def guarded(arguments: Json, place: Place) -> Result:
            try:
                async with asyncio.timeout(timeout_s) as limit:
                    result = await call(arguments, self._watched(place))
            except TimeoutError as exc:
                if not limit.expired():
                    raise
                raise TimedOut(f"the tool {name} did not end within {timeout_s:g} s") from exc
            except StokerError as error:
                raise self._told(error) from error.__cause__
            return self._clean(result)

        return guarded

    def _watched(self, place: Place) -> Place:
        """Its secrets are known here, too, whoever looks them up."""

        def value(name: str) -> str:
            found = place.secrets(name)
            self._secrets.remember(name, found)
            return found

        return replace(place, secrets=value)

    def _checked(self, check: Callable[[Json], Json]) -> Callable[[Json], Json]:
        def checked(arguments: Json) -> Json:
            try:
                return check(arguments)
            except StokerError as error:
                raise self._told(error) from error.__cause__

        return checked

    def _clean(self, result: Result) -> Result:
        text = self.redacted(result.text)
        if len(text) > MOST_TEXT:
            text = f"{text[:MOST_TEXT]}\n[cut: {len(text)} characters, of which {MOST_TEXT} are shown]"
        citations = [
            {key: self.redacted(value) if isinstance(value, str) else value for key, value in each.items()}
            for each in result.citations
        ]
        return replace(result, text=text, citations=citations)

    def _told(self, error: StokerError) -> StokerError:
        """The same error, without secrets."""
        error.message = self.redacted(error.message)
        error.args = (error.message,)
        error.hint = self.redacted(error.hint) if error.hint is not None else None
        error.detail = self.redacted(error.detail) if error.detail is not None else None
        return error


def _first(*values: bool | None) -> bool:
    return next(value for value in values if value is not None)
