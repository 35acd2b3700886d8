"""Which kinds the stand-in serves: Kubernetes' own from the beginning, those of others once they are defined.

Names of resources are not in the catalogue: they are derived from the kind, or read from a CustomResourceDefinition.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

from stoker.catalog import schemas
from stoker.testing.kubernetes.fields import Shape, shape_of

Tree = dict[str, Any]

_PLURALS = {"Endpoints": "endpoints"}
_SHORT = {
    "ConfigMap": ("cm",),
    "CronJob": ("cj",),
    "CustomResourceDefinition": ("crd", "crds"),
    "DaemonSet": ("ds",),
    "Deployment": ("deploy",),
    "Event": ("ev",),
    "HorizontalPodAutoscaler": ("hpa",),
    "Ingress": ("ing",),
    "Namespace": ("ns",),
    "NetworkPolicy": ("netpol",),
    "Node": ("no",),
    "PersistentVolume": ("pv",),
    "PersistentVolumeClaim": ("pvc",),
    "Pod": ("po",),
    "PodDisruptionBudget": ("pdb",),
    "PriorityClass": ("pc",),
    "ReplicaSet": ("rs",),
    "Service": ("svc",),
    "ServiceAccount": ("sa",),
    "StatefulSet": ("sts",),
    "StorageClass": ("sc",),
}
_NOT_STORED = ("List", "Review")
_NO_RESOURCE = {"APIGroup", "APIVersions", "Binding", "ComponentStatus", "Eviction", "Scale", "Status", "TokenRequest"}


@dataclass(frozen=True)
class Resource:
    """One kind that is served. `versions`: the preferred one first."""

    group: str
    kind: str
    plural: str
    namespaced: bool
    versions: tuple[str, ...]
    core: bool = False
    status: bool = True
    """Has its status as a subresource: what is written to the object itself leaves it alone."""
    short: tuple[str, ...] = ()
    minor: str = schemas.DEFAULT_KUBERNETES
    given: dict[str, Tree | None] = field(default_factory=dict, hash=False, compare=False)
    """Schemas by version, of a CustomResourceDefinition that has some."""
    remembered: dict[str, Shape] = field(default_factory=dict, hash=False, compare=False, repr=False)

    @cached_property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    def schema(self, version: str) -> schemas.Schema | None:
        """Of the catalogue, which is closer than what a definition for tests says; None where nobody knows one."""
        found = schemas.find(self.api_version(version), self.kind, self.minor, folder=schemas.SHIPPED)
        tree = self.given.get(version)
        if found is not None or tree is None:
            return found
        return schemas.Schema(
            api_version=self.api_version(version),
            kind=self.kind,
            scope="Namespaced" if self.namespaced else "Cluster",
            served=True,
            note="",
            source="CustomResourceDefinition",
            tree=tree,
        )

    def shape(self, version: str) -> Shape:
        if version not in self.remembered:
            self.remembered[version] = shape_of(self.schema(version))
        return self.remembered[version]


def plural(kind: str) -> str:
    """The resource's name as code generators derive it: NetworkPolicy is networkpolicies."""
    if kind in _PLURALS:
        return _PLURALS[kind]
    word = kind.lower()
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


class Registry:
    """What is served now."""

    def __init__(self, installed: Collection[str] | Literal["all"], minor: str) -> None:
        self._minor = minor
        self._found: dict[tuple[str, str], Resource] = {}
        for each in _core(minor):
            self.add(each)
        self.serve(*(sorted(_custom_groups()) if installed == "all" else installed))

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._found.values())

    def add(self, resource: Resource) -> None:
        self._found[resource.group, resource.plural] = resource

    def drop(self, resource: Resource) -> None:
        self._found.pop((resource.group, resource.plural), None)

    def serve(self, *groups: str) -> None:
        """Every kind of these groups that the catalogue knows. Raises ValueError for a group that it does not know."""
        for group in groups:
            found = _custom(group)
            if not found:
                raise ValueError(
                    f'the catalogue has no kinds of the group "{group}"; `stoker schemas` lists what it has'
                )
            for each in found:
                self.add(each)

    def at(self, group: str, version: str, name: str) -> Resource | None:
        found = self._found.get((group, name))
        return found if found is not None and version in found.versions else None

    def of_kind(self, group: str, kind: str) -> Resource | None:
        return next((each for each in self._found.values() if each.group == group and each.kind == kind), None)

    def named(self, kind: str) -> list[Resource]:
        return [each for each in self._found.values() if each.kind == kind]

    def groups(self) -> dict[str, list[str]]:
        """Versions by group, the preferred first; the core group is the empty text and comes first."""
        found: dict[str, list[str]] = {}
        for each in self._found.values():
            here = found.setdefault(each.group, [])
            here.extend(version for version in each.versions if version not in here)
        return {group: sorted(found[group], key=lambda version: schemas.maturity(version)) for group in sorted(found)}


