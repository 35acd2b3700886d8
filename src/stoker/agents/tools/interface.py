"""What a tool is, for whoever calls it. Knows nothing of LangGraph, runs or queues."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stoker.spec.agents import Approval, Effect

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one call is made: its run's id (a path), and the folder that is the run's own (made when first used)."""

    run: str
    folder: Path
    secrets: Callable[[str], str]
    """The value behind a variable's name. Raises InvalidInput for one that is not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call came to: text for the model, and where it is from. `is_error`: the tool says that it did not work,
    which is for the model to read. `citations`: [{"source", "line"?, "title"?}]. `images`: data URLs. `is_ours`: Stoker
    says this, and not the tool, since it did not let the call be made."""

    text: str
    is_error: bool = False
    citations: Sequence[Json] = ()
    images: Sequence[str] = ()
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTool:
    """A tool as an agent has it. `name` is what the model calls (letters, digits, _ and -, at most 64), `listed_as`
    its name in agents.tools, `parameters` the JSON Schema of its arguments.

    `call` gets arguments that `check` has let through, and returns within `timeout_s`. It raises StokerError when the
    call could not be made or nobody knows how it ended (a server that is away), and returns a Result with `is_error`
    when the tool itself said no. `agent`: it is another agent, which whoever runs this one begins; `call` is never
    called then.
    """

    name: str
    listed_as: str
    description: str
    parameters: Json
    effect: Effect
    repeatable: bool
    approval: Approval
    trusted: bool
    timeout_s: float
    call: Callable[[Json, Place], Awaitable[Result]]
    check: Callable[[Json], Json]
    """The arguments as the tool takes them. Raises InvalidInput, whose message the model can act on."""
    agent: str | None = None

    def described(self) -> Json:
        """As OpenAI's `tools` wants it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


class Toolbox(Protocol):
    """All tools of one platform. Made once for a worker; servers are started when the first of their tools is asked
    for, and again when they have died."""

    async def tools_of(self, listed: Sequence[str]) -> Sequence[BoundTool]:
        """Those that agents.tools lists under these names, in this order; of an MCP server all that it has and that
        are allowed. Raises Unavailable for a server that cannot be started or reached, InvalidInput for two tools of
        one name."""

    def place(self, run: str) -> Place:
        """Where calls of this run are made. Raises InvalidInput for what is no run's id."""

    def redacted(self, text: str) -> str:
        """Without the values of all secrets that tools were given: `[secret NAME]` stands in their place."""

    async def aclose(self) -> None: ...
