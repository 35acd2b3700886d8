"""`platform.yaml` as a whole, and the rules that span its sections."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from stoker.spec.agents import AGENT_STEPS, Agents
from stoker.spec.budgets import Tenant, Tenants
from stoker.spec.composition import Composition
from stoker.spec.costs import Costs
from stoker.spec.deploy import Deploy
from stoker.spec.edge import Edge
from stoker.spec.faults import Fault, Path
from stoker.spec.guide import Global, Keda
from stoker.spec.llm import AUTO, EMBEDDED, EMBEDDED_CONTEXT, TASKS, Limits, Llm, Replicas
from stoker.spec.nodes import Karpenter
from stoker.spec.section import Section
from stoker.spec.services import Gateway, Ledger, Queue, Redis
from stoker.spec.spot import Spot
from stoker.spec.training import Training


class Platform(Section):
    """Everything that is wanted of the platform: on this machine, in a prediction, and in a cluster."""

    global_: Global = Global()
    """The cluster, and what is observed in it."""

    karpenter: Karpenter = Karpenter()
    """Nodes of the cluster."""

    keda: Keda = Keda()
    """What models are scaled on, here and in the cluster: the keys of KEDA's ScaledObject."""

    llm: Llm = Llm()
    """The models and what runs them."""

    gateway: Gateway = Gateway()
    """The front door."""

    redis: Redis = Redis()
    """Where tasks wait."""

    queue: Queue = Queue()
    """How tasks are leased, retried and kept."""

    spot: Spot = Spot()
    """How workers leave an instance that AWS takes back."""

    ledger: Ledger = Ledger()
    """Where usage is written down."""

    costs: Costs = Costs()
    """What is paid for machines, where nobody sends a bill."""

    tenants: Tenants = Field(default={"default": Tenant()}, min_length=1, max_length=100_000)
    """Who is accounted for, by name, and what they may spend. The key that `stoker up` prints belongs to the first."""

    agents: Agents = Agents()
    """Agents: graphs of models and tools whose runs are durable and have a budget."""

    training: Training = Training()
    """Fine-tuning in the cluster."""

    edge: Edge = Edge()
    """How requests come into the cluster."""

    composition: Composition = Composition()
    """AWS resources as Kubernetes objects, and delivery by Git."""

    deploy: Deploy = Deploy()
    """What `stoker deploy` may act on, and the network that it makes."""

    def local_replicas(self, model: str) -> Replicas:
        """How many of `model` run on one machine: what it says, or what `keda` says for all, or exactly one."""
        least, most = self.keda.min_replica_count, self.keda.max_replica_count
        return self.llm.models[model].replicas or _between(least, most, otherwise=Replicas())

    def cluster_replicas(self, model: str) -> Replicas:
        """How many of `model` run in the cluster: what it says, or what `keda` or `llm.inference` say for all."""
        inference = self.llm.inference
        own = self.llm.models[model].replicas
        if own is not None:
            return own
        if inference.autoscaling.enabled:
            usual = Replicas(min=inference.autoscaling.min_replicas, max=inference.autoscaling.max_replicas)
            return _between(self.keda.min_replica_count, self.keda.max_replica_count, otherwise=usual)
        return Replicas(min=inference.replicas, max=inference.replicas)

    def cluster_limits(self, model: str) -> Limits:
        """What a request and a replica of `model` may take in the cluster."""
        said = self.llm.models[model]
        return said.serving.limits or said.limits

    def may_be_at_zero(self, model: str) -> bool:
        """Whether it may have no replica, here or in the cluster, until a request comes."""
        return self.keda.enabled and 0 in (self.local_replicas(model).min, self.cluster_replicas(model).min)

    @property
    def step_seconds(self) -> float:
        """Seconds that one step of an agent may take: as long as an answer of a model, or its slowest tool."""
        return max(
            [self.gateway.timeouts.total_seconds, *(tool.timeout_seconds for tool in self.agents.tools.values())]
        )

    def complete(self) -> None:
        """Someone who writes only their models should not have to take back routes that they never wrote."""
        models, written = self.llm.models, self.gateway.model_fields_set
        update: dict[str, Any] = {}
        if "routes" not in written:
            update["routes"] = {
                task: task for task in TASKS if task in models and (task != "vision" or models[task].task == "vision")
            }
        if "default_model" not in written and self.gateway.default_model not in models:
            update["default_model"] = next(iter(models))
        if update:
            self.settle("gateway", self.gateway.model_copy(update=update))

    def broken_rules(self) -> Iterator[Fault]:
        models = self.llm.models
        known = ", ".join(models)
        for word, model in self.gateway.routes.items():
            path = ("gateway", "routes", word)
            if model not in models:
                yield Fault(path, f'"{model}" is not a model; the models are: {known}')
            elif word == "vision" and models[model].task != "vision":
                yield Fault(
                    path, f'"{model}" has the task {models[model].task}; must lead to a model with `task: vision`'
                )
        if self.gateway.default_model not in models:
            default = self.gateway.default_model
            yield Fault(("gateway", "defaultModel"), f'"{default}" is not a model; the models are: {known}')
        auto = self.gateway.auto
        for key, chosen in (("tools", auto.tools), ("long", auto.long), ("hard", auto.hard)):
            if chosen is not None and chosen not in models:
                yield Fault(("gateway", "auto", key), f'"{chosen}" is not a model; the models are: {known}')
        yield from self._wrong_weights()
        yield from self._wrong_sagemaker()
        yield from self._wrong_pools()
        yield from self._too_long_for_a_cpu()
        yield from self._several_nodes_without_gpus()
        yield from self._never_woken()
        yield from self._wrong_agents()
        argocd = self.composition.argocd
        if argocd.enabled and argocd.capability and not argocd.clusters and self.global_.cluster.account is None:
            yield Fault(
                ("global", "cluster", "account"),
                "null, and composition.argocd.capability names the cluster by its ARN; write the account, or the names "
                "of registered clusters in composition.argocd.clusters",
            )

    def _wrong_agents(self) -> Iterator[Fault]:
        models = self.llm.models
        if AGENT_STEPS in models:
            yield Fault(("llm", "models", AGENT_STEPS), "the steps of agents wait under this name; choose another")
        aliases = {alias for model in models.values() for alias in model.aliases}
        known = {AUTO, *models, *aliases, *self.gateway.weights}
        for name, agent in self.agents.definitions.items():
            path: Path = ("agents", "definitions", name)
            if agent.model not in known:
                yield Fault((*path, "model"), f'"{agent.model}" is not a model; the models are: {", ".join(models)}')
            if agent.route is not None and agent.route not in self.gateway.routes:
                routes = ", ".join(self.gateway.routes) or "none"
                yield Fault((*path, "route"), f'"{agent.route}" is not a route; those of gateway.routes are: {routes}')

    def _wrong_sagemaker(self) -> Iterator[Fault]:
        ack = self.composition.ack
        if ack.enabled and ack.sagemaker and self.global_.cluster.account is None:
            yield Fault(
                ("composition", "ack", "sagemaker"),
                "true, and global.cluster.account is null: SageMaker takes roles by their ARNs, which hold the account",
            )

    def _never_woken(self) -> Iterator[Fault]:
        """Models that may be at zero, with something that keeps them there."""
        for name, model in self.llm.models.items():
            if self.keda.enabled and not self.keda.scalers.redis and self.local_replicas(name).min == 0:
                yield Fault(
                    ("keda", "scalers", "redis"),
                    f"false wakes nobody, and {name} may be at zero replicas; write true, or let it keep one",
                )
                return
            if model.fallback is not None and model.replicas is None and self.keda.min_replica_count == 0:
                yield Fault(
                    ("llm", "models", name, "fallback"),
                    "with keda.minReplicaCount 0 the other model would answer everything, so that this one never "
                    "starts; write replicas.min 1, or leave fallback out",
                )

    def _wrong_pools(self) -> Iterator[Fault]:
        pools = self.karpenter.node_pools
        region = self.global_.cluster.region
        for name, said in pools.items():
            for index, zone in enumerate(said.zones):
                if not zone.startswith(region):
                    yield Fault(
                        ("karpenter", "nodePools", name, "zones", index), f"{zone} is not in the region {region}"
                    )
        usable = ", ".join(name for name, pool in pools.items() if pool.use == "inference" and pool.enabled)
        for name, model in self.llm.models.items():
            pool = model.serving.node_pool
            path: Path = ("llm", "models", name, "serving", "nodePool")
            if pool is not None and (pool not in pools or pools[pool].use != "inference" or not pools[pool].enabled):
                yield Fault(path, f'"{pool}" is no node pool for inference; those of karpenter.nodePools are: {usable}')

    def _too_long_for_a_cpu(self) -> Iterator[Fault]:
        for name, model in self.llm.models.items():
            gpu, said = model.serving.gpu or self.llm.inference.gpu, model.serving.limits
            if model.engine == EMBEDDED and gpu.count == 0 and said and said.context_tokens > EMBEDDED_CONTEXT:
                yield Fault(
                    ("llm", "models", name, "serving", "limits", "contextTokens"),
                    f"{said.context_tokens} is more than the embedded engine can hold, which serves it with gpu.count "
                    f"0; must be at most {EMBEDDED_CONTEXT}",
                )

    def _several_nodes_without_gpus(self) -> Iterator[Fault]:
        for name, model in self.llm.models.items():
            gpu = model.serving.gpu or self.llm.inference.gpu
            if model.engine == EMBEDDED and gpu.count == 0 and model.serving.nodes > 1:
                yield Fault(
                    ("llm", "models", name, "serving", "nodes"),
                    f"{model.serving.nodes} nodes for a replica need GPUs: with gpu.count 0 the embedded engine serves "
                    "it, which runs on one; write nodes 1, or gpu.count at least 1",
                )

    def _wrong_weights(self) -> Iterator[Fault]:
        models = self.llm.models
        aliases = {alias: name for name, model in models.items() for alias in model.aliases}
        for name, shares in self.gateway.weights.items():
            path: Path = ("gateway", "weights", name)
            if name == AUTO:
                yield Fault(path, f"{AUTO} asks Stoker to choose a model; choose another name")
            elif name in models:
                yield Fault(path, f'"{name}" is the name of a model already; choose another name')
            elif name in aliases:
                yield Fault(path, f'"{name}" is an alias of {aliases[name]} already; take it out there')
            for model in shares:
                if model not in models:
                    yield Fault((*path, model), f'"{model}" is not a model; the models are: {", ".join(models)}')


def _between(least: int | None, most: int | None, *, otherwise: Replicas) -> Replicas:
    """What was written, and for the rest what is usual, as far as that lies on the right side."""
    low = least if least is not None else otherwise.min if most is None else min(otherwise.min, most)
    return Replicas(min=low, max=most if most is not None else max(otherwise.max, low))
