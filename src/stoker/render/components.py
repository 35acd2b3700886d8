"""All components, in the order in which they are applied."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from stoker.render import (
    agents,
    argocd,
    aws,
    base,
    batch,
    cloudwatch,
    edge,
    gateway,
    gpus,
    interruption,
    kro,
    ledger,
    models,
    monitoring,
    network,
    node_watcher,
    nodes,
    pipeline,
    redis,
    scaling,
    training,
    workers,
)
from stoker.render.items import Item
from stoker.render.plan import Plan

COMPONENTS: Mapping[str, Callable[[Plan], Iterable[Item]]] = MappingProxyType(
    {
        "base": base.render,
        "nodes": nodes.render,
        "gpus": gpus.render,
        "interruption": interruption.render,
        "redis": redis.render,
        "ledger": ledger.render,
        "gateway": gateway.render,
        "node-watcher": node_watcher.render,
        "models": models.render,
        "workers": workers.render,
        "agents": agents.render,
        "scaling": scaling.render,
        "edge": edge.render,
        "network": network.render,
        "monitoring": monitoring.render,
        "cloudwatch": cloudwatch.render,
        "training": training.render,
        "batch": batch.render,
        "pipeline": pipeline.render,
        "aws": aws.render,
        "kro": kro.render,
        "argocd": argocd.render,
    }
)
