"""What refers to what by name, and how sure it is that a name resolves to nothing.

The linter sees only what it is given. Where the set in sight looks like a whole, a name that is not in it is a
warning; else it is worth a word.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import ARGO, workflow_path
from stoker.lint.rule import Problem, Severity
from stoker.manifests.objects import Manifest, is_open, look, sections
from stoker.spec.faults import Path

_OF_CLUSTER = ("ClusterTrainingRuntime", "ClusterWorkflowTemplate")
"""Kinds of the cluster with pods in them: in whose namespace is not known."""
SECRETS = ("Secret", "ExternalSecret", "SealedSecret")
"""Where one of these is in sight, secrets are kept with the rest."""

_NOWHERE = "of the cluster"
_OF_THE_CLUSTER = frozenset(
    {
        *("Namespace", "Node", "PersistentVolume", "CustomResourceDefinition", "StorageClass", "PriorityClass"),
        *("RuntimeClass", "IngressClass", "ClusterRole", "ClusterRoleBinding", "DeviceClass", "CSIDriver"),
        *("NodePool", "EC2NodeClass", "NodeClass", "NodeClaim", "ResourceGraphDefinition", "ResourceGroup"),
        *("ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass", "ClusterTrainingRuntime", "ClusterIssuer"),
        *("ClusterSecretStore", "ClusterExternalSecret", "ClusterWorkflowTemplate", "ClusterTriggerAuthentication"),
        *("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "GatewayClass", "ClusterPolicy"),
    }
)
"""Kinds that have no namespace: that they are in sight says nothing of a namespace."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A name in a manifest that stands for another object."""

    manifest: Manifest
    path: Path
    name: str
    by: str
    namespace: str = ""


def named(manifest: Manifest, path: Path) -> Iterator[Reference]:
    """The reference at a path of an object, where a name is written."""
    name = manifest.get(*path)
    if isinstance(name, str) and name:
        yield Reference(manifest, path, name, str(manifest))


