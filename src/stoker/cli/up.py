"""`stoker up`: the platform, on this machine, until Ctrl-C."""

from pathlib import Path

import click


@click.command()
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="The platform's file. Default: platform.yaml here if there is one, else built-in defaults.",
)
@click.option("--port", type=int, envvar="STOKER_PORT", help="Port of the gateway; 0 takes any. Default: the file's.")
@click.option("--host", help="Address that the gateway listens on. Default: the file's, 127.0.0.1.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="STOKER_STATE",
    default=".stoker",
    show_default=True,
    help="Directory for keys, queue, usage and logs.",
)
@click.option("--json", "as_json", is_flag=True, help="When ready, one line of JSON on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Show all that the processes say, not only warnings and errors.")
def up(file: Path | None, port: int | None, host: str | None, state: Path, as_json: bool, verbose: bool) -> None:
    """Run the platform here. Ctrl-C stops everything; the state directory keeps what matters."""
    from stoker.local.up import Options
    from stoker.local.up import up as run

    run(Options(file=file, host=host, port=port, state=state, as_json=as_json, is_verbose=verbose))
