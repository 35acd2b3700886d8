"""The keys of the guide's Helm `values.yaml`, as they stand there, typed.

They describe the cluster: `stoker render` and `stoker deploy` read them. On one machine only `redis` matters. The
defaults are the guide's values, except that whatever would need an AWS account is off until it is asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.section import Count, Expected, Name, Quantity, Section

Word = Annotated[
    str,
    StringConstraints(pattern="^[a-z0-9][a-z0-9-]{0,19}$"),
    Expected("an EC2 instance family, such as g5"),
]


class Cluster(Section):
    name: Annotated[
        str,
        StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"),
        Expected("a name that EKS takes: 1 to 100 letters, digits, hyphens and underscores"),
    ] = "agentic-ai-cluster"
    """Name of the EKS cluster, also the tag by which Karpenter finds subnets and security groups."""

    region: Annotated[
        str,
        StringConstraints(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]+$"),
        Expected("an AWS region, such as us-west-2"),
    ] = "us-west-2"
    """AWS region of the cluster. Prices and the instance types on offer differ by region."""


class Observability(Section):
    enabled: bool = True
    """Whether exporters, rules and dashboards are rendered at all."""

    cloudwatch: bool = False
    """Send metrics to CloudWatch, which costs money per metric, so it is off until asked for."""

    prometheus: bool = True
    """Render ServiceMonitors and PrometheusRules."""

    grafana: bool = True
    """Render Grafana dashboards."""


class Global(Section):
    cluster: Cluster = Cluster()
    """Which cluster the platform is deployed to."""

    observability: Observability = Observability()
    """What of metrics and dashboards is deployed."""


class NodePool(Section):
    enabled: bool = True
    """Whether the pool is rendered."""

    instance_families: Annotated[tuple[Word, ...], Field(strict=False, min_length=1, max_length=50)] = (
        "g5",
        "g6",
        "p4d",
        "p5",
    )
    """EC2 instance families that Karpenter may choose from. More families mean fewer waits for capacity."""

    spot_enabled: bool = True
    """Allow spot capacity: cheaper, and taken back at two minutes' notice, which workers survive."""

    consolidation_enabled: bool = True
    """Let Karpenter replace and remove nodes that are not full."""


class Karpenter(Section):
    enabled: bool = True
    """Render NodePools and EC2NodeClasses; false for a cluster that brings its own nodes."""

    node_pools: Mapping[Name, NodePool] = Field(default={"gpu": NodePool()}, max_length=100)
    """Node pools by name."""


class Scalers(Section):
    redis: bool = True
    """Scale on the backlog of the tasks' Redis streams."""

    sqs: bool = False
    """Scale on, and forward dead letters to, an SQS queue; needs an AWS account, so it is off until asked for."""

    cloudwatch: bool = False
    """Scale on CloudWatch metrics; needs an AWS account, so it is off until asked for."""


class Keda(Section):
    enabled: bool = True
    """Render ScaledObjects; false leaves the number of replicas to you."""

    scalers: Scalers = Scalers()
    """Which sources of load the ScaledObjects read."""


class Gpu(Section):
    count: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs of one replica. 0 runs on the CPU; no instance has more than 16."""

    memory: Quantity = "24Gi"
    """GPU memory that one replica needs in total; pools whose instances have less are refused."""


class Autoscaling(Section):
    enabled: bool = True
    """Scale between the two numbers below; false keeps `replicas` of them."""

    min_replicas: Count = 1
    """Fewest replicas of a model in the cluster. 0 saves the most and makes the first request wait for a node."""

    max_replicas: Count = 50
    """Most replicas of a model in the cluster: with the price of a node, the ceiling of the bill."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.min_replicas > self.max_replicas:
            yield Fault(
                ("minReplicas",),
                f"{self.min_replicas} is more than maxReplicas ({self.max_replicas}); must be at most that",
            )


class Inference(Section):
    """What a model gets in the cluster unless it says otherwise in `llm.models`."""

    enabled: bool = True
    """Whether inference is deployed."""

    replicas: Count = 3
    """Replicas of a model at deployment, and for good where autoscaling is off. May lie outside of the autoscaler's
    range, as in Helm: the autoscaler then corrects it at once."""

    image: Annotated[
        str,
        StringConstraints(pattern="^[a-z0-9][A-Za-z0-9._:/@-]{0,254}$"),
        Expected("a container image, such as llm-inference:v1.0.0"),
    ] = "llm-inference:v1.0.0"
    """Container image of the inference server."""

    gpu: Gpu = Gpu()
    """GPU of one replica."""

    autoscaling: Autoscaling = Autoscaling()
    """How far a model scales in the cluster."""


class Persistence(Section):
    size: Quantity = "8Gi"
    """Volume of Redis in the cluster. Waiting tasks live there: 1 GiB holds some hundred thousand of 2 KiB."""


class RedisMaster(Section):
    persistence: Persistence = Persistence()
    """The master's volume."""


class RedisReplica(Section):
    replica_count: Annotated[int, Field(ge=0, le=5)] = 2
    """Read replicas of Redis in the cluster, promoted when the master is lost. 0 leaves only the volume."""


Architecture = Literal["replication", "standalone"]


class Checkpointing(Section):
    s3_bucket: (
        Annotated[
            str,
            StringConstraints(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
            Expected("the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and hyphens"),
        ]
        | None
    ) = None
    """S3 bucket of checkpoints. null keeps them in the state directory, which a spot node takes with it."""


class Training(Section):
    enabled: bool = False
    """Render the training stack into the cluster; off by default because it installs operators that run always."""

    kubeflow: bool = True
    """Run training as Kubeflow TrainJobs; false leaves AWS Batch."""

    checkpointing: Checkpointing = Checkpointing()
    """Where checkpoints are kept."""
