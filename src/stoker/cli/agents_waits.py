"""What a run waits for, and the answers that a person gives. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stoker.base import json_text
from stoker.base.errors import Conflict, InvalidInput
from stoker.base.terminal import printable
from stoker.cli.agents_tree import short

Json = Mapping[str, Any]
DECIDED = ("approval", "uncertain")
"""Kinds that are approved or rejected. Of a call of which nobody knows how it ended: it is made again, or given up."""
ANSWERED = ("question", "uncertain")
"""Kinds that take a value: the answer to a question; the result of a call of which nobody knows how it ended."""


def of_people(run: Json) -> list[Json]:
    """Without those for sub-agents."""
    return [wait for wait in run.get("waiting_for") or () if wait["kind"] != "child"]


def line_of(run: str, wait: Json) -> str:
    call = f"{wait.get('tool') or 'a tool'} {short(wait.get('arguments'))}".strip()
    message = f": {short(wait['message'])}" if wait.get("message") else ""
    said = {
        "approval": f"{run} waits for approval of {call}{message}",
        "uncertain": f"{run} waits, since nobody knows how the call of {call} ended{message}",
        "question": f"{run} asks{message or ' a question'}",
    }
    return printable(said.get(wait["kind"], f"{run} waits: {wait['kind']}{message}"))


def how_to_answer(run: str, waits: Sequence[Json]) -> list[str]:
    """A command for each."""
    found = []
    for wait in waits:
        which = f"{run} --wait {wait['id']}" if len(waits) > 1 else run
        if wait["kind"] == "approval":
            found.append(f"stoker agents runs approve {which}   (or reject)")
        elif wait["kind"] == "uncertain":
            found.append(
                f"stoker agents runs approve {which} makes the call again, reject gives it up, "
                "answer with its RESULT where it happened"
            )
        else:
            found.append(f"stoker agents runs answer {which} VALUE")
    return found


def chosen(run: Json, kinds: Collection[str], wait: str | None, *, one: bool) -> list[str]:
    """Ids of the waits that are meant: the named one, or all of these kinds. `one`: the answer is for a single wait.
    Raises Conflict where there is none, InvalidInput where it has to be said which."""
    waits = of_people(run)
    fitting = [each["id"] for each in waits if each["kind"] in kinds and wait in (None, each["id"])]
    if fitting and (len(fitting) == 1 or not one):
        return fitting
    if fitting:
        raise InvalidInput(
            f"run {run['id']} has {len(fitting)} open waits, and this is an answer to one",
            param="wait",
            hint=f"name one with --wait: {', '.join(fitting)}",
        )
    if wait is not None and any(each["id"] == wait for each in waits):
        kind = next(each["kind"] for each in waits if each["id"] == wait)
        raise Conflict(
            f"{wait} is of the kind {kind}; this answers {' and '.join(kinds)}",
            hint=how_to_answer(run["id"], [each for each in waits if each["id"] == wait])[0],
        )
    raise Conflict(_nothing_waits(run, kinds, wait), hint=_hint(run))


def _nothing_waits(run: Json, kinds: Collection[str], wait: str | None) -> str:
    if wait is not None:
        return f"run {run['id']} has no open wait {wait!r}"
    if run["status"] != "waiting":
        return f"run {run['id']} is {run['status']}; it waits for nobody"
    return f"run {run['id']} waits for no {' and no '.join(kinds)}"


def _hint(run: Json) -> str | None:
    waits = of_people(run)
    if waits:
        return "; ".join(how_to_answer(run["id"], waits))
    children = [wait["child"] for wait in run.get("waiting_for") or () if wait.get("child")]
    if children:
        return f"it waits for its sub-agents: `stoker agents runs show {children[0]}` says what that one waits for"
    return f"`stoker agents runs show {run['id']}` shows it"


def decision_on(kind: str, decision: str) -> str:
    """As the API calls it: `approve`, `reject` or, with its result, `done`, which an approval does not know."""
    return {"approve": "retry", "reject": "fail"}.get(decision, decision) if kind == "uncertain" else decision


def value_of(text: str) -> Any:
    """JSON where it is JSON (`true`, `3`, `{"a": 1}`), else the text itself."""
    try:
        return json_text.loads(text)
    except ValueError:
        return text


def arguments_of(text: str | None) -> Any:
    """Raises InvalidInput for what is no JSON object."""
    if text is None:
        return None
    value = value_of(text)
    if not isinstance(value, dict):
        raise InvalidInput(
            f"--arguments is {short(text)!r}; it has to be a JSON object",
            param="arguments",
            hint="""such as --arguments '{"to": "ada@example.com"}'""",
        )
    return value
