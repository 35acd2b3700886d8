"""`stoker evaluate`: questions with checked answers, asked of what a run made, and a verdict."""

import os
from pathlib import Path

import click

from stoker.cli import show
from stoker.cli.train import needs_torch

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="STOKER_STATE",
    default=".stoker",
    show_default=True,
    help="Directory in which runs and models are kept.",
)


@click.command()
@click.argument("run_file", metavar="RUN.yaml", type=click.Path(path_type=Path))
@_STATE
@click.option("--checkpoint", metavar="PLACE", help="Where the run's checkpoints are, if not where it was begun.")
@click.option("--url", help="Ask a server that speaks the OpenAI API, instead of the run's newest checkpoint.")
@click.option("--key", envvar="STOKER_KEY", help="Key of that server.")
@click.option("--model", help="Name of the model there. Default: registerAs, or else the run's name.")
@click.option("--again", metavar="DIGEST", help="Ask nobody: judge the samples of an earlier evaluation anew.")
@click.option("--score-file", type=click.Path(path_type=Path), help="Write the score there, when there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    run_file: Path,
    state: Path,
    checkpoint: str | None,
    url: str | None,
    key: str | None,
    model: str | None,
    again: str | None,
    score_file: Path | None,
    as_json: bool,
) -> int:
    """Ask the questions of evaluation.suites, of the model and of its base, and judge the answers. Exit code 0: passed,
    1: failed. What was said and the verdict are kept beside the run's checkpoints: `stoker register` looks there."""
    # As the engine does: threads of matrix products change the last bits of what a model says.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from stoker.registry.cards import is_digest
    from stoker.spec import load_run
    from stoker.train import evaluation, verdicts

    _refuse_together(url=url, again=again, model=model)
    if score_file is not None:
        score_file.unlink(missing_ok=True)  # of an earlier try: what reads it must not take that for this one's
    run, here = load_run(run_file), run_file.absolute().parent
    if again is not None:
        verdict, digest = evaluation.again(run, again, here=here, state=state, checkpoints=checkpoint)
    else:
        if url is None:
            needs_torch("stoker evaluate")
        verdict, digest = evaluation.evaluate(
            run, here=here, state=state, url=url, key=key, model=model, checkpoints=checkpoint, tell=_say
        )
    if score_file is not None and verdict.score is not None:
        score_file.write_text(f"{verdict.score!r}\n", encoding="utf-8")
    if as_json:
        show.as_json({"digest": digest, **verdicts.as_json(verdict)})
    else:
        for reason in verdict.reasons:
            click.echo(reason)
        click.echo(f"{'passed' if verdict.passed else 'FAILED'}  weights {digest}")
    if verdict.passed and is_digest(digest) and not as_json:
        show.note(f"`stoker register {run_file}` puts them into service")
    return 0 if verdict.passed else 1


def _refuse_together(*, url: str | None, again: str | None, model: str | None) -> None:
    if again is not None and url is not None:
        raise click.UsageError("--again asks nobody, so it does not go with --url")
    if url is None and model is not None:
        raise click.UsageError("--model is the name of a model at --url, which is missing")


def _say(line: str) -> None:
    click.echo(line, err=True)
