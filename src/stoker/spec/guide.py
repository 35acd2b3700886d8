"""The keys of the guide's Helm `values.yaml`, as they stand there, typed.

They describe the cluster: `stoker render` and `stoker deploy` read them. On one machine `redis` and `keda`
matter. The defaults are the guide's values, except that whatever would need an AWS account is off until asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.section import Count, Expected, Name, Quantity, Section

Mode = Literal["karpenter", "auto", "hybrid"]
Zone = Annotated[
    str,
    StringConstraints(pattern="^[a-z]{2}(-[a-z]+)+-[0-9]+[a-z]$"),
    Expected("an availability zone, such as us-west-2a"),
]


_TAKEN = frozenset(
    (
        *("default", "kube-system", "kube-public", "kube-node-lease", "amazon-cloudwatch", "argo", "argo-rollouts"),
        *("argocd", "cert-manager", "external-secrets", "ack-system", "karpenter", "keda", "kro", "kro-system"),
        *("kubeflow", "kubeflow-system", "kueue-system", "lws-system", "monitoring"),
    )
)
"""Namespaces of Kubernetes, and of the controllers that the platform needs, as their charts are usually installed."""


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

    account: (
        Annotated[
            str, StringConstraints(pattern="^[0-9]{12}$"), Expected('an AWS account, 12 digits in quotes: "0123..."')
        ]
        | None
    ) = None
    """AWS account of the cluster. null: what needs one by name (images in its registry, bucket names that nobody else
    has, ARNs of the EKS capabilities) is rendered in the form that needs none."""

    mode: Mode = "karpenter"
    """Who makes the nodes: a Karpenter of your own, EKS Auto Mode, or both (hybrid): Auto Mode for CPUs, Karpenter for
    GPUs."""

    zones: Annotated[tuple[Zone, ...], Field(strict=False, max_length=10)] = ()
    """Availability zones of the nodes. Empty: a, b and c of the region."""

    namespace: Name = "agentic-ai"
    """Kubernetes namespace of the platform; NAME-training is that of training."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.namespace in _TAKEN:
            yield Fault(
                ("namespace",),
                f"{self.namespace} is where something else runs, which the platform's policies would shut in; write a "
                "name of its own",
            )
        for index, zone in enumerate(self.zones):
            if not zone.startswith(self.region):
                yield Fault(("zones", index), f"{zone} is not in the region {self.region}")


class Images(Section):
    registry: (
        Annotated[
            str,
            StringConstraints(pattern="^[a-z0-9][a-z0-9./:-]{0,199}$"),
            Expected("a container registry with its path, such as registry.example.com/stoker"),
        ]
        | None
    ) = None
    """Where Stoker's own images (gateway, worker, trainer) are. null: the account's ECR, or else no registry at all, by
    the name alone."""

    tag: (
        Annotated[
            str,
            StringConstraints(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"),
            Expected("a tag of an image, such as 1.2.0"),
        ]
        | None
    ) = None
    """Tag of Stoker's own images. null: the version of this Stoker."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.tag == "latest":
            yield Fault(("tag",), "latest moves, so that pods differ by when they started; write a version")


class Otlp(Section):
    endpoint: (
        Annotated[
            str,
            StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$"),
            Expected("an http or https URL, such as http://otel-collector.monitoring:4318"),
        ]
        | None
    ) = None
    """Where pods send traces and metrics by OTLP over HTTP: a collector, Langfuse, any other. `/v1/traces` and
    `/v1/metrics` are added. null: nowhere. On one machine the environment says it: `OTEL_EXPORTER_OTLP_ENDPOINT`."""

    headers_from_secret: bool = False
    """The endpoint wants headers, such as `Authorization=Basic%20...`: those in the Secret `otlp`, key `headers`."""

    engines: bool = False
    """vLLM sends spans of its own, below the gateway's. Its image must hold OpenTelemetry, without which it does not
    start: vllm/vllm-openai does so since 2026, and v0.11.2 does not."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.endpoint is None and self.headers_from_secret:
            yield Fault(("headersFromSecret",), "there is no endpoint that it belongs to; write it too, or false")
        if self.endpoint is None and self.engines:
            yield Fault(("engines",), "there is no endpoint to which engines could send; write it too, or false")


class Observability(Section):
    enabled: bool = True
    """Whether exporters, rules and dashboards are rendered at all."""

    cloudwatch: bool = False
    """Send metrics to CloudWatch, which costs money per metric, so it is off until asked for."""

    cloudwatch_tenants: Annotated[tuple[Name, ...], Field(strict=False, max_length=50)] = ()
    """Tenants that have metrics of their own in CloudWatch, seven each; all others are counted with their models."""

    prometheus: bool = True
    """Render ServiceMonitors and PrometheusRules."""

    prometheus_url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$"),
        Expected("an http or https URL, such as http://prometheus.monitoring:9090"),
    ] = "http://prometheus-operated.monitoring.svc:9090"
    """Where KEDA asks Prometheus how many requests run. It is asked without a signature, which Amazon Managed Service
    for Prometheus does not answer: with that, the URL of a proxy that signs."""

    grafana: bool = True
    """Render Grafana dashboards. They show what the PrometheusRules record, so only with `prometheus`."""

    alarm_email: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}$"),
            Expected("an e-mail address"),
        ]
        | None
    ) = None
    """Who is told by CloudWatch alarms, through SNS. null: the topic has no subscriber."""

    otlp: Otlp = Otlp()
    """Traces and metrics by OpenTelemetry's protocol, whatever `enabled` says of exporters and dashboards."""

    def broken_rules(self) -> Iterator[Fault]:
        if "aps-workspaces" in (urlsplit(self.prometheus_url).hostname or ""):
            yield Fault(
                ("prometheusUrl",),
                f"{self.prometheus_url} is Amazon Managed Service for Prometheus, which answers only requests "
                "signed by SigV4, and nothing here signs; write the URL of a Prometheus in the cluster or of a proxy "
                "that signs",
            )


