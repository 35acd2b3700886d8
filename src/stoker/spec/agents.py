"""`agents`: who they are, the tools that they may use, and what runs them."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stoker.spec.budgets import NO_BUDGETS, Budgets, Description
from stoker.spec.faults import Fault
from stoker.spec.llm import Alias, Replicas
from stoker.spec.section import EnvName, Expected, Name, Seconds, Section, Usd
from stoker.spec.services import DatabaseUrl

AGENT_STEPS = "agents"
"""The stream on which the steps of agents wait; so no model is called so."""

RESERVED_AGENTS = frozenset(("runs", "threads", "schedules"))
"""Words that follow `/v1/agents/` in the API."""

Effect = Literal["read", "write", "spend"]
Approval = Literal["never", "always", "afterUntrusted"]

_OBJECT = "module:name, or path/to/file.py:name"
ObjectPath = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_.]*|[A-Za-z0-9_./-]{1,500}\.py):[A-Za-z_][A-Za-z0-9_]{0,99}$"),
    Expected(f"a Python object: {_OBJECT}; a path is relative to the platform's file"),
]
GraphPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^(entry-point:[A-Za-z0-9_.-]{1,100}|([A-Za-z_][A-Za-z0-9_.]*|[A-Za-z0-9_./-]{1,500}\.py):[A-Za-z_][A-Za-z0-9_]{0,99})$"
    ),
    Expected(f"{_OBJECT}, or entry-point:NAME of an installed package"),
]
Host = Annotated[
    str,
    StringConstraints(pattern=r"^([*][.])?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?$"),
    Expected("a host name, with a port where it is not the usual one, or *.example.com"),
]
Text = Annotated[str, StringConstraints(max_length=20_000), Expected("text of at most 20000 characters")]
Path = Annotated[str, StringConstraints(min_length=1, max_length=500), Expected("a path")]
Word = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_.-]{1,64}$"), Expected("the name of a tool")]


class Fetch(Section):
    """HTTP GET of pages whose hosts are listed. Nothing else is reached: no private address, no redirect elsewhere."""

    hosts: Annotated[tuple[Host, ...], Field(strict=False, min_length=1, max_length=200)]
    """Hosts that may be asked, by https; `*.example.com` are all below example.com."""

    headers: Mapping[Word, EnvName] = Field(default={}, max_length=20)
    """Header to environment variable that holds its value. No model ever sees the value."""

    allow_http: bool = False
    """Whether plain http is allowed, too."""

    allow_private: bool = False
    """Whether addresses of private networks and of this machine may be reached."""

    max_bytes: Annotated[int, Field(ge=1024, le=10_000_000)] = 200_000
    """Bytes of an answer that are read at most."""


class Search(Section):
    """Search over documents, with citations."""

    path: Path
    """Folder or file of text, Markdown, HTML or code, relative to the platform's file."""

    results: Annotated[int, Field(ge=1, le=50)] = 5
    """Passages that one search gives at most."""


class Workspace(Section):
    """Files of the run's own: list, read, write. Nothing outside its folder."""

    max_bytes: Annotated[int, Field(ge=1024, le=10_000_000_000)] = 10_000_000
    """Bytes of all its files at most."""


class Mcp(Section):
    """Tools of an MCP server: a program that is started (`command`), or a server (`url`)."""

    command: Annotated[tuple[str, ...], Field(strict=False, max_length=50)] = ()
    """Program and arguments, without a shell; it speaks MCP on its standard input and output."""

    env: Mapping[EnvName, EnvName] = Field(default={}, max_length=50)
    """Variable of the program to variable of ours that holds its value."""

    url: (
        Annotated[
            str,
            StringConstraints(max_length=2048, pattern="^https?://[!-~]+$"),
            Expected("an http or https URL, such as http://127.0.0.1:9000/mcp", secret=True),
        ]
        | None
    ) = None
    """A server that speaks MCP over streamable HTTP."""

    headers: Mapping[Word, EnvName] = Field(default={}, max_length=20)
    """Header to environment variable that holds its value."""

    only: Annotated[tuple[Word, ...], Field(strict=False, max_length=200)] | None = None
    """Tools of the server that may be used. null allows all that it has when a worker starts."""

    def broken_rules(self) -> Iterator[Fault]:
        if bool(self.command) == (self.url is not None):
            yield Fault((), "needs either `command` or `url`")


