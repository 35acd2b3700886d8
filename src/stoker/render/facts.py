"""Names, ports and the kinds of fact that a `plan.Plan` is made of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import Domain
from stoker.manifests.quantities import bytes_of, cpu_milli
from stoker.spec import Gpu, Model, NodePool, Replicas, Serving

SERVES = "stoker.dev/serves"
"""Node label: what the nodes of a pool are for: `model.NAME`, `models.POOL` where several share them, `training`,
`cpu`."""
SHARED, TRAINING, CPU = "models", "training", "cpu"
MODEL = "stoker.dev/model"
"""Pod label: the model that a replica serves."""
GPU = "nvidia.com/gpu"
GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
TRAINING_TAINT = {"key": SERVES, "value": TRAINING, "effect": "NoSchedule"}
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
TRAINING_TOLERATION = {"key": SERVES, "operator": "Equal", "value": TRAINING, "effect": "NoSchedule"}

WEIGHTS = {
    "general": "Qwen/Qwen3-8B",
    "code": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "vision": "Qwen/Qwen2.5-VL-7B-Instruct",
}
"""What a model that names no weights is served from, by its task: open weights (Apache-2.0) of 15 to 17 GB in bf16."""

# Names of objects that several components refer to. A model is called by a user, so its objects are `model-NAME`.
GATEWAY, REDIS, LEDGER, MODELS_ACCOUNT = "gateway", "redis", "ledger", "models"
AGENTS, AGENT_WORKER = "agents", "agent-worker"
NODE_WATCHER = "node-watcher"
WEIGHTS_ACCOUNT = "weights"  # of the Jobs that fill the models' bucket
PLATFORM_CONFIG = "platform"  # ConfigMap with the key platform.yaml
# Secrets. `engine` has the key `key`: what engines ask of the gateway and the workers.
ENGINE_SECRET = "engine"  # noqa: S105 - a name
REDIS_SECRET, LEDGER_SECRET = "redis", "ledger"  # Secrets with the key `password`; `url`, `address` for ElastiCache
# `agents` has the key `key`: what the grants of runs are signed with. `agent-tools` has one for each variable of tools.
AGENTS_SECRET, AGENTS_STORE_SECRET, AGENT_TOOLS_SECRET = "agents", "agents-store", "agent-tools"
OTLP_SECRET = "otlp"  # noqa: S105 - a name; it has the key `headers`
REDIS_AUTH = "redis-auth"  # in AWS alone: the token from which ElastiCache's Secret is made
LEDGER_AUTH = "ledger-auth"  # the same for RDS by Terraform

ENGINE_PORT = 8000
GATEWAY_PORT = 8080
REDIS_PORT = 6379
LEDGER_PORT = 5432
AGENTS_PORT, AGENT_WORKER_PORT, WORKER_METRICS_PORT, TRAINER_METRICS_PORT = 8081, 8082, 9101, 9102

# How what is measured is found: the port's name on each exporter's Service.
DCGM, METRICS_PORT, REDIS_METRICS_PORT, DCGM_PORT = "dcgm-exporter", "metrics", 9121, 9400

# What the worker beside an engine requests: it moves text, and computes nothing.
WORKER = {"cpu": "250m", "memory": "512Mi"}

STACK_REPLICAS = 2
"""Most replicas of the instance of AIInferenceStack (component `kro`)."""

UNHEARD_S, WRITING_DOWN_S = 15, 15
"""How a gateway's pod leaves: it goes on answering for UNHEARD_S, until every load balancer has heard of it, then for
`Plan.drain_s` only what runs, and has WRITING_DOWN_S for what that used. The load balancer waits for the first two."""
EDGE = "edge"
"""The name of the Ingress, and of the Gateway of the Gateway API."""
GATEWAY_NLB = "gateway-nlb"
"""The Service by which API Gateway reaches the gateway."""
ROLE = "stoker.dev/role"
"""Pod label: `leader` or `follower` within a LeaderWorkerSet, of which the leader serves; `fill` of a Job that fetches
weights."""
TRAINING_ACCOUNT, PIPELINE_ACCOUNT = "training", "pipeline"
"""ServiceAccounts of the training namespace: of the pods that train, and of the steps of the pipeline."""

FIRST_CARD_WITHOUT_EFA = ("p6-b300.",)
"""How types are named whose first network card has no EFA, and has to carry the node's address (aws/aws-parallelcluster
issue 7143, which cites AWS). All others have one on each card."""

CacheKind = Literal["node", "s3", "efs", "fsx"]


@dataclass(frozen=True)
class Pool:
    """One NodePool to be. `types` are all that it allows, the cheapest first; `limits` in Kubernetes' own notation."""

    name: str
    use: Literal["inference", "training", "general"]
    serves: str
    """The value of SERVES on its nodes."""
    said: NodePool
    types: tuple[InstanceType, ...]
    left_out: tuple[str, ...]
    """Types of the families that were left out, with the reason, for the comment."""
    capacity: tuple[str, ...]
    limits: Mapping[str, str]
    weight: int
    zones: tuple[str, ...]
    domain: Domain
    node_class: str
    taints: tuple[Mapping[str, str], ...]
    sharing: Gpu | None = None
    """How its GPUs are shared; None: not at all."""

    @property
    def has_gpus(self) -> bool:
        return self.use != "general"


