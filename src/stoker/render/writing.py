"""Items into files: YAML of Kubernetes, Terraform, and the kustomization that lists what is applied of the former."""

import textwrap
from collections.abc import Iterable
from typing import Any

from stoker.manifests.writing import to_yaml
from stoker.render.hcl import Block, Raw, write
from stoker.render.items import ON_DEMAND, Item, Resource, Terraform, Variable

_HEAD = "# Made by `stoker render`; change platform.yaml and render again.\n"
_WIDTH = 110
_PROVIDERS = Block("required_providers", (), {"aws": {"source": "hashicorp/aws", "version": ">= 5.95, < 7.0"}})
_TERRAFORM = "terraform/"


def files(items: Iterable[Item]) -> dict[str, str]:
    """Texts by file name, in the order of names. Raises ValueError when two components ask for different variables of
    one name."""
    manifests: dict[str, list[str]] = {}
    blocks: dict[str, list[str]] = {}
    variables: dict[str, Variable] = {}
    for item in items:
        match item:
            case Resource():
                manifests.setdefault(item.file, []).append(_comment(item.comment) + to_yaml(item.object))
            case Terraform():
                blocks.setdefault(item.file, []).append(_comment(item.comment) + write(item.block))
            case Variable():
                if variables.setdefault(item.name, item) != item:
                    raise ValueError(f"two different variables are called {item.name}")
    found = {name: _HEAD + "---\n".join(texts) for name, texts in manifests.items()}
    found |= {name: _HEAD + "\n" + "\n".join(texts) for name, texts in blocks.items()}
    if blocks:
        versions = Block("terraform", (), {"required_version": ">= 1.9"}, [_PROVIDERS])
        found[f"{_TERRAFORM}versions.tf"] = _HEAD + "\n" + write(versions)
        if variables:
            written = "\n".join(write(_variable(variables[name])) for name in sorted(variables))
            found[f"{_TERRAFORM}variables.tf"] = _HEAD + "\n" + written
    if listed := sorted(name for name in manifests if not name.startswith(ON_DEMAND)):
        found["kustomization.yaml"] = _HEAD + to_yaml(_kustomization(listed))
    return dict(sorted(found.items()))


def root_files(items: Iterable[Terraform | Variable], backend: Block) -> dict[str, str]:
    """The files of a root module in one flat folder, whichever folder their items name. Write-only arguments want
    Terraform 1.11."""
    versions = Block("terraform", (), {"required_version": ">= 1.11"}, [_PROVIDERS, backend])
    found = files([Terraform("versions.tf", versions), *items])
    del found[f"{_TERRAFORM}versions.tf"]
    return dict(sorted((name.removeprefix(_TERRAFORM), text) for name, text in found.items()))


def _kustomization(names: list[str]) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}


def _variable(variable: Variable) -> Block:
    attributes: dict[str, Any] = {"type": Raw(variable.type), "description": variable.description}
    if variable.default is not None:
        attributes["default"] = variable.default
    return Block("variable", (variable.name,), attributes)


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, _WIDTH) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
