"""A cluster to try things on: pods are put onto nodes and nodes taken away, and the real ones stay as they are.

`cluster_autoscaler` plays through here what it is about to do. Every node that is handed in counts as ready.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from stoker.policy.cluster import Node, Pod, PodShape
from stoker.policy.fitting import Fit, asked


class Rehearsal:
    """`nodes` by name. A node is copied before it is changed, so that a fork costs little."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
        self._own: set[str] = set()
        self._fits: dict[int, Fit] = {}
        self._full: dict[int, set[str]] = {}  # by shape: nodes that have refused it for good, as they only fill up
        self._puts = 0

    @property
    def nodes(self) -> Sequence[Node]:
        return tuple(self._nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def fork(self) -> "Rehearsal":
        """What is changed in one of the two does not show in the other."""
        self._own.clear()
        made = Rehearsal()
        made._nodes = dict(self._nodes)
        made._fits = dict(self._fits)
        made._full = {key: set(names) for key, names in self._full.items()}
        return made

    def add(self, node: Node) -> None:
        self._nodes[node.name] = node
        for names in self._full.values():
            names.discard(node.name)
        self._forget_fits()

    def remove(self, name: str) -> None:
        del self._nodes[name]
        self._forget_fits()

    def against(self, shape: PodShape, node: Node) -> tuple[str, ...]:
        """Why a pod of this shape does not fit; nothing if it does."""
        return self._fit(shape).against(node)

    def _fit(self, shape: PodShape) -> Fit:
        fit = self._fits.get(id(shape))
        if fit is None:
            fit = self._fits[id(shape)] = Fit(shape, self.nodes)
        return fit

    def put(self, pod: Pod, name: str) -> None:
        node = self._nodes[name]
        if name not in self._own:
            node = self._nodes[name] = replace(node, pods=dict(node.pods), used=dict(node.used))
            self._own.add(name)
        node.pods[pod.name] = pod
        for key, amount in asked(pod.shape):
            node.used[key] = node.used.get(key, 0) + amount
        self._puts += 1
        if pod.shape.anti_affinity:
            self._fits = {}
        else:
            self._forget_fits()

    def place(self, pod: Pod, may: Callable[[Node], bool] | None = None) -> str | None:
        """Puts the pod onto the first node, by name, that takes it; returns its name, None where none does."""
        fit = self._fit(pod.shape)
        full = self._full.setdefault(id(pod.shape), set())
        for name, node in self._nodes.items():
            if name in full or (may is not None and not may(node)):
                continue
            if not fit.against(node):
                self.put(pod, name)
                return name
            if not fit.counts_pods:
                full.add(name)
        return None

    def place_all(self, pods: Sequence[Pod], may: Callable[[Node], bool] | None = None) -> list[Pod]:
        """Places what fits, in the order given; returns the others. A shape that did not fit is not tried again, unless
        it is one to which the pods placed since may have made a difference."""
        left: list[Pod] = []
        refused: dict[int, int] = {}
        for pod in pods:
            key = id(pod.shape)
            if refused.get(key) == (self._puts if _looks_at_pods(pod.shape) else 0):
                left.append(pod)
            elif self.place(pod, may) is None:
                refused[key] = self._puts if _looks_at_pods(pod.shape) else 0
                left.append(pod)
        return left

    def _forget_fits(self) -> None:
        """Those that count pods or domains: the counts are others now."""
        self._fits = {key: fit for key, fit in self._fits.items() if not fit.counts_pods}


def _looks_at_pods(shape: PodShape) -> bool:
    return bool(shape.spread or shape.affinity)
