"""A LangGraph graph of one's own: it reviews the files of a diff side by side, and then sums up.

    split -> review, once for each file, all at once -> sum_up

`current().chat` asks the agent's model in the name of the run: within its limits, and each answer is paid once, however
often a step is run.
"""

import operator
import re
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from stoker.agents import current

REVIEWER = "You review one file of a change. Name what is wrong with its line, or say that nothing is."
EDITOR = "You sum up reviews of the files of one change: what has to be done first, in a few lines."


class State(TypedDict):
    messages: list[dict[str, Any]]
    reviews: Annotated[list[dict[str, str]], operator.add]
    output: str


def files_of(diff: str) -> dict[str, str]:
    """Each file's part of a diff as git writes it, by its new path."""
    parts = re.split(r"(?m)^(?=diff --git )", diff)
    return {found[1]: part for part in parts if (found := re.match(r"diff --git a/.* b/(.*)", part))}


def to_files(state: State) -> list[Send] | str:
    files = files_of(state["messages"][-1]["content"])
    return [Send("review", {"path": path, "diff": diff}) for path, diff in files.items()] or "sum_up"


async def review(file: dict[str, str]) -> dict[str, Any]:
    asked = [{"role": "system", "content": REVIEWER}, {"role": "user", "content": file["diff"]}]
    answer = await current().chat(asked)
    return {"reviews": [{"path": file["path"], "review": answer["content"]}]}


async def sum_up(state: State) -> dict[str, Any]:
    reviews = sorted(state.get("reviews", []), key=lambda each: each["path"])
    if not reviews:
        return {"output": "this is no diff of git: it names no file"}
    text = "\n\n".join(f"{each['path']}: {each['review']}" for each in reviews)
    answer = await current().chat([{"role": "system", "content": EDITOR}, {"role": "user", "content": text}])
    return {"output": f"{answer['content']}\n\n{text}"}


graph = StateGraph(State)
graph.add_node("review", review)
graph.add_node("sum_up", sum_up)
graph.add_conditional_edges(START, to_files, ["review", "sum_up"])
graph.add_edge("review", "sum_up")
graph.add_edge("sum_up", END)
