"""`stoker schema`: the JSON Schema of platform.yaml, or of run files, for editors and CI."""

import click


@click.command()
@click.option("--run", "of_run", is_flag=True, help="Of the run file of `stoker train`, instead.")
def schema(of_run: bool) -> None:
    """Print the JSON Schema of platform.yaml."""
    import json

    from stoker.spec import json_schema, run_json_schema

    click.echo(json.dumps(run_json_schema() if of_run else json_schema(), indent=2))