TagText = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9 +=._:/@-]{1,128}$"),
    Expected("the key or value of an AWS tag: letters, digits, spaces and + = . _ : / @ -"),
]


class Global(Section):
    cluster: Cluster = Cluster()
    """Which cluster the platform is deployed to."""

    images: Images = Images()
    """Stoker's own container images."""

    tags: Mapping[TagText, TagText] = Field(default={}, max_length=40)
    """Tags on every AWS resource that is rendered, for cost allocation; Project and ManagedBy are added."""

    observability: Observability = Observability()
    """What of metrics and dashboards is deployed."""


class Scalers(Section):
    redis: bool = True
    """Scale on the backlog of the tasks' Redis streams."""

    sqs: bool = False
    """Scale on, and forward dead letters to, an SQS queue; needs an AWS account, so it is off until asked for."""

    cloudwatch: bool = False
    """Scale on CloudWatch metrics; needs an AWS account, so it is off until asked for."""


SelectPolicy = Literal["Max", "Min", "Disabled"]
PeriodSeconds = Annotated[int, Field(ge=1, le=1800)]
WindowSeconds = Annotated[int, Field(ge=0, le=3600)]
WholeSeconds = Annotated[int, Field(ge=0, le=7 * 86400)]
Target = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]


class ScalingPolicy(Section):
    type: Literal["Pods", "Percent"]
    """What `value` counts: replicas, or per cent of those that there are."""

    value: Annotated[int, Field(ge=1, le=100_000)]
    """The most that may change within the period."""

    period_seconds: PeriodSeconds
    """Seconds over which changes are counted."""


class ScaleUp(Section):
    stabilization_window_seconds: WindowSeconds = 0
    """Seconds over which the least recommendation counts. 0 scales up at once."""

    policies: Annotated[tuple[ScalingPolicy, ...], Field(strict=False, min_length=1, max_length=20)] = (
        ScalingPolicy(type="Pods", value=4, period_seconds=15),
        ScalingPolicy(type="Percent", value=100, period_seconds=15),
    )
    """How fast. The default is Kubernetes': 4 replicas or as many again, whichever is more, each 15 s."""

    select_policy: SelectPolicy = "Max"
    """Which of the policies counts: the one that allows most, the one that allows least, or none ("Disabled")."""

    tolerance: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.1
    """How far above its target a metric may be without a change: 0.1 is 10 %."""


class ScaleDown(Section):
    stabilization_window_seconds: WindowSeconds = 300
    """Seconds over which the highest recommendation counts, so that a lull stops nothing."""

    policies: Annotated[tuple[ScalingPolicy, ...], Field(strict=False, min_length=1, max_length=20)] = (
        ScalingPolicy(type="Percent", value=100, period_seconds=15),
    )
    """How fast. The default is Kubernetes': all at once."""

    select_policy: SelectPolicy = "Max"
    """As of scaleUp. "Disabled" never scales down, except to zero."""

    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    """How far below its target a metric may be without a change."""


