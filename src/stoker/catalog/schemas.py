"""STAND-IN until the real schemas are merged: knows none."""

from dataclasses import dataclass

MINORS = ("1.35", "1.36", "1.37")


@dataclass(frozen=True)
class Schema:
    api_version: str
    kind: str
    scope: str
    served: bool


def find(api_version: str, kind: str, kubernetes: str = "1.36") -> Schema | None:
    return None


def versions_of(group: str, kind: str) -> tuple[str, ...]:
    return ("v1",)


def known_group(group: str) -> bool:
    return False
