"""`stoker openapi`: the gateway's API as an OpenAPI document, for generators of clients and for gateways before it."""

from pathlib import Path

import click


@click.command()
@click.option("-f", "--file", "file", type=click.Path(path_type=Path), help="platform.yaml. Default: the defaults.")
def openapi(file: Path | None) -> None:
    """Print the OpenAPI document of the API, as /openapi.json of a running platform has it."""
    import json

    from stoker.gateway.openapi import document
    from stoker.spec import Platform, load

    click.echo(json.dumps(document(Platform() if file is None else load(file)), indent=2))
