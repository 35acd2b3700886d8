"""The folders that schemas lie in: written by `scripts/build_schemas.py` and `stoker schemas add`, read by `schemas`.

    index.json.gz               what there is, and in which file
    custom/<group>/...json.gz   one version of one custom kind, complete in itself
    core/<package>.json.gz      the definitions of one package of Kubernetes' API, for all minors: what two minors share
                                stands there once; `$ref` holds the name of another definition

What goes in is what Kubernetes publishes: a CustomResourceDefinition, or the OpenAPI document of a release. What is for
people (descriptions, examples) stays outside.
"""

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Tree = dict[str, Any]

_FOR_PEOPLE = frozenset(
    {
        "description",
        "title",
        "example",
        "externalDocs",
        "x-kubernetes-patch-strategy",
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-unions",
    }
)
_NAMED = frozenset({"properties", "patternProperties", "definitions", "$defs", "dependencies"})
_DATA = frozenset({"default", "enum", "x-kubernetes-validations", "x-kubernetes-group-version-kind", "required"})
_GROUP = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]*")
_PREFIXES = ("#/definitions/", "#/$defs/", "#/components/schemas/")
INDEX = "index.json.gz"

# Kinds of the core API that stand outside of namespaces: the definitions do not say it, and only the paths of a full
# OpenAPI document do.
CLUSTER_KINDS = frozenset(
    {
        "APIService",
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterTrustBundle",
        "ComponentStatus",
        "CSIDriver",
        "CSINode",
        "CustomResourceDefinition",
        "DeviceClass",
        "DeviceTaintRule",
        "FlowSchema",
        "IPAddress",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "ResourceSlice",
        "RuntimeClass",
        "SelfSubjectAccessReview",
        "SelfSubjectReview",
        "SelfSubjectRulesReview",
        "ServiceCIDR",
        "StorageClass",
        "StorageVersion",
        "StorageVersionMigration",
        "SubjectAccessReview",
        "TokenReview",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
        "VolumeAttributesClass",
    }
)


class NotASchema(ValueError):
    """What was given is neither a CustomResourceDefinition nor an OpenAPI document; the text says why."""


@dataclass(frozen=True)
class CustomKind:
    """One version of a custom kind, as its CustomResourceDefinition has it."""

    group: str
    version: str
    kind: str
    scope: str
    served: bool
    tree: Tree

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


def trimmed(tree: Any) -> Any:
    """A schema without what is for people. `["string", "null"]`, which one source writes, is `string` again."""
    if isinstance(tree, list):
        return [trimmed(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    small: Tree = {}
    for key, value in tree.items():
        if key in _FOR_PEOPLE:
            continue
        if key == "$ref" and isinstance(value, str):
            small[key] = _without_prefix(value)
        elif key in _NAMED and isinstance(value, dict):
            small[key] = {name: trimmed(each) for name, each in value.items()}
        elif key == "type" and isinstance(value, list):
            types = [each for each in value if each != "null"]
            small[key] = types[0] if len(types) == 1 else types
        elif key in _DATA:
            small[key] = value
        else:
            small[key] = trimmed(value)
    return small


def _without_prefix(ref: str) -> str:
    for prefix in _PREFIXES:
        if ref.startswith(prefix):
            return ref.removeprefix(prefix)
    return ref


def custom_kinds(definition: Any, *, where: str = "the document") -> list[CustomKind]:
    """The versions of a CustomResourceDefinition."""
    if not isinstance(definition, dict) or definition.get("kind") != "CustomResourceDefinition":
        raise NotASchema(f"{where} is no CustomResourceDefinition")
    if definition.get("apiVersion") != "apiextensions.k8s.io/v1":
        said = definition.get("apiVersion")
        raise NotASchema(f"{where}: apiVersion must be apiextensions.k8s.io/v1, not {said!r}")
    spec = definition.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict):
        raise NotASchema(f"{where}: spec.names is missing")
    group, kind, scope = spec.get("group"), names.get("kind"), spec.get("scope")
    if not isinstance(group, str) or not _GROUP.fullmatch(group):
        raise NotASchema(f"{where}: spec.group must be a DNS name, not {group!r}")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise NotASchema(f"{where}: spec.names.kind must be a CamelCase word, not {kind!r}")
    if scope not in ("Namespaced", "Cluster"):
        raise NotASchema(f"{where}: spec.scope must be Namespaced or Cluster, not {scope!r}")
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        raise NotASchema(f"{where}: spec.versions has no version")
    found = []
    for each in versions:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or not _VERSION.fullmatch(name):
            raise NotASchema(f"{where}: a version must have a name such as v1 or v1alpha1, not {name!r}")
        schema = each.get("schema")
        tree = schema.get("openAPIV3Schema") if isinstance(schema, dict) else None
        if not isinstance(tree, dict):
            raise NotASchema(f"{where}: version {name} has no schema.openAPIV3Schema")
        found.append(CustomKind(group, name, kind, scope, each.get("served") is True, trimmed(tree)))
    return found


def definitions_of(document: Any, *, where: str = "the document") -> Tree:
    """Name -> definition, of an OpenAPI v2 or v3 document of Kubernetes, or of definitions taken out of one."""
    if isinstance(document, dict):
        components = document.get("components")
        for found in (
            document.get("definitions"),
            document.get("$defs"),
            components.get("schemas") if isinstance(components, dict) else None,
        ):
            if isinstance(found, dict) and any(_kinds_of(each) for each in found.values()):
                return {name: _with_odd_types(name, trimmed(each)) for name, each in found.items()}
    raise NotASchema(f"{where} has no definitions of Kubernetes kinds (`x-kubernetes-group-version-kind`)")


def minor_of(document: Any) -> str | None:
    """`1.36` of an OpenAPI document that says `v1.36.2`; None where it does not say."""
    info = document.get("info") if isinstance(document, dict) else None
    version = info.get("version") if isinstance(info, dict) else None
    match = re.match(r"v?(\d+\.\d+)", version) if isinstance(version, str) else None
    return match[1] if match else None


def _with_odd_types(name: str, tree: Tree) -> Tree:
    """Two types that are text or a number, said in the words of custom schemas."""
    if name.endswith(".pkg.api.resource.Quantity"):
        return {"x-kubernetes-int-or-string": True, "format": "quantity"}
    if name.endswith(".util.intstr.IntOrString"):
        return {"x-kubernetes-int-or-string": True}
    return tree


def _kinds_of(definition: Any) -> list[Mapping[str, str]]:
    """Kinds that a definition is; none for those that belong to every group (DeleteOptions)."""
    found = definition.get("x-kubernetes-group-version-kind") if isinstance(definition, dict) else None
    return found if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) else []


