"""`stoker schemas`: the kinds that `stoker lint` knows, and more of them from files. Nothing comes from the network."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, NotFound
from stoker.catalog import schema_files
from stoker.catalog import schemas as catalog

MAX_BYTES = 64 << 20  # an OpenAPI document of Kubernetes is 4 MB, a bundle of all CRDs of Argo 10 MB
_SUFFIXES = (".yaml", ".yml", ".json")


@click.group()
def schemas() -> None:
    """The kinds that `stoker lint` knows, and more of them."""


@schemas.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """List the kinds with a schema."""
    found = rows()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for row in found:
        marks = [row["source"]]
        if not row["served"]:
            marks.append(f"not served: {row['note']}" if row.get("note") else "not served")
        if row["yours"]:
            marks.append("yours")
        click.echo(f"{row['apiVersion']}  {row['kind']}  ({'; '.join(marks)})")


def rows() -> list[dict[str, Any]]:
    """One row a kind and version, as `find` would give it."""
    own = catalog.index(catalog.user_folder())
    found = []
    for api_version, kind in catalog.kinds():
        name = schema_files.label(api_version, kind)
        folder = catalog.user_folder() if name in own["custom"] or name in own["core"] else catalog.SHIPPED
        here = catalog.index(folder)
        row: dict[str, Any] = {"apiVersion": api_version, "kind": kind}
        if name in here["custom"]:
            entry = here["custom"][name][0]
            row |= {"scope": entry["scope"], "served": entry["served"], "source": entry["source"]}
            row |= {"note": entry["note"]} if entry["note"] else {}
        else:
            entry = here["core"][name]
            row |= {"scope": entry["scope"], "served": True, "source": "Kubernetes " + ", ".join(entry["minors"])}
        found.append({**row, "yours": folder != catalog.SHIPPED})
    return found


@schemas.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--kubernetes", metavar="MINOR", help="The minor of an OpenAPI document that does not say it: 1.38.")
def add(files: tuple[Path, ...], kubernetes: str | None) -> None:
    """Add the kinds of CustomResourceDefinitions (YAML or JSON files, or folders of them), or of a Kubernetes
    release's swagger.json. What is added is looked at before what is shipped."""
    if kubernetes is not None and not re.fullmatch(r"1\.\d{1,3}", kubernetes):
        raise InvalidInput(f"--kubernetes must be a minor such as 1.38, not {kubernetes!r}", param="kubernetes")
    found = [each for path in files for each in _read(path)]
    folder = catalog.user_folder()
    index = json.loads(json.dumps(catalog.index(folder)))  # a copy of what others may have read
    for name, document in found:
        if _is_definition(document):
            for kind in _custom(document, name):
                schema_files.remove_custom(folder, index, schema_files.label(kind.api_version, kind.kind))
                schema_files.add_custom(folder, index, kind, source=name)
                click.echo(f"added {kind.api_version} {kind.kind}")
        else:
            minor, definitions = _core(document, name, kubernetes)
            schema_files.add_core(folder, index, {minor: definitions}, {minor: name})
            click.echo(f"added the kinds of Kubernetes {minor}")
    schema_files.pack(folder / schema_files.INDEX, index)
    catalog.forget()


@schemas.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP/VERSION/KIND|MINOR...")
def remove(names: Sequence[str]) -> None:
    """Remove kinds that `add` added: karpenter.sh/v1/NodePool, or 1.38 for all of a Kubernetes minor."""
    folder = catalog.user_folder()
    index = json.loads(json.dumps(catalog.index(folder)))
    for name in names:
        api_version, _, kind = name.rpartition("/")
        known = (
            schema_files.remove_custom(folder, index, schema_files.label(api_version, kind))
            if api_version
            else schema_files.remove_core(folder, index, name)
        )
        if not known:
            added = [label.replace(" ", "/") for label in index["custom"]] + list(index["minors"])
            hint = f"added are: {', '.join(sorted(added))}" if added else "nothing was added"
            raise NotFound(f"no schema of {name} was added", hint=hint)
    schema_files.pack(folder / schema_files.INDEX, index)
    catalog.forget()
    for name in names:
        click.echo(f"removed {name}")


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """(name of the file, document) of a file, or of the files of a folder that hold definitions."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
        some = [(name, document) for each in files for name, document in _documents(each) if _is_definition(document)]
        if not some:
            raise InvalidInput(f"{path} has no CustomResourceDefinition in its {len(files)} YAML and JSON files")
        yield from some
        return
    documents = list(_documents(path))
    if not documents:
        raise InvalidInput(f"{path} is empty: a CustomResourceDefinition or a swagger.json is wanted")
    some = [each for each in documents if _is_definition(each[1])]
    yield from some or documents


def _documents(path: Path) -> Iterator[tuple[str, Any]]:
    from stoker.spec import yaml

    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path} has more than {MAX_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text") from error
    if path.suffix == ".json":
        try:
            yield path.name, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{path} is no JSON: {error}") from error
        return
    for document in yaml.documents(text, str(path)):
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        for each in items if isinstance(items, list) else [document]:
            if each is not None:
                yield path.name, each


def _is_definition(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition"


def _custom(document: Any, name: str) -> list[schema_files.CustomKind]:
    try:
        return schema_files.custom_kinds(document, where=name)
    except schema_files.NotASchema as error:
        raise InvalidInput(str(error)) from error


def _core(document: Any, name: str, kubernetes: str | None) -> tuple[str, schema_files.Tree]:
    try:
        definitions = schema_files.definitions_of(document, where=name)
    except schema_files.NotASchema as error:
        hint = "give CustomResourceDefinitions, or api/openapi-spec/swagger.json of a Kubernetes release"
        raise InvalidInput(f"{error}, and is no CustomResourceDefinition", hint=hint) from error
    minor = kubernetes or schema_files.minor_of(document)
    if minor is None:
        raise InvalidInput(f"{name} does not say of which Kubernetes it is", hint="say it: --kubernetes 1.38")
    return minor, definitions
