"""The root module as a whole: what the modules of this folder make, and what components have in Terraform."""

from collections.abc import Iterator

from stoker.render.components import COMPONENTS
from stoker.render.items import Item, Terraform, Variable
from stoker.render.plan import Plan
from stoker.render.root import (
    addons,
    budgets,
    cluster,
    databases,
    file_systems,
    identities,
    images,
    karpenter,
    load_balancing,
    network,
    nodes,
    observing,
    outputs,
    queues,
    settings,
    storage,
)
from stoker.render.root.without import left_out

_MODULES = (
    *(settings, network, cluster, nodes, addons, karpenter, load_balancing, identities),
    *(storage, file_systems, images, queues, databases, observing, budgets, outputs),
)


def render(plan: Plan) -> Iterator[Terraform | Variable]:
    items: list[Item] = [item for module in _MODULES for item in module.render(plan)]
    items += [item for component in COMPONENTS.values() for item in component(plan)]
    for item in left_out(items):
        if isinstance(item, Terraform | Variable):
            yield item