def defined_by(crd: Tree) -> Resource:
    """What a CustomResourceDefinition defines."""
    spec = crd["spec"]
    versions = [each for each in spec["versions"] if each.get("served", True)]
    return Resource(
        group=spec["group"],
        kind=spec["names"]["kind"],
        plural=spec["names"]["plural"],
        namespaced=spec.get("scope", "Namespaced") == "Namespaced",
        versions=tuple(sorted((each["name"] for each in versions), key=schemas.maturity)),
        status=any("status" in (each.get("subresources") or {}) for each in versions),
        short=tuple(spec["names"].get("shortNames") or ()),
        given={each["name"]: (each.get("schema") or {}).get("openAPIV3Schema") for each in versions},
    )


def definition_of(group: str, kind: str) -> Tree:
    """A CustomResourceDefinition that defines a kind of the catalogue, as its chart would bring it: with versions and
    names, and schemas that allow all, since the catalogue's are looked at first."""
    resource = next(each for each in _custom(group) if each.kind == kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.full_name},
        "spec": {
            "group": group,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": resource.plural, "singular": kind.lower()},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == resource.versions[0],
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
                for version in resource.versions
            ],
        },
    }


def kinds_of(group: str) -> list[str]:
    """The custom kinds of a group that the catalogue knows."""
    return [each.kind for each in _custom(group)]


@cache
def _core(minor: str) -> tuple[Resource, ...]:
    return tuple(_each_core(minor))


def _each_core(minor: str) -> Iterator[Resource]:
    known = schemas.minors(folder=schemas.SHIPPED)
    nearest = minor if minor in known else min(known, key=lambda each: abs(_number(each) - _number(minor)))
    by_kind: dict[tuple[str, str], list[str]] = {}
    for api_version, kind in schemas.kinds(folder=schemas.SHIPPED):
        group, _, version = api_version.rpartition("/")
        if kind.endswith(_NOT_STORED) or kind in _NO_RESOURCE or not version.removeprefix("v").isdecimal():
            continue
        found = schemas.find(api_version, kind, nearest, folder=schemas.SHIPPED)
        if found is not None and found.core and found.kubernetes == nearest:
            by_kind.setdefault((group, kind), []).append(version)
    for (group, kind), versions in by_kind.items():
        versions.sort(key=schemas.maturity)
        schema = schemas.find(f"{group}/{versions[0]}".lstrip("/"), kind, nearest, folder=schemas.SHIPPED)
        assert schema is not None  # noqa: S101  # it was found above
        status = "status" in (schema.tree.get("properties") or {})
        yield Resource(
            group=group,
            kind=kind,
            plural=plural(kind),
            namespaced=schema.scope == "Namespaced",
            versions=tuple(versions),
            core=True,
            status=status,
            short=_SHORT.get(kind, ()),
            minor=nearest,
        )


@cache
def _custom(group: str) -> tuple[Resource, ...]:
    return tuple(_each_custom(group))


def _each_custom(group: str) -> Iterator[Resource]:
    seen = set()
    for api_version, kind in schemas.kinds(folder=schemas.SHIPPED):
        if api_version.rpartition("/")[0] != group or kind in seen or group not in _custom_groups():
            continue
        seen.add(kind)
        versions = schemas.versions_of(group, kind, folder=schemas.SHIPPED)
        if versions:
            schema = schemas.find(f"{group}/{versions[0]}", kind, folder=schemas.SHIPPED)
            assert schema is not None  # noqa: S101  # it is shipped
            yield Resource(group, kind, plural(kind), schema.scope == "Namespaced", tuple(versions))


@cache
def _custom_groups() -> frozenset[str]:
    labels = schemas.index(schemas.SHIPPED)["custom"]
    return frozenset(each.partition(" ")[0].rpartition("/")[0] for each in labels)


def _number(minor: str) -> int:
    return int(minor.rpartition(".")[2])
