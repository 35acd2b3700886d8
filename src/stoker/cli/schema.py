"""`stoker schema`: the JSON Schema of platform.yaml, for editors and CI."""

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of platform.yaml."""
    import json

    from stoker.spec import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
