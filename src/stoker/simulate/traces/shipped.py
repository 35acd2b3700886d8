"""The traces that ship with the package. `data/ATTRIBUTION.md` says whose they are; `scripts/build_traces.py` made
them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Shipped:
    """A file in a known format. `share` is how much of the recorded traffic a scale of 1 is."""

    file: str
    requests: int
    """At a scale of 1; about so many where they are made up from rates."""
    hours: float
    about: str
    source: str
    licence: str
    share: float = 1.0

    @property
    def path(self) -> Path:
        return DATA / self.file


@cache
def shipped() -> Mapping[str, Shipped]:
    """By name, in alphabetical order."""
    found = json.loads((DATA / "index.json").read_text("utf-8"))
    return MappingProxyType({name: Shipped(**facts) for name, facts in sorted(found.items())})
