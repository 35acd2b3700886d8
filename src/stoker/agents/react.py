"""Stoker's own graph: a model calls tools, as many at once as it likes, until it answers.

    model -> one task for each tool call -> model -> ... -> end

Its state is `messages`, as OpenAI's API has them.
"""

import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from stoker.agents.context import UNTRUSTED, current
from stoker.agents.tools.interface import Result

Json = dict[str, Any]


class State(TypedDict):
    messages: Annotated[list[Json], operator.add]


def graph() -> Any:
    """To be compiled with a saver."""
    built: Any = StateGraph(State)
    built.add_node("model", _model)
    built.add_node("tool", _tool)
    built.add_edge(START, "model")
    built.add_conditional_edges("model", _calls, ["tool", END])
    built.add_edge("tool", "model")
    return built


async def _model(state: State) -> Json:
    run = current()
    messages = latest(state["messages"], run.agent.memory_messages)
    if run.agent.instructions:
        messages = [{"role": "system", "content": run.agent.instructions}, *messages]
    return {"messages": [await run.chat(messages)]}


def _calls(state: State) -> Any:
    calls = state["messages"][-1].get("tool_calls") or []
    return [Send("tool", {"call": call}) for call in calls] or END


async def _tool(asked: Json) -> Json:
    run, call = current(), asked["call"]
    function = call.get("function") or {}
    name = str(function.get("name", ""))
    result = await run.call(name, function.get("arguments", "{}"), call=call.get("id"))
    is_trusted = any(tool.name == name and tool.trusted for tool in run.tools) or result.is_ours
    return {
        "messages": [{"role": "tool", "tool_call_id": call.get("id"), "content": said(result, is_trusted=is_trusted)}]
    }


def said(result: Result, *, is_trusted: bool) -> str:
    """What the model reads of a result: never anything but the content of a message of a tool."""
    text = f"error: {result.text}" if result.is_error else result.text
    for citation in result.citations:
        place = ":".join(str(citation[name]) for name in ("source", "line") if citation.get(name) is not None)
        text += f"\n[source: {place}]"
    return text if is_trusted else UNTRUSTED + text


def latest(messages: Sequence[Json], most: int) -> list[Json]:
    """The last `most` messages of earlier runs and all of this one: it begins with a message of the user, so that no
    answer of a tool stands there without its call."""
    kept = list(messages)
    last_asked = max((i for i, message in enumerate(kept) if message.get("role") == "user"), default=0)
    begin = min(last_asked, max(0, len(kept) - most))
    while begin < last_asked and kept[begin].get("role") != "user":
        begin += 1
    return kept[begin:]


def begin(asked: Any) -> Json:
    """The state with which a run begins: a text, messages, or {"messages": [...]}."""
    if isinstance(asked, str):
        return {"messages": [{"role": "user", "content": asked}]}
    if isinstance(asked, list):
        return {"messages": asked}
    return {"messages": asked["messages"]}
