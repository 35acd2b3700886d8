"""What components yield: objects of Kubernetes, parts of Terraform, and the variables that these need."""

from dataclasses import dataclass, field
from typing import Any

from stoker.render.hcl import Block

ON_DEMAND = "on-demand/"
"""The folder of what costs money as soon as it is applied, and not because somebody asks the platform: it is in no
kustomization, and is applied by hand."""


@dataclass(frozen=True)
class Resource:
    """One object of Kubernetes, in the file `file` (`nodes/gpu-spot.yaml`). `comment` goes above it: why it is so."""

    file: str
    object: dict[str, Any]
    comment: str = ""


@dataclass(frozen=True)
class Terraform:
    """A block of a file of `terraform/`, such as `terraform/websocket.tf`."""

    file: str
    block: Block
    comment: str = ""


@dataclass(frozen=True)
class Variable:
    """An input of the Terraform files, known by name: components may ask for the same one. Without `default`, whoever
    applies has to give it."""

    name: str
    type: str
    description: str
    default: Any = field(default=None)


Item = Resource | Terraform | Variable
