"""`stoker agents`: which there are, and runs of them."""

from pathlib import Path
from urllib.parse import quote

import click

from stoker.cli import agents_check, agents_runs, agents_schedules, api, show, target
from stoker.cli.agents_input import input_of

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@target.options
@_JSON
@click.pass_context
def agents(context: click.Context, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Agents, their runs and their schedules. Alone: the list of them."""
    if context.invoked_subcommand is None:
        _list(target.Asked(url, key, state), as_json)


@agents.command("list")
@target.options
@_JSON
def list_agents(url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """The agents of the platform."""
    _list(target.Asked(url, key, state), as_json)


@agents.command("show")
@click.argument("name", metavar="NAME")
@target.options
@_JSON
def show_agent(name: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """One agent: its model, its limits, and its tools with what they may do."""
    found = target.find(target.Asked(url, key, state))
    agent = api.call(found, "GET", path_of(name))
    if as_json:
        show.as_json(agent)
        return
    limits = ", ".join(f"{name} {value}" for name, value in agent["limits"].items() if value is not None)
    lines = [(name, agent[name]) for name in ("name", "description", "model")]
    show.fields([*lines, ("limits", limits), ("grants", ", ".join(agent["grants"]))], 11)
    if agent["tools"]:
        click.echo()
        show.table(
            ["tool", "effect", "repeatable", "approval", "description"],
            [
                [
                    each["name"],
                    each["effect"],
                    {True: "yes", False: "no", None: None}[each["repeatable"]],
                    each["approval"],
                    (each["description"] or "").partition("\n")[0],
                ]
                for each in agent["tools"]
            ],
        )


@agents.command("run")
@click.argument("name", metavar="NAME")
@click.argument("text", required=False)
@target.options
@click.option(
    "--file",
    "file",
    metavar="FILE",
    help="The input instead of TEXT; - is stdin. A .json file is sent as what it says.",
)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="An image beside the text.")
@click.option("--thread", metavar="ID", help="Goes on with this thread: its runs remember each other.")
@click.option("--usd", type=click.FloatRange(min=0, min_open=True), help="US dollars at most.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens of prompts and answers at most.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps at most.")
@click.option(
    "--grant", "grants", multiple=True, metavar="TOOL", help="A tool that writes or spends, which it may use."
)
@click.option("--no-wait", is_flag=True, help="Print the id of the run, and do not wait for its end.")
@_JSON
def run_agent(
    name: str,
    text: str | None,
    url: str | None,
    key: str | None,
    state: Path | None,
    file: str | None,
    images: tuple[Path, ...],
    thread: str | None,
    usd: float | None,
    tokens: int | None,
    steps: int | None,
    grants: tuple[str, ...],
    no_wait: bool,
    as_json: bool,
) -> int:
    """Start a run of NAME with TEXT, say what it does, and print its output."""
    limits = {"usd": usd, "tokens": tokens, "steps": steps}
    given = {
        "thread": thread,
        "limits": {each: value for each, value in limits.items() if value is not None},
        "grants": list(grants),
    }
    body = {"input": input_of(text, file, images), **{each: value for each, value in given.items() if value}}
    options = {f"limits.{each}": f"--{each}" for each in limits} | {"grants": "--grant", "thread": "--thread"}
    found = target.find(target.Asked(url, key, state))
    run = api.call(found, "POST", path_of(name, "runs"), body=body, options=options)
    if no_wait:
        if as_json:
            show.as_json(run)
        else:
            click.echo(run["id"])
        return 0
    show.note(f"run {run['id']}")
    return agents_runs.followed(found, run["id"], as_json)


def path_of(agent: str, *rest: str) -> str:
    return "/".join(("/v1/agents", quote(agent, safe=""), *rest))


def _list(asked: target.Asked, as_json: bool) -> None:
    answer = api.call(target.find(asked), "GET", "/v1/agents")
    if as_json:
        show.as_json({"agents": answer["data"]})
        return
    show.table(
        ["agent", "model", "tools", "description"],
        [
            [
                each["name"],
                each["model"],
                ", ".join(tool["name"] for tool in each["tools"]) or None,
                each["description"],
            ]
            for each in answer["data"]
        ],
    )


agents.add_command(agents_check.check)
agents.add_command(agents_runs.runs)
agents.add_command(agents_schedules.schedules)
