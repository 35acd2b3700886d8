"""The trace of a run (`GET .../trace`) as a tree that people read. Pure.

researcher run_01                                     20.0 s
├─ step 1 (model)                                      2.0 s
│  └─ model small  1000 in, 40 out  $0.001             1.5 s
└─ wait approval mail {"to":"ada@example.com"}        10.0 s
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stoker.base import json_text
from stoker.base.terminal import printable
from stoker.cli import show

Json = Mapping[str, Any]
MOST_SHORT = 60
"""Characters of arguments, of a result, of a message."""
WIDEST = 100
"""Characters of a line before the column of durations. In a longer one it stands further to the right."""
_LEVEL = "│  "


def tree_of(spans: Sequence[Json]) -> list[str]:
    """A line for each span, below its parent, in the order in which they began; durations stand in a column. A span
    whose parent is not there stands at the root."""
    known = {span["id"] for span in spans}
    below: dict[str | None, list[Json]] = {}
    for span in sorted(spans, key=lambda span: span["started_at"]):  # stable: equal times keep the order they came in
        below.setdefault(span["parent"] if span["parent"] in known else None, []).append(span)
    rows = [row for root in below.get(None, []) for row in _rows(root, below, "", "")]
    width = min(max((len(text) for text, _ in rows), default=0), WIDEST)
    return [f"{text:<{width}}  {took:>8}".rstrip() for text, took in rows]


def _rows(span: Json, below: Mapping[str | None, Sequence[Json]], first: str, rest: str) -> Iterator[tuple[str, str]]:
    yield first + line_of(span), _seconds_of(span)
    inner = below.get(span["id"], [])
    for index, child in enumerate(inner):
        is_last = index == len(inner) - 1
        yield from _rows(child, below, rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else _LEVEL))


def line_of(span: Json) -> str:
    """What a span was, without its place and its duration."""
    attributes = span["attributes"]
    if span["kind"] == "run":
        line = f"{attributes.get('gen_ai.agent.name')} {span['run']}"
    elif span["kind"] == "step":
        nodes = ", ".join(attributes.get("stoker.nodes") or ())
        line = span["name"] + (f" ({nodes})" if nodes else "")
    elif span["kind"] == "model":
        line = model_line(
            attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model"),
            attributes.get("gen_ai.usage.input_tokens"),
            attributes.get("gen_ai.usage.output_tokens"),
            attributes.get("stoker.cost_usd"),
        )
    elif span["kind"] == "tool":
        arguments = attributes.get("gen_ai.tool.call.arguments")
        line = tool_line(attributes.get("gen_ai.tool.name"), arguments, attributes.get("gen_ai.tool.call.result"))
    else:
        line = _wait_line(attributes)
    attempts = attributes.get("stoker.attempts") or 1
    tried = f"  (tried {attempts} times)" if attempts > 1 else ""
    # Who wrote the names, nobody knows: a model may call a tool by any.
    return printable(line + tried + _trouble(span))


def model_line(model: object, tokens_in: object, tokens_out: object, usd: float | None) -> str:
    money = "" if usd is None else f"  {show.money(usd)}"
    return f"model {model}  {tokens_in or 0} in, {tokens_out or 0} out{money}"


def tool_line(tool: object, arguments: object, result: object) -> str:
    said = f" -> {short(result)}" if result is not None else ""
    return f"tool {tool} {short(arguments)}".rstrip() + said


def _wait_line(attributes: Json) -> str:
    line = f"wait {attributes.get('stoker.wait.kind')}"
    call = f"{attributes.get('gen_ai.tool.name') or ''} {short(attributes.get('gen_ai.tool.call.arguments'))}".strip()
    message = short(attributes.get("stoker.wait.message"))
    answer = attributes.get("stoker.wait.decision") or short(attributes.get("stoker.wait.answer"))
    return f"{line}{f' {call}' if call else ''}{f': {message}' if message else ''}{f' -> {answer}' if answer else ''}"


def _trouble(span: Json) -> str:
    if span["status"] == "open":
        return "  ..."
    return f"  failed: {span['attributes'].get('error.type', 'error')}" if span["status"] == "error" else ""


def _seconds_of(span: Json) -> str:
    return "" if span["ended_at"] is None else seconds(span["ended_at"] - span["started_at"])


def seconds(count: float) -> str:
    """`0.8 s`, `12m 5s`, `3h 20m`, `2d 4h`: what a call takes, and what a person takes."""
    if count < 60:
        return f"{count:.1f} s"
    for larger, smaller, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if count >= size:
            return f"{int(count // size)}{larger} {int(count % size // part)}{smaller}"
    return ""  # not reached: what is shorter than a minute was above


def short(value: object) -> str:
    """In one line of MOST_SHORT characters that move no cursor."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json_text.dumps(value).decode()
    line = printable(" ".join(text[: 10 * MOST_SHORT].split()))
    return line if len(line) <= MOST_SHORT else line[: MOST_SHORT - 1] + "…"


def totals(run: Json) -> str:
    used = run["usage"]
    counts = ((used["steps"], "step"), (used["model_calls"], "model call"), (used["tool_calls"], "tool call"))
    words = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts]
    return f"{', '.join(words)}, {used['prompt_tokens']} tokens in, {used['completion_tokens']} out, " + show.money(
        used["usd"]
    )
