"""What all components go by: names, labels, which model runs where, on which instance types.

Two components that must agree (a pod and its pool, a scaler and its queue) ask the same property here.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from stoker import __version__
from stoker.base.errors import InvalidInput
from stoker.catalog.labels import AUTO_MODE, AWS, CAPACITY_TYPE, Domain
from stoker.render import types
from stoker.render.facts import (
    CPU,
    GPU_TOLERATION,
    REDIS,
    REDIS_PORT,
    SERVES,
    TRAINING,
    TRAINING_TOLERATION,
    UNHEARD_S,
    WEIGHTS,
    CacheKind,
    Pool,
    Served,
    TrainingPods,
    shared_by,
    short,
)
from stoker.spec import EMBEDDED, Mode, Model, Platform

Image = Literal["gateway", "worker", "trainer", "agents"]
Maker = Literal["ack", "terraform"]


@dataclass(frozen=True)
class Plan:
    spec: Platform
    mode: Mode
    aws: Maker = "ack"
    """Who makes what the platform needs of AWS: ACK, in a cluster that is there, or the root module of Terraform, which
    makes the cluster, too (`render/root`)."""

    @property
    def by_ack(self) -> bool:
        """Whether AWS resources are objects of the cluster."""
        return self.aws == "ack" and self.spec.composition.ack.enabled

    @property
    def cluster(self) -> str:
        return self.spec.global_.cluster.name

    @property
    def region(self) -> str:
        return self.spec.global_.cluster.region

    @property
    def account(self) -> str | None:
        return self.spec.global_.cluster.account

    @property
    def partition(self) -> str:
        """`aws`, `aws-us-gov` or `aws-cn`, by the region: the second part of an ARN."""
        return {"us-gov": "aws-us-gov", "cn": "aws-cn"}.get(self.region.rsplit("-", 2)[0], "aws")

    @property
    def zones(self) -> tuple[str, ...]:
        return self.spec.global_.cluster.zones or tuple(f"{self.region}{letter}" for letter in "abc")

    @property
    def namespace(self) -> str:
        return self.spec.global_.cluster.namespace

    @property
    def training_namespace(self) -> str:
        return f"{self.namespace}-training"

    @property
    def monitoring_namespace(self) -> str:
        return f"{self.namespace}-monitoring"

    @cached_property
    def tags(self) -> dict[str, str]:
        """On every AWS resource."""
        return {"Project": self.cluster, "ManagedBy": "stoker", **self.spec.global_.tags}

    def image(self, part: Image) -> str:
        """Stoker's own images: one repository each."""
        said = self.spec.global_.images
        registry = said.registry
        if registry is None and self.account is not None:
            registry = f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/stoker"
        return f"{registry or 'stoker'}/{part}:{said.tag or __version__}"

    def bucket(self, what: Literal["models", "checkpoints"]) -> str | None:
        """As written, or by the account; None where neither is known: bucket names are the whole world's."""
        said = self.spec.llm.inference.cache.bucket if what == "models" else self.spec.training.checkpointing.s3_bucket
        if said is not None or self.account is None:
            return said
        return short(self.cluster.lower().replace("_", "-"), what, self.account)

    @property
    def cache(self) -> CacheKind:
        """Where replicas find weights."""
        kind = self.spec.llm.inference.cache.kind
        if kind == "auto":
            return "s3" if self.bucket("models") else "node"
        return kind

    @property
    def redis(self) -> Literal["cluster", "url", "elasticache"]:
        """Where tasks wait: in pods of our own, at the URL of the spec, or in ElastiCache."""
        if self.spec.redis.url is not None:
            return "url"
        return "elasticache" if self.spec.redis.elasticache.enabled else "cluster"

    @property
    def redis_address(self) -> str:
        """host:port, as pods of the cluster reach the Redis that runs in it."""
        return f"{REDIS}.{self.namespace}.svc.cluster.local:{REDIS_PORT}"

    @property
    def ledger(self) -> Literal["cluster", "url", "rds"]:
        """Where usage is kept: in PostgreSQL in a pod of our own, at the URL of the spec, or on RDS."""
        if self.spec.ledger.url is not None:
            return "url"
        has_maker = self.by_ack or self.aws == "terraform"
        return "rds" if has_maker and self.spec.composition.ack.rds else "cluster"

    @property
    def has_agents(self) -> bool:
        """Whether agents run in the cluster: where the file says so, or names agents of its own."""
        said = self.spec.agents
        return said.are_written if said.enabled is None else said.enabled

    @property
    def agents_store(self) -> Literal["ledger", "url"]:
        """Where runs are kept: in the ledger's database, or at the URL of the spec."""
        return "ledger" if self.spec.agents.store.url is None else "url"

    @property
    def node_role(self) -> str:
        return self.spec.karpenter.node_role or f"KarpenterNodeRole-{self.cluster}"[:64]

    def name_in_region(self, what: str) -> str:
        """Of what is the account's, such as a role, with the region: clusters of two regions may have one name."""
        return short(self.cluster, what, self.region, at_most=64)

    @property
    def interruption_queue(self) -> str:
        return self.spec.karpenter.interruption_queue or self.cluster[:80]

    def domain(self, use: str) -> Domain:
        """Who makes the nodes of a use: Karpenter's own label domain, or Auto Mode's."""
        by_auto_mode = self.mode == "auto" or (self.mode == "hybrid" and use == "general")
        return AUTO_MODE if by_auto_mode else AWS

    @cached_property
    def served(self) -> tuple[Served, ...]:
        """The models that the cluster runs, in the order of the file. None where inference is switched off."""
        if not self.spec.llm.inference.enabled:
            return ()
        models = self.spec.llm.models.items()
        return tuple(self._served(name, model) for name, model in models if model.engine == EMBEDDED)

    @cached_property
    def hosted(self) -> tuple[str, ...]:
        """The models on servers elsewhere: the cluster runs only a worker for each."""
        return tuple(name for name, model in self.spec.llm.models.items() if model.engine != EMBEDDED)

    def _served(self, name: str, model: Model) -> Served:
        usual, own = self.spec.llm.inference, model.serving
        model = model.model_copy(update={"limits": self.spec.cluster_limits(name)})
        gpu = own.gpu or usual.gpu
        replicas = self.spec.cluster_replicas(name)
        return Served(
            name=name,
            model=model,
            serving=own,
            weights=own.weights or WEIGHTS[model.task],
            image=(own.image or usual.image) if gpu.count else self.image("worker"),
            gpu=gpu,
            cpu=own.cpu or usual.cpu,
            memory=own.memory or usual.memory,
            replicas=replicas,
            is_scaled=self.spec.keda.enabled and replicas.min < replicas.max,
            pool=(own.node_pool or self._first_pool(name)) if gpu.count and self.spec.karpenter.enabled else "",
        )

    def _first_pool(self, model: str) -> str:
        pools = self.spec.karpenter.node_pools.items()
        found = next((name for name, pool in pools if pool.use == "inference" and pool.enabled), None)
        if found is None:
            raise InvalidInput(
                f"llm.models.{model} needs a GPU, and karpenter.nodePools has no pool for inference that is enabled",
                hint="enable one, write llm.inference.gpu.count 0, or karpenter.enabled false for nodes of your own",
            )
        return found

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """All NodePools, in the order in which they are written out. Raises InvalidInput that names the key when no
        instance type fits a model, or a cap buys fewer nodes than its models may ask for."""
        if not self.spec.karpenter.enabled:
            return ()
        found: list[Pool] = []
        _ = self.served  # each of which has a pool, or is refused
        types.check_families(self)
        for name, said in self.spec.karpenter.node_pools.items():
            if said.enabled and said.use == "inference":
                found += types.inference_pools(self, name, said)
        if self._trains_on_nodes:
            found.append(types.training_pool(self))
        found += types.general_pools(self)
        return tuple(found)

    @cached_property
    def training_pods(self) -> TrainingPods:
        return types.training_pods(self)

    def placement(self, served: Served) -> dict[str, Any]:
        """The parts of a pod spec that put a model's pods on its nodes: `affinity` and `tolerations`."""
        if not served.is_on_gpu:
            return self.general_placement()
        where = [served.serves]
        if served.shares_nodes and any(pool.serves == shared_by(served.pool) for pool in self.pools):
            where.append(shared_by(served.pool))
        chosen = _node_affinity(SERVES, where) if self.spec.karpenter.enabled else {}
        return {**chosen, "tolerations": [GPU_TOLERATION]}

    def general_placement(self, *, stateful: bool = False) -> dict[str, Any]:
        """The same for everything that needs no GPU. `stateful`: never on spot."""
        if not self.spec.karpenter.enabled:
            return {}
        return {"nodeSelector": {SERVES: CPU, **({CAPACITY_TYPE: "on-demand"} if stateful else {})}}

    def training_placement(self) -> dict[str, Any]:
        chosen = {"nodeSelector": {SERVES: TRAINING}} if self.spec.karpenter.enabled else {}
        return {**chosen, "tolerations": [GPU_TOLERATION, TRAINING_TOLERATION]}

    def on_gpu_nodes(self) -> dict[str, Any]:
        """For DaemonSets that belong on every GPU node and on no other."""
        terms = [
            {"matchExpressions": [{"key": f"{domain}/instance-gpu-count", "operator": "Exists"}]}
            for domain in sorted({pool.domain for pool in self.pools if pool.has_gpus})
        ]
        chosen = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
        tolerations = [GPU_TOLERATION, *([TRAINING_TOLERATION] if self._trains_on_nodes else [])]
        return {**({"affinity": chosen} if terms else {}), "tolerations": tolerations}

    @property
    def auto_node_role(self) -> str:
        """IAM role of Auto Mode's nodes. Beside Karpenter's it is another: a role has one access entry, whose type is
        EC2 for Auto Mode and EC2_LINUX for Karpenter."""
        return short(self.node_role, "auto", at_most=64) if self.mode == "hybrid" else self.node_role

    def pools_of(self, served: Served) -> tuple[Pool, ...]:
        """The pools on whose nodes `placement` may put a model's pods."""
        if not served.is_on_gpu:
            return tuple(pool for pool in self.pools if pool.use == "general")
        where = {served.serves, *([shared_by(served.pool)] if served.shares_nodes else [])}
        return tuple(pool for pool in self.pools if pool.use == "inference" and pool.serves in where)

    @property
    def drain_s(self) -> int:
        """Seconds that a gateway which leaves has for the answers that run. No answer takes longer."""
        return max(1, math.ceil(self.spec.gateway.timeouts.total_seconds))

    @property
    def deregistration_s(self) -> int:
        """Seconds that a load balancer lets requests of a gateway which leaves run on; 3600 is the most that one takes.
        Less than the pod has before it is killed."""
        return min(UNHEARD_S + self.drain_s, 3600)

    @property
    def _trains_on_nodes(self) -> bool:
        """Whether nodes of the cluster train: AWS Batch has machines of its own."""
        return self.spec.training.enabled and self.spec.training.kubeflow

    @cached_property
    def has_gpu_nodes(self) -> bool:
        """Whether there may be a node with a GPU at all, whoever makes it."""
        if self.spec.karpenter.enabled:
            return any(pool.has_gpus for pool in self.pools)
        return self._trains_on_nodes or any(served.is_on_gpu for served in self.served)

    @property
    def gpu_exporter(self) -> Literal["own", "addon", "none"]:
        """Who runs the one dcgm-exporter of each GPU node: we, or the CloudWatch add-on, which brings its own and reads
        no other. Auto Mode's nodes bring none.

        Source: aws-observability/helm-charts values.yaml; its pull request 217 for Bottlerocket, since June 2025."""
        said = self.spec.global_.observability
        if not said.enabled or not self.has_gpu_nodes:
            return "none"
        return "addon" if said.cloudwatch else "own"

    @cached_property
    def stack(self) -> Served | None:
        """The model that the instance of AIInferenceStack serves once more (component `kro`), on the same nodes: the
        first that has GPUs of one node to itself. None where there is none, or kro is off."""
        if not self.spec.composition.kro:
            return None
        alone = (each for each in self.served if each.is_on_gpu and not each.spans_nodes and each.gpu.sharing == "none")
        return next(alone, None)


def _node_affinity(key: str, values: list[str]) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": values}]}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    }
