"""The schemas of agents in the OpenAPI document. Pure."""

from stoker.gateway.openapi_words import (
    COUNT,
    TIME,
    TIME_OR_NONE,
    USD,
    Schema,
    array,
    number,
    ref,
    some,
    text,
    thing,
    word,
    yes_or_no,
)


def of_agents() -> dict[str, Schema]:
    """As the agents' service has them; what it adds is its own affair, so these are open."""
    limits = thing(
        {
            "usd": some(USD),
            **dict.fromkeys(("tokens",), some(COUNT)),
            **dict.fromkeys(("steps", "tool_calls", "depth", "repeats"), COUNT),
            "wall_seconds": number(minimum=0),
        },
        leaves_out=("usd", "tokens", "steps", "tool_calls", "depth", "repeats", "wall_seconds"),
    )
    anything: Schema = {"type": "object"}
    tool = {
        "name": text(),
        "description": text(),
        "effect": some(word("read", "write", "spend")),
        "repeatable": some(yes_or_no()),
        "approval": some(word("never", "always", "afterUntrusted")),
    }
    names = array(text())
    message = thing({"role": word("user", "assistant", "system", "tool", "developer"), "content": {}})
    new_run: dict[str, Schema] = {
        "input": {
            "description": "What it is to do: a text, messages, or the state with which a graph of one's own begins.",
            "anyOf": [text(minLength=1), array(message, minItems=1), anything],
        },
        "thread": some(text("Go on with this thread, and what it remembers.", pattern="^[!-.0-~]{1,128}$")),
        "limits": some(limits),
        "grants": some(array(text("A tool that writes or spends."))),
        "metadata": some(
            {
                "type": "object",
                "maxProperties": 16,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": text(maxLength=512),
            }
        ),
        "session": some(text(pattern="^[!-~]{1,256}$")),
    }
    wait = {
        "id": text(),
        "kind": word("approval", "child", "uncertain", "question"),
        "tool": some(text()),
        "arguments": some(anything),
        "message": some(text()),
        "child": some(text()),
    }
    run = {
        "id": text("A path: `run_x.2` is the second run that `run_x` began."),
        "object": {"const": "agent.run"},
        "agent": text(),
        "status": text(),
        "reason": some(text()),
        "input": {},
        "output": {},
        "error": some(anything),
        "thread": some(text()),
        "parent": some(text()),
        "tenant": text(),
        "session": some(text()),
        **dict.fromkeys(("created_at", "started_at", "ended_at"), TIME_OR_NONE),
        "limits": limits,
        "grants": names,
        "metadata": some(anything),
        "usage": thing(
            {
                **dict.fromkeys(("steps", "tool_calls", "model_calls", "prompt_tokens", "completion_tokens"), COUNT),
                "usd": USD,
            }
        ),
        "waiting_for": array(thing(wait, leaves_out=("tool", "arguments", "message", "child"))),
    }
    event = {"id": COUNT, "run": text(), "type": text(), "at": TIME, "step": some(COUNT), "data": {}}
    schedule: dict[str, Schema] = {"cron": text("As in crontab."), "timezone": some(text()), **new_run}
    optional = ("timezone", "thread", "limits", "grants", "metadata", "session")
    return {
        "Agent": thing(
            {
                "id": text(),
                "object": {"const": "agent"},
                "name": text(),
                "description": text(),
                "model": text(),
                "tools": array(thing(tool)),
                "limits": limits,
                "grants": names,
            }
        ),
        "Agents": thing({"object": {"const": "list"}, "data": array(ref("Agent"))}),
        "NewRun": thing(new_run, leaves_out=optional),
        "AgentRun": thing(run),
        "AgentRuns": thing({"data": array(ref("AgentRun"))}),
        "Resumption": thing(
            {
                "answers": some({"type": "object", "description": "By the id of each wait."}),
                "decision": some(text("For all that it waits for: `approve` or `reject`.")),
            },
            leaves_out=("answers", "decision"),
        ),
        "AgentEvents": thing({"data": array(thing(event))}),
        "Trace": thing({"data": array(anything)}),
        "Thread": thing({"id": text(), "messages": array(anything), "runs": array(text())}),
        "Deleted": thing({"id": text(), "deleted": {"const": True}}),
        "NewSchedule": thing(schedule, leaves_out=optional),
        "Schedule": thing({"id": text(), **schedule}, leaves_out=optional),
        "Schedules": thing({"data": array(ref("Schedule"))}),
    }