class Behavior(Section):
    scale_up: ScaleUp = ScaleUp()
    """How fast replicas are added."""

    scale_down: ScaleDown = ScaleDown()
    """How fast replicas are taken away, as far as one is left; the last one is cooldownPeriod's."""


class HorizontalPodAutoscalerConfig(Section):
    behavior: Behavior = Behavior()
    """Copied into the HPA that KEDA makes. It governs 1 to N, and back to 1."""


class Advanced(Section):
    horizontal_pod_autoscaler_config: HorizontalPodAutoscalerConfig = HorizontalPodAutoscalerConfig()
    """What KEDA hands to the HPA."""


class ScalingFallback(Section):
    failure_threshold: Annotated[int, Field(ge=0, le=1000)] = 3
    """Readings of a trigger that have to fail in a row before the fallback counts; one more makes it."""

    replicas: Count
    """Replicas to run then."""

    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = "static"
    """What `replicas` means: that many, as many as there are, or the higher or lower of both."""


class Keda(Section):
    enabled: bool = True
    """Scale by load, here and in the cluster; false leaves the number of replicas to you."""

    scalers: Scalers = Scalers()
    """Which sources of load the ScaledObjects read."""

    sqs_queue: (
        Annotated[
            str,
            StringConstraints(pattern="^[A-Za-z0-9_-]{1,40}$"),
            Expected("what the names of SQS queues begin with: at most 40 letters, digits, hyphens and underscores"),
        ]
        | None
    ) = None
    """SQS queues of your own, whose messages you turn into tasks: QUEUE-MODEL for each model, such as
    llm-tasks-general. With scalers.sqs each scales its model, too, in the cluster. null: none; Stoker itself sends only
    dead letters to SQS, which no replica works off."""

    min_replica_count: Count | None = None
    """Fewest replicas of a model that has no `replicas` of its own. 0 stops the last one when nothing has to be done.
    null: 1 here, and `llm.inference.autoscaling` in the cluster."""

    max_replica_count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Most replicas of a model that has no `replicas` of its own. null: minReplicaCount or 1 here, and
    `llm.inference.autoscaling` in the cluster."""

    polling_interval: Annotated[int, Field(ge=1, le=86_400)] = 10
    """Seconds between two looks at the triggers. It governs 0 to 1 in the cluster; here it governs everything, and the
    first task that waits for a model at zero does not wait for it."""

    cooldown_period: WholeSeconds = 300
    """Seconds without anything to do before the last replica stops. Counts for nothing where the minimum is 1."""

    initial_cooldown_period: WholeSeconds = 0
    """The same for a model that never had anything to do, from its start."""

    lag_count: Target | None = None
    """Waiting tasks for each replica that there should be (the lag of the stream's group). null: the model's
    `limits.concurrency`."""

    activation_lag_count: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = 0.0
    """Waiting tasks that start nothing; more do. 0: the first one wakes a model at zero."""

    pending_entries_count: Target | None = None
    """Running tasks for each replica that there should be (the stream's pending entries). null: not looked at."""

    running_count: Target | None = None
    """Running requests and tasks for each replica that there should be. null: 3 of 4 that a replica can run at once
    (`limits.concurrency`), so that a model whose replicas are full gets another."""

    fallback: ScalingFallback | None = None
    """How many to run while a trigger cannot be read. null: as many as there are."""

    advanced: Advanced = Advanced()
    """What KEDA hands to the HPA."""

    def broken_rules(self) -> Iterator[Fault]:
        least, most = self.min_replica_count, self.max_replica_count
        if least is not None and most is not None and least > most:
            yield Fault(("minReplicaCount",), f"{least} is more than maxReplicaCount ({most}); must be at most that")


def _pinned(image: str) -> str:
    """A tag that moves makes replicas of one model differ by when they started."""
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@" not in image and tag in ("", "latest"):
        raise ValueError("no tag, or one that moves")
    return image


Image = Annotated[
    str,
    StringConstraints(pattern="^[a-z0-9][A-Za-z0-9._:/@-]{0,254}$"),
    AfterValidator(_pinned),
    Expected("a container image with a tag other than latest, or a digest, such as llm-inference:v1.0.0"),
]
Cores = Annotated[
    str,
    StringConstraints(pattern="^[1-9][0-9]{0,5}m?$"),
    Expected('processor cores as Kubernetes writes them, such as "2" or 500m'),
]
Sharing = Literal["none", "time-slicing", "mps", "mig"]


class Gpu(Section):
    count: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs of one replica, on each of its nodes. 0 runs the embedded engine on the CPU; no instance has more than
    16."""

    memory: Quantity = "24Gi"
    """GPU memory that one replica needs in total, on each of its nodes; instances whose GPUs have less are left out. A
    GPU that is sold with 24 GB counts as 24Gi, although the device reports a little less."""

    sharing: Sharing = "none"
    """Whether several replicas share a GPU: by turns (time-slicing, memory is not divided), at once (mps, memory is
    divided), or by hardware (mig, on A100, H100 and newer). count must be 1."""

    share: Annotated[int, Field(ge=2, le=48)] = 2
    """Replicas on one GPU with time-slicing and mps. `memory` is then that of one share."""

    mig_profile: Annotated[
        str, StringConstraints(pattern=r"^[1-7]g\.[0-9]{1,3}gb$"), Expected("a MIG profile, such as 3g.40gb")
    ] = "3g.40gb"
    """Slice of a GPU that one replica gets with mig."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.sharing != "none" and self.count != 1:
            yield Fault(
                ("sharing",), f"{self.sharing} shares one GPU, and count is {self.count}; write count 1, or none"
            )


BucketName = Annotated[
    str,
    StringConstraints(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"),
    Expected("the name of an S3 bucket: 3 to 63 lower-case letters, digits, dots and hyphens"),
]
FileSystemId = Annotated[
    str, StringConstraints(pattern="^fs-[0-9a-f]{8,40}$"), Expected("a file system's id, such as fs-0123abcd")
]


class Cache(Section):
    kind: Literal["auto", "node", "s3", "efs", "fsx"] = "auto"
    """Where replicas find a model's weights. node: each downloads them to its node. s3: vLLM streams them from
    `bucket`. efs, fsx: a file system that all mount. auto: s3 where there is a bucket or an account to name one by."""

    bucket: BucketName | None = None
    """Bucket with the weights of model NAME under NAME/. null: CLUSTER-models-ACCOUNT."""

    file_system: FileSystemId | None = None
    """Id of the EFS or FSx for Lustre file system."""

    mount_name: Annotated[
        str,
        StringConstraints(pattern="^[a-z0-9]{1,32}$"),
        Expected("the mount name of an FSx for Lustre file system, such as fsx"),
    ] = "fsx"
    """Mount name of the FSx for Lustre file system, as FSx says it. Not for EFS, which has none."""

    size: Quantity = "100Gi"
    """Room for weights: the claim on the file system, or what a replica may take of its node's disk."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.kind in ("efs", "fsx") and self.file_system is None:
            yield Fault(("fileSystem",), f"null, and kind is {self.kind}; write the id of the file system")


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

    image: Image = "vllm/vllm-openai:v0.11.2"
    """Container image of the inference server: vLLM, or one with the same arguments."""

    gpu: Gpu = Gpu()
    """GPU of one replica."""

    cpu: Cores = "2"
    """Processor cores that one replica requests beside its GPUs."""

    memory: Quantity = "10Gi"
    """Memory that one replica requests beside its GPUs, shared memory included."""

    cache: Cache = Cache()
    """Where replicas find the weights."""

    autoscaling: Autoscaling = Autoscaling()
    """How far a model scales in the cluster."""

    def broken_rules(self) -> Iterator[Fault]:
        never = "0 never serves a request; must be at least 1, or write llm.inference.enabled false"
        if self.autoscaling.enabled and self.autoscaling.max_replicas == 0:
            yield Fault(("autoscaling", "maxReplicas"), never)
        if not self.autoscaling.enabled and self.replicas == 0:
            yield Fault(("replicas",), never)


class Persistence(Section):
    size: Quantity = "8Gi"
    """Volume of Redis in the cluster. Waiting tasks live there: 1 GiB holds some hundred thousand of 2 KiB."""


class RedisMaster(Section):
    persistence: Persistence = Persistence()
    """The master's volume."""


class RedisReplica(Section):
    replica_count: Annotated[int, Field(ge=0, le=5)] = 2
    """Copies of Redis in the cluster, for the loss of its volume or zone; a person promotes one. With ElastiCache
    they take over by themselves. 0 leaves only the volume."""


Architecture = Literal["replication", "standalone"]
