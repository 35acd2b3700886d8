"""`stoker render`: the objects of the platform as files."""

import gc
import json
from pathlib import Path

import click

from stoker.base.errors import InvalidInput


@click.command("render")
@click.option("-f", "--file", "spec", type=click.Path(dir_okay=False), help="The spec (default: platform.yaml).")
@click.option("-o", "--out", required=True, metavar="DIR", help="Folder for the files, or - for stdout.")
@click.option(
    "--mode",
    type=click.Choice(["karpenter", "auto", "hybrid"]),
    help="Who makes the nodes (default: global.cluster.mode of the spec).",
)
@click.option(
    "--aws",
    type=click.Choice(["ack", "terraform"]),
    default="ack",
    show_default=True,
    help="Who makes what is needed of AWS: objects of ACK, or the root module of --terraform.",
)
@click.option("--only", multiple=True, metavar="COMPONENT", help="Only this component; may be given more than once.")
@click.option("--helm", is_flag=True, help="Write a Helm chart of the objects instead, whose values are the spec.")
@click.option("--force", is_flag=True, help="Write over files that something else made, or that were changed since.")
@click.option("--json", "as_json", is_flag=True, help="Say as JSON what was written.")
def render(
    spec: str | None,
    out: str,
    mode: str | None,
    aws: str,
    only: tuple[str, ...],
    helm: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write every Kubernetes and AWS object of the platform, for one cluster.

    The same spec gives the same bytes. What was rendered into DIR before and is no more is removed; what is not
    Stoker's stays. With -o - the Kubernetes objects go to stdout, for kubectl; Terraform needs a folder.
    """
    gc.disable()  # the classes of a library for pipelines are a million objects that stay
    from stoker.render import chart, folder, items, run
    from stoker.spec import load_chosen

    if helm:
        _check_chart(out, only)
    platform, source = load_chosen(None if spec is None else Path(spec))
    click.echo(source, err=True)
    texts = (
        chart.render_chart(platform, mode=mode, aws=aws)  # type: ignore[arg-type]
        if helm
        else run.render(platform, mode=mode, only=only, aws=aws)  # type: ignore[arg-type]
    )
    if out == "-":
        if as_json:
            raise InvalidInput("--json says what was written, and -o - writes nothing", param="--json")
        # What costs by being applied is no part of what is piped into kubectl.
        applied = [name for name in texts if "/" in name and not name.startswith(items.ON_DEMAND)]
        click.echo("---\n".join(texts[name] for name in applied if name.endswith(".yaml")), nl=False)
        return 0
    written = folder.write(Path(out), texts, only=only, force=force)
    if as_json:
        click.echo(json.dumps({"files": sorted(texts), "changed": written.changed, "removed": written.removed}))
        return 0
    click.echo(f"{len(texts)} files in {out}: {len(written.changed)} changed, {len(written.removed)} removed", err=True)
    return 0


def _check_chart(out: str, only: tuple[str, ...]) -> None:
    if only:
        raise InvalidInput(
            "--helm writes one whole chart, of which --only would leave parts out",
            param="--only",
            hint="leave --only out; keys such as edge.enabled leave out what is not wanted",
        )
    if out == "-":
        raise InvalidInput("--helm writes a folder of files, and -o is -", param="-o", hint="name a folder")
