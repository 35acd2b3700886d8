"""NodePools and node classes."""

from collections.abc import Iterator
from typing import Any

from stoker.catalog.labels import AUTO_MODE, CAPACITY_TYPE, INSTANCE_TYPE, ZONE
from stoker.render.facts import SERVES, Pool
from stoker.render.items import Item, Resource
from stoker.render.objects import metadata
from stoker.render.plan import Plan


def render(plan: Plan) -> Iterator[Item]:
    for pool in plan.pools:
        yield Resource(f"nodes/{pool.name}.yaml", _node_pool(plan, pool), _comment(pool))


def _comment(pool: Pool) -> str:
    return "\n".join(f"left out: {each}" for each in pool.left_out)


def _node_pool(plan: Plan, pool: Pool) -> dict[str, Any]:
    group, kind = (AUTO_MODE, "NodeClass") if pool.domain == AUTO_MODE else (pool.domain, "EC2NodeClass")
    spec: dict[str, Any] = {
        "template": {
            "metadata": {"labels": {SERVES: pool.serves}},
            "spec": {
                "nodeClassRef": {"group": group, "kind": kind, "name": pool.node_class},
                "requirements": [
                    {"key": INSTANCE_TYPE, "operator": "In", "values": [each.name for each in pool.types]},
                    {"key": CAPACITY_TYPE, "operator": "In", "values": list(pool.capacity)},
                    {"key": ZONE, "operator": "In", "values": list(pool.zones)},
                ],
                "taints": [dict(each) for each in pool.taints],
            },
        },
        "limits": dict(pool.limits),
        "weight": pool.weight,
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": metadata(plan, pool.name, "nodes"),
        "spec": spec,
    }
