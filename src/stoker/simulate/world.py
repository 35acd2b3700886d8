"""The state of the simulated cluster, and what every part of the control plane is handed: clock, chance, journal.

Parts change it only through its methods, so that sums and indices stay right. Who decides what is in `autoscaling`,
`placing`, `karpenter` and `groups`; what takes time is in `replicas` and `machines`.
"""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from stoker.policy.cluster import Market, Node, Pod
from stoker.policy.pod_resources import PODS
from stoker.simulate.journal import Journal
from stoker.simulate.kernel import Kernel
from stoker.simulate.options import Options
from stoker.simulate.result import NodeLife, ReplicaLife, Spell
from stoker.simulate.scenario import Scenario


class World:
    """`version` rises with every change that a scheduler could care about."""

    def __init__(
        self, scenario: Scenario, options: Options, kernel: Kernel, began_at: datetime, market: Market
    ) -> None:
        self.scenario = scenario
        self.options = options
        self.kernel = kernel
        self.journal = Journal()
        self.began_at = began_at
        self.market = market
        """As the provisioner knows it: what was refused lately is marked."""
        self.nodes: dict[str, Node] = {}
        self.pods: dict[str, Pod] = {}
        self.node_lives: dict[str, NodeLife] = {}
        self.pod_lives: dict[str, ReplicaLife] = {}
        self.images: defaultdict[str, set[str]] = defaultdict(set)
        """By node: what it has pulled."""
        self.preempting: frozenset[str] = frozenset()
        """Pods that others make room for: nobody launches a node for them."""
        self.spells: dict[str, list[Spell]] = {}
        """By workload: when its autoscaler was at its maximum. The last of them may go on."""
        self.version = 0
        self._made: defaultdict[str, int] = defaultdict(int)
        self._chance: dict[str, random.Random] = {}
        self._pools = {pool.view.name: pool for pool in scenario.pools}

    @property
    def now(self) -> float:
        return self.kernel.now

    @property
    def clock_utc(self) -> datetime:
        return self.began_at + timedelta(seconds=self.now)

    def chance(self, purpose: str) -> random.Random:
        """One stream for each purpose, so that one more pod does not change which spot node is taken away."""
        if purpose not in self._chance:
            self._chance[purpose] = random.Random(f"{self.options.seed}/{purpose}")
        return self._chance[purpose]

    def name(self, prefix: str) -> str:
        self._made[prefix] += 1
        return f"{prefix}-{self._made[prefix]}"

    def waiting(self) -> list[Pod]:
        """Pods without a node, as kube-scheduler takes them: by priority, then as they came."""
        found = [pod for pod in self.pods.values() if pod.node is None and pod.leaving_since is None]
        return sorted(found, key=lambda pod: -pod.shape.priority)  # stable: pods are in the order they were made

    def helpless(self) -> list[Pod]:
        """Of those that wait, the ones that somebody might launch a node for."""
        return [pod for pod in self.waiting() if pod.name not in self.preempting]

    def nodes_of(self, pool: str) -> Iterator[Node]:
        return (node for node in self.nodes.values() if node.pool == pool)

    def registered(self) -> Iterator[Node]:
        """Nodes that the API server has: kube-scheduler knows no others."""
        return (node for name, node in self.nodes.items() if self.node_lives[name].registered_at is not None)

    # -- the journal's longer lines --

    def at_maximum(self, subject: str, scaler: str, limit: int, asked: int, *, goes_on: bool) -> None:
        """An autoscaler looked, and its metrics asked for more than its limit; `goes_on`: as when it looked before."""
        found = self.spells.setdefault(subject, [])
        if goes_on and found:
            found[-1] = replace(found[-1], to_s=self.now, asked=max(found[-1].asked, asked))
        else:
            found.append(Spell(subject, scaler, self.now, self.now, limit, asked))

    # -- changes --

    def add_pod(self, pod: Pod, life: ReplicaLife) -> None:
        self.pods[pod.name] = pod
        self.pod_lives[pod.name] = life
        self.version += 1

    def bind(self, pod: Pod, node: Node) -> None:
        pod.node, pod.bound_at = node.name, self.now
        node.pods[pod.name] = pod
        for key, amount in {**pod.shape.requests, PODS: 1}.items():
            node.used[key] = node.used.get(key, 0) + amount
        node.last_pod_event_at = self.now
        life = self.pod_lives[pod.name]
        life.node, life.bound_at = node.name, self.now
        self.version += 1

    def begin_leaving(self, pod: Pod) -> None:
        pod.leaving_since = self.now
        self.pod_lives[pod.name].leaving_at = self.now
        if pod.node is not None:
            self.nodes[pod.node].last_pod_event_at = self.now
        self.version += 1

    def remove_pod(self, pod: Pod, why: str) -> None:
        del self.pods[pod.name]
        life = self.pod_lives[pod.name]
        life.gone_at, life.why_gone = self.now, why
        if pod.node is not None:
            node = self.nodes[pod.node]
            del node.pods[pod.name]
            for key, amount in {**pod.shape.requests, PODS: 1}.items():
                node.used[key] -= amount
            node.last_pod_event_at = self.now
        self.version += 1

    def add_node(self, node: Node, life: NodeLife) -> None:
        self.nodes[node.name] = node
        self.node_lives[node.name] = life
        self.version += 1

    def remove_node(self, node: Node, why: str) -> None:
        """Its pods must be gone."""
        if node.pods:
            raise ValueError(f"node {node.name} still has {', '.join(node.pods)}")
        del self.nodes[node.name]
        self.images.pop(node.name, None)
        life = self.node_lives[node.name]
        life.gone_at, life.why_gone = self.now, why
        self.version += 1
