"""What tests of components look at: the objects and the Terraform of what they yield."""

from collections.abc import Iterable
from typing import Any

from stoker.render.items import Item, Resource, Terraform
from stoker.render.writing import files


def objects(items: Iterable[Item]) -> list[dict[str, Any]]:
    return [item.object for item in items if isinstance(item, Resource)]


def only(items: Iterable[Item], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects(items) if each["kind"] == kind]


def one(items: Iterable[Item], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in only(items, kind) if each["metadata"]["name"] == name]
    return found


def terraform(items: Iterable[Item], *labels: str) -> dict[str, Any]:
    """The attributes of one block."""
    (found,) = [each.block for each in items if isinstance(each, Terraform) and each.block.labels == labels]
    return dict(found.attributes)


def terraform_text(items: Iterable[Item]) -> str:
    written = files(items)
    return "".join(text for name, text in written.items() if name.endswith(".tf"))
