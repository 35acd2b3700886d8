"""Terms and budgets as the store keeps them: JSON texts, in the names of platform.yaml."""

import functools
import json
from typing import TypeVar, cast

from stoker.spec import Budgets, Team, Tenant, plain, read_section
from stoker.spec.section import Section

_S = TypeVar("_S", Tenant, Team, Budgets)

# What many keys have in common is one object in memory. More than these many different ones are kept as often as used.
SHARED = 4096


def text_of(section: Tenant | Team | Budgets) -> str:
    """The same text for the same terms."""
    return json.dumps(plain(section), separators=(",", ":"), sort_keys=True)


def of_text(kind: type[_S], said: str) -> _S:
    return cast(_S, _read(kind, said))


@functools.lru_cache(SHARED)
def _read(kind: type[Section], said: str) -> Section:
    return read_section(kind, json.loads(said))
