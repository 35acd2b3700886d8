"""All commands, and the one place where an error becomes what a person reads: a line, a blank line, a hint.

Exit codes: 0 it worked, 1 it failed, 2 you asked wrongly, 130 Ctrl-C.
"""

import sys
from collections.abc import Sequence

import click

from stoker import __version__
from stoker.base.errors import StokerError
from stoker.base.terminal import printable
from stoker.cli import (
    agents,
    audit,
    batches,
    budgets,
    chat,
    cost,
    deploy,
    drill,
    evaluate,
    gpus,
    init,
    keys,
    lint,
    load,
    openapi,
    ps,
    register,
    render,
    runs,
    scale,
    schema,
    schemas,
    simulate,
    starts,
    tasks,
    tenants,
    train,
    up,
    usage,
)

INTERRUPTED = 130  # 128 + SIGINT, as shells count


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="stoker %(version)s")
def stoker() -> None:
    """An agentic-AI platform from one file: platform.yaml."""


for _command in (
    init.init,
    up.up,
    ps.ps,
    gpus.gpus,
    scale.scale,
    chat.chat,
    load.load,
    keys.keys,
    tenants.tenants,
    budgets.budgets,
    usage.usage,
    cost.cost,
    starts.starts,
    audit.audit,
    tasks.tasks,
    batches.batches,
    agents.agents,
    runs.runs,
    drill.drill,
    train.train,
    evaluate.evaluate,
    register.register,
    render.render,
    lint.lint,
    simulate.simulate,
    deploy.deploy,
    deploy.diff,
    deploy.status,
    deploy.destroy,
    schema.schema,
    schemas.schemas,
    openapi.openapi,
):
    stoker.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. All errors end here."""
    try:
        result = stoker.main(list(arguments), prog_name="stoker", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "stoker"
        _say(error.format_message(), f"`{path} --help` shows what can be asked")
        return error.exit_code
    except StokerError as error:
        _say(error.message, error.hint)
        return error.exit_code
    except Exception as error:  # the last resort: whatever it is, a person reads one line and not a page
        _say(f"unexpected {type(error).__name__}: {error}", _where_to_look(arguments))
        if _wants_details(arguments):
            import traceback

            traceback.print_exc()
        return 1


def _say(message: str, hint: str | None) -> None:
    """Names of others may be in it."""
    click.echo(f"error: {_lines(message)}", err=True)
    if hint:
        click.echo(f"\nhint: {_lines(hint)}", err=True)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _where_to_look(arguments: Sequence[str]) -> str:
    if "up" in arguments[:1]:
        return "`stoker up -v` shows where; what the processes said is in the state directory, logs/*.jsonl"
    return "this is a fault of Stoker; with -v it shows where, which is what a bug report needs"


def _wants_details(arguments: Sequence[str]) -> bool:
    return any(argument in ("-v", "--verbose") for argument in arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