class Tool(Section):
    """One tool, or the tools of one MCP server. Exactly one of calculator, fetch, search, workspace, python, mcp and
    agent says what it is."""

    calculator: bool = False
    """Arithmetic, exact, with a bound on the size of numbers."""

    fetch: Fetch | None = None
    """Pages of the web whose hosts are listed."""

    search: Search | None = None
    """Documents of yours."""

    workspace: Workspace | None = None
    """A folder of files for each run."""

    python: ObjectPath | None = None
    """A function with type hints and a docstring; its arguments are checked against them."""

    mcp: Mcp | None = None
    """The tools of an MCP server."""

    agent: Name | None = None
    """Another agent, as a tool: a run of its own, whose spending counts as this one's."""

    description: Description = ""
    """What the model is told of it. Empty takes its own."""

    effect: Effect | None = None
    """What it does to the world. `write` and `spend` need the run's grant. null: what the kind does; read for a Python
    function; what an MCP server says of each of its tools, and write where it says nothing."""

    repeatable: bool | None = None
    """Whether it may be run again when nobody knows how a call ended. null: yes for read, no for write and spend."""

    approval: Approval | None = None
    """When a person has to agree to a call. null: afterUntrusted for write and spend, never for read."""

    trusted: bool | None = None
    """Whether what it returns was written by somebody who may give orders to the agent. null: no for fetch, mcp and
    agent, yes for the others."""

    timeout_seconds: Seconds = 30.0
    """Seconds that one call may take. Not for agents, whose own limits hold."""

    def broken_rules(self) -> Iterator[Fault]:
        kinds = [name for name in TOOL_KINDS if getattr(self, name)]
        if len(kinds) != 1:
            said = " and ".join(kinds) or "none"
            yield Fault((), f"it has to be exactly one of {', '.join(TOOL_KINDS)}; it is {said}")

    @property
    def kind(self) -> str:
        return next(name for name in TOOL_KINDS if getattr(self, name))


TOOL_KINDS = ("calculator", "fetch", "search", "workspace", "python", "mcp", "agent")


class RunLimits(Section):
    """What one run may use, its sub-agents included. A caller may ask for less."""

    usd: Usd | None = None
    """US dollars. Held by the gateway's budgets: nothing is spent above it. null sets no limit."""

    tokens: Annotated[int, Field(ge=1, le=10**12)] | None = 1_000_000
    """Tokens of prompts and answers, held by the gateway's budgets. null sets no limit."""

    steps: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Steps of its graph."""

    wall_seconds: Annotated[float, Field(gt=0, le=30 * 86400)] = 3600.0
    """Seconds from its first step, without the time that it waits for a person."""

    tool_calls: Annotated[int, Field(ge=0, le=100_000)] = 100
    """Calls of tools."""

    depth: Annotated[int, Field(ge=0, le=8)] = 2
    """Levels of sub-agents below it. 0 allows none."""

    repeats: Annotated[int, Field(ge=2, le=100)] = 3
    """The same call with the same result, so many times in a run, ends it."""


class Agent(Section):
    """One agent: a model with instructions and tools, or a LangGraph graph of your own."""

    description: Description = ""
    """For people, and for agents that have it as a tool."""

    graph: GraphPath | None = None
    """A compiled LangGraph graph, or a function that makes one: by module, by file, or by the name under which an
    installed package offers it (an entry point of the group stoker.agents). null: Stoker's own, in which a model calls
    tools until it answers."""

    model: Alias = "auto"
    """Model that it asks, or auto."""

    route: Name | None = None
    """Word of the gateway's routes under which it asks, such as code. null asks by model."""

    instructions: Text = ""
    """What the model is told first."""

    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Tokens of one answer at most. null takes the model's own bound."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """How freely it answers. null takes the model's own."""

    tools: Annotated[tuple[Name, ...], Field(strict=False, max_length=200)] = ()
    """Names of agents.tools that it may use."""

    grants: Annotated[tuple[Name, ...], Field(strict=False, max_length=200)] = ()
    """Of its tools with the effect write or spend, those that a run has without asking for them."""

    grantable: Annotated[tuple[Name, ...], Field(strict=False, max_length=200)] = ()
    """Those that a run may have if its caller asks for them (`grants`)."""

    limits: RunLimits = RunLimits()
    """What one run may use."""

    budgets: Budgets = NO_BUDGETS
    """Limits on what all runs of this agent spend together, for all tenants. The same keys as in a tenant's budgets."""

    memory_messages: Annotated[int, Field(ge=0, le=10_000)] = 200
    """Messages of a thread that its next run sees at most. Steps of one run see all of their own."""


