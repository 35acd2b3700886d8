"""`stoker render`: the objects of the platform as files."""

import gc
import json
from pathlib import Path

import click
from click.core import ParameterSource

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
@click.option(
    "--terraform", is_flag=True, help="Write the root module of Terraform instead, which makes the cluster as well."
)
@click.option("--only", multiple=True, metavar="COMPONENT", help="Only this component; may be given more than once.")
@click.option("--force", is_flag=True, help="Write over files that something else made, or that were changed since.")
@click.option("--json", "as_json", is_flag=True, help="Say as JSON what was written.")
def render(
    spec: str | None,
    out: str,
    mode: str | None,
    aws: str,
    terraform: bool,
    only: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Write every Kubernetes and AWS object of the platform, for one cluster.

    The same spec gives the same bytes. What was rendered into DIR before and is no more is removed; what is not
    Stoker's stays. With -o - the Kubernetes objects go to stdout, for kubectl; Terraform needs a folder.
    """
    gc.disable()  # the classes of a library for pipelines are a million objects that stay
    from stoker.render import folder, items, run
    from stoker.spec import load_chosen

    if terraform:
        _check_root(out, aws, only)
    platform, source = load_chosen(None if spec is None else Path(spec))
    click.echo(source, err=True)
    texts = (
        run.render_root(platform, mode=mode)  # type: ignore[arg-type]
        if terraform
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


def _check_root(out: str, aws: str, only: tuple[str, ...]) -> None:
    if only:
        raise InvalidInput(
            "--terraform writes one whole module, of which --only would leave parts out",
            param="--only",
            hint="leave --only out; parts that an account lacks are left out by the module's variable `without`",
        )
    if click.get_current_context().get_parameter_source("aws") is not ParameterSource.DEFAULT:
        raise InvalidInput(
            f"--terraform makes what is needed of AWS by Terraform, and --aws is {aws}",
            param="--aws",
            hint="leave --aws out; the objects that go with the module are written by --aws terraform alone",
        )
    if out == "-":
        raise InvalidInput("--terraform writes a folder of files, and -o is -", param="-o", hint="name a folder")