@dataclass(frozen=True)
class Served:
    """One model that the cluster itself runs: on GPUs by vLLM, or with `gpu.count` 0 by the embedded engine."""

    name: str
    model: Model
    serving: Serving
    weights: str
    image: str
    gpu: Gpu
    cpu: str
    memory: str
    replicas: Replicas
    is_scaled: bool
    pool: str
    """Its pool of `karpenter.nodePools`, by whose families it is placed. Empty on the CPU."""

    @property
    def serves(self) -> str:
        """The value of SERVES on nodes that are for it alone. Names have no dots, so it is nothing else's."""
        return f"model.{self.name}"

    @property
    def workload(self) -> str:
        """The name of its Deployment or LeaderWorkerSet, Service, PodDisruptionBudget and ScaledObject."""
        return f"model-{self.name}"

    @property
    def is_on_gpu(self) -> bool:
        return self.gpu.count > 0

    @property
    def spans_nodes(self) -> bool:
        return self.serving.nodes > 1

    @property
    def shares_nodes(self) -> bool:
        """Whether its pods may run on the nodes that all models share: not when the GPU is set up for it alone, and not
        when losing one spot node loses several."""
        return self.is_on_gpu and self.gpu.sharing == "none" and not self.spans_nodes

    @cached_property
    def requests(self) -> Mapping[str, int]:
        """What one pod requests with its worker, in base units."""
        worker = (cpu_milli(WORKER["cpu"]), bytes_of(WORKER["memory"]))
        cpu, memory = cpu_milli(self.cpu) + worker[0], bytes_of(self.memory) + worker[1]
        return {"cpu": cpu, "memory": memory, **({GPU: self.gpu.count} if self.is_on_gpu else {})}


@dataclass(frozen=True)
class TrainingPods:
    """What each pod of a training job requests: nearly the whole of the smallest type of its pool."""

    pool: str
    cpu: str
    memory: str
    gpus: int
    efa: int


def shared_by(pool: str) -> str:
    """The value of SERVES on nodes that the models of a pool of the spec share. Those of another pool do not come here:
    their GPUs may have to be larger."""
    return f"{SHARED}.{pool}"


def short(*parts: str, at_most: int = 63) -> str:
    """The parts joined by hyphens. One that is too long is cut, and ends with six characters that tell it from others
    cut alike."""
    whole = "-".join(part for part in parts if part)
    if len(whole) <= at_most:
        return whole
    return f"{whole[: at_most - 7].rstrip('-')}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"