class AgentWorkers(Section):
    """What runs steps."""

    replicas: Replicas = Replicas(min=0, max=2)
    """How many run, here and in the cluster. They come with the first run and go when there is nothing to do."""

    steps_at_once: Annotated[int, Field(ge=1, le=1000)] = 64
    """Steps that one worker runs at once; most of a step is waiting for a model."""

    lease_seconds: Seconds | None = None
    """Seconds after which a step of a dead worker is taken over. null takes queue.leaseSeconds."""


class AgentStore(Section):
    """The database of runs, their events and their checkpoints."""

    url: DatabaseUrl | None = None
    """Where it is. null: files in the state directory; in the cluster, the ledger's database."""

    password_env: EnvName | None = None
    """Environment variable that holds the password for `url`. null sends none."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.password_env and self.url is None:
            yield Fault(("passwordEnv",), "there is no url that it belongs to; write its url too, or leave it out")


def _assistant() -> Mapping[str, Agent]:
    said = "You answer questions. Use the calculator for arithmetic."
    return {
        "assistant": Agent(
            description="Answers questions, with a calculator.", instructions=said, tools=("calculator",)
        )
    }


class Agents(Section):
    """Agents: their definitions, tools, workers and store."""

    enabled: bool | None = None
    """Whether they run. null: here, where `stoker[agents]` is installed; in the cluster, where `definitions` are
    written."""

    definitions: Mapping[Name, Agent] = Field(default_factory=_assistant, max_length=1000)
    """The agents, by name."""

    tools: Mapping[Name, Tool] = Field(default={"calculator": Tool(calculator=True)}, max_length=1000)
    """The tools, by the name under which agents list them."""

    workers: AgentWorkers = AgentWorkers()
    """What runs steps."""

    store: AgentStore = AgentStore()
    """Where runs are kept."""

    retention_days: Annotated[int, Field(ge=1, le=36500)] = 90
    """Days for which an ended run, its events and its checkpoints are kept."""

    @property
    def are_written(self) -> bool:
        return "definitions" in self.model_fields_set

    def complete(self) -> None:
        if "calculator" not in self.tools and any("calculator" in agent.tools for agent in self.definitions.values()):
            self.settle("tools", {"calculator": Tool(calculator=True), **self.tools})

    def broken_rules(self) -> Iterator[Fault]:
        tools = ", ".join(self.tools) or "none"
        for name, agent in self.definitions.items():
            path = ("definitions", name)
            if name in RESERVED_AGENTS:
                yield Fault(path, f"/v1/agents/{name} is a path of the API itself; choose another name")
            for index, tool in enumerate(agent.tools):
                if tool not in self.tools:
                    yield Fault((*path, "tools", index), f'"{tool}" is not a tool; those of agents.tools are: {tools}')
            for key, listed in (("grants", agent.grants), ("grantable", agent.grantable)):
                for index, tool in enumerate(listed):
                    if tool not in agent.tools:
                        own = ", ".join(agent.tools) or "none"
                        yield Fault((*path, key, index), f'"{tool}" is no tool of this agent; its tools are: {own}')
        known = ", ".join(self.definitions) or "none"
        for name, said in self.tools.items():
            if said.agent is not None and said.agent not in self.definitions:
                yield Fault(("tools", name, "agent"), f'"{said.agent}" is not an agent; the agents are: {known}')