def label(api_version: str, kind: str) -> str:
    return f"{api_version} {kind}"


def pack(path: Path, data: Any) -> None:
    """Written so that the same data are the same bytes, on any day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
    new = path.with_name(path.name + ".new")
    new.write_bytes(gzip.compress(text, 9, mtime=0))
    new.replace(path)


def unpack(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def empty_index() -> Tree:
    return {"custom": {}, "core": {}, "minors": {}}


def add_custom(folder: Path, index: Tree, kind: CustomKind, *, source: str, variant: str = "", note: str = "") -> None:
    """Write one version of a custom kind. The first is what `find` gives; `variant` names what comes beside it."""
    name = f"custom/{kind.group}/{kind.kind.lower()}_{kind.version}{'-' + variant if variant else ''}.json.gz"
    pack(folder / name, kind.tree)
    entry = {"file": name, "scope": kind.scope, "served": kind.served and not note, "note": note, "source": source}
    entries = index["custom"].setdefault(label(kind.api_version, kind.kind), [])
    entries[:] = [*(each for each in entries if each["file"] != name), entry]


def add_core(folder: Path, index: Tree, minors: Mapping[str, Tree], sources: Mapping[str, str]) -> None:
    """Write the definitions of several minors, and what kinds they are. Minors that are there already stay."""
    _write_core(folder, index, {**{minor: read_core(folder, index, minor) for minor in index["minors"]}, **minors})
    index["minors"] = {**index["minors"], **{minor: sources[minor] for minor in minors}}


def remove_custom(folder: Path, index: Tree, name: str) -> bool:
    """Take a kind away; False where it is not there. `name` is that of `label`."""
    entries = index["custom"].pop(name, None)
    for entry in entries or ():
        (folder / entry["file"]).unlink(missing_ok=True)
    return entries is not None


def remove_core(folder: Path, index: Tree, minor: str) -> bool:
    """Take the core kinds of a minor away; False where they are not there."""
    if minor not in index["minors"]:
        return False
    left = {each: read_core(folder, index, each) for each in index["minors"] if each != minor}
    _write_core(folder, index, left)
    del index["minors"][minor]
    return True


def _write_core(folder: Path, index: Tree, minors: Mapping[str, Tree]) -> None:
    packages: dict[str, Tree] = {}
    core: Tree = {}
    for minor in sorted(minors):
        for name, tree in sorted(minors[minor].items()):
            package = packages.setdefault(package_of(name), {"trees": []})
            if tree not in package["trees"]:
                package["trees"].append(tree)
            package.setdefault(minor, {})[name] = package["trees"].index(tree)
            for each in _kinds_of(tree):
                group, version, kind = each.get("group", ""), each.get("version", ""), each.get("kind", "")
                entry = core.setdefault(
                    label(f"{group}/{version}" if group else version, kind), {"minors": [], "name": name}
                )
                entry["scope"] = "Cluster" if kind in CLUSTER_KINDS else "Namespaced"
                entry["minors"].append(minor)
    for path in (folder / "core").glob("*.json.gz"):
        path.unlink()
    for package_name, package in packages.items():
        pack(folder / "core" / f"{package_name}.json.gz", package)
    index["core"] = core


def read_core(folder: Path, index: Tree, minor: str) -> Tree:
    """All definitions of one minor."""
    found: Tree = {}
    for package_name in sorted({package_of(entry["name"]) for entry in index["core"].values()}):
        package = unpack(folder / "core" / f"{package_name}.json.gz")
        found |= {name: package["trees"][i] for name, i in package.get(minor, {}).items()}
    return found


def package_of(name: str) -> str:
    return name.rpartition(".")[0]
