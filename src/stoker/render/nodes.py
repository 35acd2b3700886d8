"""NodePools, their node classes, and NodeOverlays for what Karpenter cannot know of a type."""

from collections.abc import Iterator
from typing import Any

from stoker.catalog.labels import AUTO_MODE, CAPACITY_TYPE, INSTANCE_TYPE, NODE_POOL, ZONE
from stoker.render.facts import GPU, SERVES, Pool, short
from stoker.render.hcl import Block, Raw
from stoker.render.items import Item, Resource, Terraform
from stoker.render.node_classes import comment, node_class
from stoker.render.objects import metadata
from stoker.render.plan import Plan
from stoker.render.sharing import CONFIG_LABEL, config_name, offered

_SPOT_TO_SPOT = 15
"""Cheaper types that Karpenter asks for before it replaces one spot node by another (concepts/disruption)."""
_USUAL_BUDGET = 50
"""Per cent of a pool's nodes that may be replaced at once outside of protected hours."""
_FILE = "terraform/nodes.tf"


def render(plan: Plan) -> Iterator[Item]:
    classes: dict[str, list[Pool]] = {}
    for pool in plan.pools:
        classes.setdefault(pool.node_class, []).append(pool)
    for name, pools in classes.items():
        yield Resource(f"nodes/class-{name}.yaml", node_class(plan, pools), comment(plan, pools))
    for pool in plan.pools:
        yield Resource(f"nodes/{pool.name}.yaml", _node_pool(plan, pool), _comment(pool))
        for overlay in _overlays(plan, pool):
            yield Resource(f"nodes/{pool.name}.yaml", overlay, _OVERLAY_COMMENT)
    # The root module gives EKS' own pools the same role, for which EKS makes the entry itself.
    if plan.aws != "terraform" and any(pool.domain == AUTO_MODE for pool in plan.pools):
        yield from _access(plan)


_OVERLAY_COMMENT = (
    "What nodes of these types have and EC2 does not say. Read by Karpenter alone, with its feature gate NodeOverlay "
    "(settings.featureGates.nodeOverlay=true)."
)


def _comment(pool: Pool) -> str:
    lines = [f"left out: {each}" for each in pool.left_out]
    if "spot" in pool.capacity and len(pool.types) < _SPOT_TO_SPOT and _policy(pool) == "WhenEmptyOrUnderutilized":
        lines.append(
            f"stoker:ignore STK-KARPENTER-031 nothing else of these families does; consolidation is to empty nodes, "
            f"which takes no {_SPOT_TO_SPOT} types"
        )
    return "\n".join(lines)


def _node_pool(plan: Plan, pool: Pool) -> dict[str, Any]:
    kind = "NodeClass" if pool.domain == AUTO_MODE else "EC2NodeClass"
    labels = {SERVES: pool.serves, **({CONFIG_LABEL: config_name(pool.sharing)} if pool.sharing else {})}
    spec: dict[str, Any] = {
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "nodeClassRef": {"group": pool.domain, "kind": kind, "name": pool.node_class},
                "requirements": [
                    {"key": INSTANCE_TYPE, "operator": "In", "values": [each.name for each in pool.types]},
                    {"key": CAPACITY_TYPE, "operator": "In", "values": list(pool.capacity)},
                    {"key": ZONE, "operator": "In", "values": list(pool.zones)},
                ],
                **({"taints": [dict(each) for each in pool.taints]} if pool.taints else {}),
                **_lifetime(pool),
            },
        },
        "limits": dict(pool.limits),
        "disruption": {
            "consolidationPolicy": _policy(pool),
            "consolidateAfter": "30s" if _policy(pool) == "WhenEmptyOrUnderutilized" else "300s",
            "budgets": list(_budgets(plan, pool)),
        },
        **({"weight": pool.weight} if pool.weight else {}),
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": metadata(plan, pool.name, "nodes"),
        "spec": spec,
    }


def _lifetime(pool: Pool) -> dict[str, str]:
    """Auto Mode ends each node after 21 days, whatever is written (EKS user guide, automode-learn-instances): of these,
    a training job has the last one to end in order. The period does not let a new image take the node of a job that is
    not to be disrupted, since the pool's budget allows no drift."""
    if pool.domain == AUTO_MODE:
        last_day = {"terminationGracePeriod": "24h"} if pool.use == "training" else {}
        return {"expireAfter": "480h" if pool.use == "training" else "336h", **last_day}
    return {"expireAfter": "Never" if pool.use == "training" else "720h"}


def _policy(pool: Pool) -> str:
    keep_full = pool.use == "training" or not pool.said.consolidation_enabled
    return "WhenEmpty" if keep_full else "WhenEmptyOrUnderutilized"


def _budgets(plan: Plan, pool: Pool) -> Iterator[dict[str, Any]]:
    """Of all budgets in force the lowest counts. Empty nodes have none: nobody misses them, at any hour."""
    if pool.use == "training":
        yield {"nodes": "0", "reasons": ["Drifted"]}
        return
    reasons = ["Underutilized", "Drifted"] if _policy(pool) == "WhenEmptyOrUnderutilized" else ["Drifted"]
    protected = plan.spec.karpenter.protected_hours
    share = int(protected.nodes[:-1]) if protected is not None and protected.nodes.endswith("%") else 0
    usual = _USUAL_BUDGET if share < _USUAL_BUDGET else 100
    yield {"nodes": f"{usual}%", "reasons": reasons}
    if protected is not None and share < usual:
        hours = {"schedule": protected.schedule, "duration": protected.duration}
        yield {"nodes": protected.nodes, "reasons": reasons, **hours}


def _overlays(plan: Plan, pool: Pool) -> Iterator[dict[str, Any]]:
    """Karpenter's concepts/nodeoverlays (alpha in 1.14). One for each number that types have."""
    if pool.domain == AUTO_MODE:
        return
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for each in pool.types:
        capacity: dict[str, Any] = {}
        if offered(each, pool.sharing) != each.gpu_count:
            capacity[GPU] = offered(each, pool.sharing)
        if capacity:
            found.setdefault(str(capacity), (capacity, []))[1].append(each.name)
    for number, (capacity, names) in enumerate(found.values(), 1):
        yield {
            "apiVersion": "karpenter.sh/v1alpha1",
            "kind": "NodeOverlay",
            "metadata": metadata(plan, short(pool.name, str(number)), "nodes"),
            "spec": {
                "requirements": [
                    {"key": NODE_POOL, "operator": "In", "values": [pool.name]},
                    {"key": INSTANCE_TYPE, "operator": "In", "values": names},
                ],
                "capacity": capacity,
            },
        }


def _access(plan: Plan) -> Iterator[Item]:
    """Nodes of a NodeClass join by an access entry of their role (EKS user guide, auto-node-access-entry)."""
    yield Terraform(_FILE, Block("data", ("aws_iam_role", "auto_nodes"), {"name": plan.auto_node_role}))
    entry = {"cluster_name": plan.cluster, "principal_arn": Raw("data.aws_iam_role.auto_nodes.arn")}
    yield Terraform(
        _FILE,
        Block("resource", ("aws_eks_access_entry", "auto_nodes"), {**entry, "type": "EC2", "tags": plan.tags}),
        "Without it no node of the node classes joins: EKS makes one for its built-in pools only.",
    )
    policy = f"arn:{plan.partition}:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy"
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_eks_access_policy_association", "auto_nodes"),
            {**entry, "policy_arn": policy, "depends_on": [Raw("aws_eks_access_entry.auto_nodes")]},
            [Block("access_scope", (), {"type": "cluster"})],
        ),
    )
