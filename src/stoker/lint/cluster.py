"""All manifests of one run as one cluster: who is there, what refers to what. Rules read it; nobody changes it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from stoker.manifests.objects import Manifest
from stoker.manifests.workloads import Workload, workloads_of


class Cluster:
    """What a run knows. Everything is computed once, when a rule first asks."""

    def __init__(self, manifests: Sequence[Manifest], *, kubernetes: str = "1.36") -> None:
        self.manifests = tuple(manifests)
        self.kubernetes = kubernetes
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
