"""All components, in the order in which they are applied."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from stoker.render import nodes
from stoker.render.items import Item
from stoker.render.plan import Plan

COMPONENTS: Mapping[str, Callable[[Plan], Iterable[Item]]] = MappingProxyType(
    {
        "nodes": nodes.render,
    }
)
