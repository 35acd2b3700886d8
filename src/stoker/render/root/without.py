"""`var.without`: parts of the root module that are left out where AWS, or what stands in for it, does not have them.

A resource of such a part gets a `count`, and whatever refers to it is written for none or one of it. So no component
knows of this, and each resource is written once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Terraform


@dataclass(frozen=True)
class Part:
    said: str
    kinds: tuple[str, ...]
    """Types of resources, or TYPE.NAME of one."""


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "access-entries": Part("who may join the cluster as a node", ("aws_eks_access_entry",)),
        "addons": Part("add-ons of EKS", ("aws_eks_addon",)),
        "budgets": Part("the monthly budget", ("aws_budgets_budget",)),
        "cluster-security-group": Part(
            "rules between EKS' own security group and that of nodes",
            (
                "aws_vpc_security_group_ingress_rule.nodes_from_cluster",
                "aws_vpc_security_group_ingress_rule.cluster_from_nodes",
            ),
        ),
        "elasticache": Part(
            "Redis on ElastiCache, and the secret with its address",
            (
                "aws_elasticache_subnet_group",
                "aws_elasticache_parameter_group",
                "aws_elasticache_replication_group",
                "aws_secretsmanager_secret_version.redis",
            ),
        ),
        "fsx": Part("the file system of training", ("aws_fsx_lustre_file_system",)),
        "kro": Part("kro as a capability of EKS", ("aws_cloudformation_stack.kro",)),
        "pod-identities": Part("roles of ServiceAccounts", ("aws_eks_pod_identity_association",)),
    }
)


def part_of(kind: str, name: str) -> str | None:
    return next((part for part, said in PARTS.items() if kind in said.kinds or f"{kind}.{name}" in said.kinds), None)


def left_out(items: Iterable[Item]) -> Iterator[Item]:
    """The items, with a `count` where their part may be left out, and references to them that know of it."""
    found = list(items)
    parts = {}
    for item in found:
        if isinstance(item, Terraform) and item.block.type == "resource":
            part = part_of(*item.block.labels)
            if part is not None:
                parts[".".join(item.block.labels)] = part
    for item in found:
        if isinstance(item, Terraform):
            own = parts.get(".".join(item.block.labels)) if item.block.type == "resource" else None
            block = _block(item.block, _References(parts, own))
            if own is not None:
                count = Raw(f'contains(var.without, "{own}") ? 0 : 1')
                block = replace(block, attributes={"count": count, **block.attributes})
            yield replace(item, block=block)
        else:
            yield item


class _References:
    def __init__(self, parts: Mapping[str, str], own: str | None) -> None:
        self._parts, self._own = parts, own
        names = "|".join(map(re.escape, sorted(parts, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<![\w.])({names})\.([a-z_]+)(?!\w)") if names else None

    def written(self, text: str) -> str:
        return self._pattern.sub(self._one, text) if self._pattern is not None else text

    def _one(self, match: re.Match[str]) -> str:
        """Of the same part there is one when there is the other; for everybody else it may be null."""
        address, attribute = match[1], match[2]
        if self._parts[address] == self._own:
            return f"{address}[0].{attribute}"
        return f"one({address}[*].{attribute})"


def _block(block: Block, references: _References) -> Block:
    return replace(
        block,
        attributes={key: _value(value, references) for key, value in block.attributes.items()},
        blocks=[_block(each, references) for each in block.blocks],
    )


def _value(value: Any, references: _References) -> Any:
    match value:
        case Raw(text):
            return Raw(references.written(text))
        case Json(inner):
            return Json(_value(inner, references))
        case str():
            return references.written(value) if "${" in value else value
        case Mapping():
            return {key: _value(each, references) for key, each in value.items()}
        case list() | tuple():
            return [_value(each, references) for each in value]
    return value
