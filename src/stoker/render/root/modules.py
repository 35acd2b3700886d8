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
from stoker.render.root.findings import explained
from stoker.render.root.without import left_out

_MODULES = (
    *(settings, network, cluster, nodes, addons, karpenter, load_balancing, identities),
    *(storage, file_systems, images, queues, databases, observing, budgets, outputs),
)

COMPONENTS_OF_TERRAFORM = ("nodes", "interruption", "redis", "edge", "cloudwatch", "batch", "aws")
"""Those that have something in Terraform. The others are not asked: to make objects takes seconds."""


def render(plan: Plan) -> Iterator[Terraform | Variable]:
    items: list[Item] = [item for module in _MODULES for item in module.render(plan)]
    items += [item for name in COMPONENTS_OF_TERRAFORM for item in COMPONENTS[name](plan)]
    for item in explained(left_out(items)):
        if isinstance(item, Terraform | Variable):
            yield item
