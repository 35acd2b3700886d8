"""All manifests of one run as one cluster: who is there, what refers to what. Rules read it; nobody changes it."""

import fnmatch
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

from stoker.catalog import schemas
from stoker.catalog.schema_files import NotASchema, custom_kinds
from stoker.lint import core_validation, structural
from stoker.lint.rule import Problem
from stoker.manifests.objects import Manifest, is_open, look, sections
from stoker.manifests.workloads import Workload, workloads_of

_HANDS_ON = frozenset(
    (
        *("JAXJob", "JobSet", "LeaderWorkerSet", "MPIJob", "PaddleJob", "PyTorchJob", "Rollout", "ScaledJob"),
        *("TFJob", "XGBoostJob"),
    )
)
"""Kinds whose controller makes pods of its templates as they are written, so that the API server refuses those. It is
not so of a runtime of Kubeflow, to which a TrainJob may add volumes, nor of a Workflow's templates, which share them.
"""


class Cluster:
    """What a run knows. Everything is computed once, when a rule first asks."""

    def __init__(self, manifests: Sequence[Manifest], *, kubernetes: str = "1.36", exists: Sequence[str] = ()) -> None:
        self.manifests = tuple(manifests)
        self.kubernetes = kubernetes
        self._exists = tuple(tuple(each.split(maxsplit=1)) for each in exists)
        self._by_kind: dict[str, list[Manifest]] = defaultdict(list)
        for manifest in self.manifests:
            self._by_kind[manifest.kind].append(manifest)

    def of(self, *kinds: str, group: str | None = None) -> Iterator[Manifest]:
        """The manifests of these kinds, of one API group when it is named, kind by kind in the order read."""
        for kind in kinds:
            for manifest in self._by_kind.get(kind, ()):
                if group is None or manifest.group == group:
                    yield manifest

    def find(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """The object of this name. With `namespace`, only there; an object without one is in `default`, or goes along
        with whatever namespace it is applied in: it matches any."""
        for manifest in self._by_kind.get(kind, ()):
            if manifest.name == name and (namespace is None or manifest.namespace in ("", namespace)):
                return manifest
        return None

    def exists(self, kind: str, name: str, namespace: str = "") -> bool:
        """Whether an object is among the manifests, or is said by the config to be in the cluster already."""
        if self.find(kind, name, namespace or None) is not None:
            return True
        named = f"{namespace}/{name}" if namespace else name
        return any(
            kind == each[0] and (fnmatch.fnmatchcase(named, each[1]) or fnmatch.fnmatchcase(name, each[1]))
            for each in self._exists
            if len(each) == 2
        )

    def schema(self, manifest: Manifest) -> schemas.Schema | None:
        """The schema of an object's kind: of a CustomResourceDefinition in sight, or else as shipped or added."""
        defined = self._defined.get((manifest.api_version, manifest.kind))
        return defined or schemas.find(manifest.api_version, manifest.kind, self.kubernetes)

    def is_made_by_graph(self, manifest: Manifest) -> bool:
        """Whether the kind is one that a kro graph in sight makes: the graph says what its fields are."""
        return (manifest.group, manifest.kind) in self._of_graphs

    @cached_property
    def _defined(self) -> dict[tuple[str, str], schemas.Schema]:
        found = {}
        for manifest in self.of("CustomResourceDefinition", group="apiextensions.k8s.io"):
            try:
                kinds = custom_kinds(manifest.data)
            except NotASchema:  # what is wrong with it is the API's own finding
                continue
            for kind in kinds:
                found[kind.api_version, kind.kind] = schemas.Schema(
                    kind.api_version, kind.kind, kind.scope, kind.served, "", manifest.document.file, kind.tree
                )
        return found

    @cached_property
    def _of_graphs(self) -> frozenset[tuple[str, str]]:
        return frozenset(
            (manifest.get("spec", "schema", "group", default="kro.run"), manifest.get("spec", "schema", "kind"))
            for manifest in self.of("ResourceGraphDefinition", "ResourceGroup")
            if isinstance(manifest.get("spec", "schema", "group", default="kro.run"), str)
            and isinstance(manifest.get("spec", "schema", "kind"), str)
        )

    def faults(self, *kinds: str) -> Iterator[Problem]:
        """What the API server would say of each object, of these kinds of faults."""
        for manifest, fault in self._faults:
            if fault.kind in kinds:
                yield Problem(manifest, fault.path, fault.message, fault.hint, fault.key)

    @cached_property
    def _faults(self) -> tuple[tuple[Manifest, structural.Fault], ...]:
        found = []
        for manifest in self.manifests:
            schema = self.schema(manifest)
            if schema is None:
                continue
            open_to = partial(is_open, manifest)
            found += [(manifest, fault) for fault in structural.faults(manifest.data, schema, is_open=open_to)]
            if schema.core:
                kind = (manifest.group, manifest.version, manifest.kind)
                more = core_validation.core_faults(manifest.data, kind, is_open=open_to)
                found += [(manifest, fault) for fault in more]
            elif manifest.kind in _HANDS_ON:
                found += [(manifest, fault) for fault in _pods_of(manifest, open_to)]
        return tuple(found)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        return tuple(workload for manifest in self.manifests for workload in workloads_of(manifest))

    def workloads_like(self, kinds: Iterable[str]) -> Iterator[Workload]:
        wanted = set(kinds)
        return (workload for workload in self.workloads if workload.kind in wanted)

    def scaled(self, kind: str, name: str, namespace: str) -> Workload | None:
        """The workload that a scaler's `scaleTargetRef` names."""
        for workload in self.workloads:
            manifest = workload.manifest
            if manifest.kind == kind and manifest.name == name and manifest.namespace in ("", namespace):
                return workload
        return None


def _pods_of(manifest: Manifest, open_to: Callable[[object], bool]) -> Iterator[structural.Fault]:
    """What the API server would say of the pods when a controller makes them, which is when nobody looks."""
    claims = [*sections(manifest.get("spec", "leaderWorkerTemplate", "volumeClaimTemplates"))]
    for _, policy in sections(manifest.get("spec", "volumeClaimPolicies")):
        claims += sections(policy.get("templates"))
    named = [str(look(claim, "metadata", "name")) for _, claim in claims]
    for workload in workloads_of(manifest):
        spec = manifest.get(*workload.path)
        yield from core_validation.pod_spec_faults(spec, workload.path, claims=named, is_open=open_to)