@dataclass(frozen=True, eq=False)
class PodSpec:
    """A pod's spec, or a part of one: a Workflow says some of it for all of its templates."""

    manifest: Manifest
    path: Path
    by: str

    def get(self, *path: str | int) -> Any:
        return self.manifest.get(*self.path, *path)

    def refers(self, *path: str | int) -> Iterator[Reference]:
        name = self.get(*path)
        if isinstance(name, str) and name:
            yield Reference(self.manifest, (*self.path, *path), name, self.by, self.manifest.namespace)

    def containers(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Each with its path below the pod's spec."""
        for key in ("containers", "initContainers", "sidecars"):
            for i, each in sections(self.get(key)):
                yield (key, i), each
        for key in ("container", "script"):
            single = self.get(key)
            if isinstance(single, dict):
                yield (key,), single


def pod_specs(cluster: Cluster) -> Iterator[PodSpec]:
    for workload in cluster.workloads:
        if workload.kind not in _OF_CLUSTER:
            yield PodSpec(workload.manifest, workload.path, str(workload))
    for manifest in cluster.of(*ARGO):
        if manifest.kind not in _OF_CLUSTER:
            yield PodSpec(manifest, workflow_path(manifest), str(manifest))


def claims(spec: PodSpec) -> Iterator[Reference]:
    for i, _ in sections(spec.get("volumes")):
        yield from spec.refers("volumes", i, "persistentVolumeClaim", "claimName")


def named_in_pods(spec: PodSpec, kind: str) -> Iterator[Reference]:
    """The ConfigMaps or Secrets that a pod cannot start without."""
    word, volume, name = (
        ("configMap", "configMap", "name") if kind == "ConfigMap" else ("secret", "secret", "secretName")
    )
    for path, container in spec.containers():
        for i, each in sections(container.get("envFrom")):
            yield from _required(spec, each, (*path, "envFrom", i), f"{word}Ref", "name")
        for i, each in sections(container.get("env")):
            yield from _required(spec, each.get("valueFrom"), (*path, "env", i, "valueFrom"), f"{word}KeyRef", "name")
    for i, each in sections(spec.get("volumes")):
        yield from _required(spec, each, ("volumes", i), volume, name)
        for j, source in sections(look(each, "projected", "sources")):
            yield from _required(spec, source, ("volumes", i, "projected", "sources", j), word, "name")


def _required(spec: PodSpec, tree: Any, path: Path, key: str, name: str) -> Iterator[Reference]:
    if look(tree, key, "optional") is not True:
        yield from spec.refers(*path, key, name)


def missing(
    cluster: Cluster,
    kind: str,
    references: Iterable[Reference],
    consequence: str,
    hint: str,
    *,
    known: Iterable[str] = (),
    made: frozenset[tuple[str, str]] = frozenset(),
    like: tuple[str, ...] = (),
    most: Severity = Severity.WARNING,
) -> Iterator[Problem]:
    """The references that resolve to nothing. `made` are names that something else in sight will make, `like` the kinds
    whose presence says that such objects are kept here; none is the kind itself, or that much else is in sight."""
    always = frozenset(known)
    for each in references:
        if each.name in always or is_open(each.manifest, each.name):
            continue
        if cluster.exists(kind, each.name, each.namespace):
            continue
        if any(name == each.name and meets(space, each.namespace) for space, name in made):
            continue
        sure = not each.manifest.templated and looks_whole(cluster, kind, each.namespace, like)
        place = f" in {each.namespace}" if each.namespace else ""
        yield Problem(
            each.manifest,
            each.path,
            f"{each.by}: no {kind} {each.name}{place} is in sight; without it {consequence}",
            hint=hint,
            severity=most if sure else Severity.INFO,
        )


def meets(a: str, b: str) -> bool:
    """Whether two namespaces can be the same; an object that names none goes along with either."""
    return not a or not b or a == b


def looks_whole(cluster: Cluster, kind: str, namespace: str, like: tuple[str, ...] = ()) -> bool:
    """Whether what is in sight of a namespace seems to be all of it: some object of the kind, or three other kinds.
    A Deployment and its Service are often a file of their own."""
    seen = _seen(cluster)
    there = seen[namespace] | seen[""] | seen[_NOWHERE]
    if like:
        return any(each in there for each in like)
    return kind in there or len(seen[namespace] - {kind, "Namespace", "StorageClass"}) >= 3


_SEEN: WeakKeyDictionary[Cluster, defaultdict[str, set[str]]] = WeakKeyDictionary()


def _seen(cluster: Cluster) -> defaultdict[str, set[str]]:
    if cluster not in _SEEN:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for manifest in cluster.manifests:
            if manifest.kind not in _OF_THE_CLUSTER:
                found[manifest.namespace].add(manifest.kind)
            elif not manifest.namespace:
                found[_NOWHERE].add(manifest.kind)
        _SEEN[cluster] = found
    return _SEEN[cluster]


_BY_TARGET: dict[str, tuple[tuple[str | int, ...], ...]] = {
    "ExternalSecret": (("spec", "target", "name"), ("metadata", "name")),
    "ClusterExternalSecret": (("spec", "externalSecretSpec", "target", "name"), ("spec", "externalSecretName")),
    "SealedSecret": (("spec", "template", "metadata", "name"), ("metadata", "name")),
    "Certificate": (("spec", "secretName"),),
    "VaultStaticSecret": (("spec", "destination", "name"),),
    "VaultDynamicSecret": (("spec", "destination", "name"),),
    "VaultPKISecret": (("spec", "destination", "name"),),
    "InfisicalSecret": (("spec", "managedSecretReference", "secretName"),),
    "OnePasswordItem": (("metadata", "name"),),
    "FieldExport": (("spec", "to", "name"),),
}
"""Kinds that make a Secret, and where its name stands: the first of these that is written."""


def made_secrets(cluster: Cluster) -> frozenset[tuple[str, str]]:
    """Namespace and name of the Secrets that other objects in sight will make."""
    found = set()
    for kind, paths in _BY_TARGET.items():
        for manifest in cluster.of(kind):
            name = next((each for path in paths if isinstance(each := manifest.get(*path), str) and each), "")
            found.add(("" if kind.startswith("Cluster") else manifest.namespace, name))
    for manifest in cluster.of("SecretProviderClass"):
        for _, each in sections(manifest.get("spec", "secretObjects")):
            if isinstance(each.get("secretName"), str):
                found.add((manifest.namespace, each["secretName"]))
    return frozenset(found) | _generated(cluster, "secretGenerator")


def made_config_maps(cluster: Cluster) -> frozenset[tuple[str, str]]:
    bundles = {("", manifest.name) for manifest in cluster.of("Bundle")}
    exported = {(each.namespace, str(each.get("spec", "to", "name"))) for each in cluster.of("FieldExport")}
    return frozenset(bundles | exported) | _generated(cluster, "configMapGenerator")


def _generated(cluster: Cluster, key: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        ("", each["name"])
        for manifest in cluster.of("Kustomization")
        for _, each in sections(manifest.get(key))
        if isinstance(each.get("name"), str)
    )
