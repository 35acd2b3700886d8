"""`stoker register`: what a run made, and has passed its evaluation, goes into service; or the version before does."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stoker.cli import show
from stoker.cli.train import needs_torch

if TYPE_CHECKING:
    from stoker.train.registering import Registered


@click.command()
@click.argument("run_file", metavar="RUN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="STOKER_STATE",
    default=".stoker",
    show_default=True,
    help="Directory in which runs and models are kept.",
)
@click.option("--checkpoint", metavar="PLACE", help="Where the run's checkpoints are, if not where it was begun.")
@click.option(
    "--to", metavar="PLACE", help="Also put the files there, side by side, as a cluster's replicas load them."
)
@click.option("--unevaluated", is_flag=True, help="Register what has no verdict, or failed; its card says so.")
@click.option("--back", is_flag=True, help="Register nothing: serve the version before the one that is served now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def register(
    run_file: Path,
    state: Path,
    checkpoint: str | None,
    to: str | None,
    unevaluated: bool,
    back: bool,
    as_json: bool,
) -> None:
    """Publish the weights of the run's newest checkpoint under their digest, and make them the ones that are served.
    Only with a verdict that they passed: `stoker evaluate RUN.yaml`."""
    from stoker.base.clock import SystemClock
    from stoker.spec import load_run
    from stoker.train import registering

    if back and unevaluated:
        raise click.UsageError("--back registers nothing, so --unevaluated does not go with it")
    run, here = load_run(run_file), run_file.absolute().parent
    if back:
        done = registering.back(run, here=here, state=state, to=to, tell=show.note)
    else:
        needs_torch("stoker register")
        done = registering.register(
            run,
            here=here,
            state=state,
            clock=SystemClock(),
            tell=show.note,
            checkpoints=checkpoint,
            unevaluated=unevaluated,
            to=to,
        )
    version = done.version
    if as_json:
        show.as_json(
            {
                "model": version.model,
                "digest": version.digest,
                "before": done.before,
                "place": done.place,
                "card": version.card,
            }
        )
        return
    click.echo(f"{version.model}  {version.digest}")
    show.note(_how_to_serve(done, is_here=run.publish is None))


def _how_to_serve(done: "Registered", *, is_here: bool) -> str:
    model = done.version.model
    weights = f"models:{model}" if is_here else f"{done.place.removeprefix('file://').rstrip('/')}/{model}"
    was = "it was served already" if done.before == done.version.digest else "it is the one that is served from now on"
    return (
        f"{was}; platform.yaml serves it with\n\n"
        f"  llm:\n    models:\n      {model}: {{weights: {weights}}}\n\n"
        "and `stoker up` checks its digest whenever it loads it; begin it again to load another version"
    )
