"""`stoker init`: a platform.yaml to start from."""

from pathlib import Path

import click


@click.command()
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    default="platform.yaml",
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def init(file: Path, force: bool) -> None:
    """Write a commented platform.yaml with every default."""
    from stoker.base.errors import InvalidInput
    from stoker.cli import show
    from stoker.spec.reference import template

    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(template())
    except FileExistsError as error:
        raise InvalidInput(f"{file} exists already", param="file", hint="--force replaces it") from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}", param="file") from error
    show.note(f"wrote {file}; `stoker up` runs it")
