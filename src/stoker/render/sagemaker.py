"""SageMaker beside the cluster, as ACK objects: a training job, and the first model on a GPU as an endpoint.

The role, the Model and the EndpointConfig cost nothing. The job and the endpoint start machines as soon as they are
applied, and ACK knows no way to hold them: so they are in files that neither the kustomization nor Argo CD applies.

Jobs, models and the configurations of endpoints cannot be changed in SageMaker. Their names end with what tells one
version from another, so that another spec makes another one, and the endpoint goes over to it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.manifests.quantities import bytes_of
from stoker.render import iam
from stoker.render.facts import TRAINING, Served, short
from stoker.render.iam import COMPONENT, tag_list
from stoker.render.items import ON_DEMAND, Item, Resource
from stoker.render.objects import Object, metadata
from stoker.render.plan import Plan

ROLE = "sagemaker"
IMAGES_ACCOUNT = "763104351884"
"""Who publishes AWS' Deep Learning Containers in most regions of the partition `aws`."""
IMAGE = "vllm:0.11.2-sagemaker-v1.2"
FAMILIES = ("g4dn", "g5", "g6", "g6e", "p4d", "p4de", "p5", "p5e", "p5en")
"""Of EC2's families with NVIDIA GPUs those that SageMaker has, with `ml.` before them, for training and for endpoints.
Source: SageMaker's API reference, ResourceConfig and ProductionVariant: InstanceType."""
_FILE = "aws/sagemaker.yaml"
_TRAIN, _SERVE = f"{ON_DEMAND}sagemaker-train.yaml", f"{ON_DEMAND}sagemaker-endpoint.yaml"
_GROUP = "sagemaker.services.k8s.aws/v1alpha1"
_VOLUME_GB = 200
_LONGEST_RUN_S = 5 * 86_400  # SageMaker's own limit for a job
_START_S = 1800
_SURE = 0.9  # as `types` counts: a GPU that is sold with 24 GB has nine tenths of that


def render(plan: Plan) -> Iterator[Item]:
    """What needs no training is rendered without it, and a training job without a model on a GPU."""
    assert plan.account is not None  # noqa: S101 - the spec is refused without
    served = next((each for each in plan.served if each.is_on_gpu and not each.spans_nodes), None)
    if served is None and not plan.spec.training.enabled:
        return
    yield _role(plan, plan.account, served)
    if plan.spec.training.enabled:
        yield _training_job(plan)
    if served is not None:
        yield from _endpoint(plan, served)


def _role(plan: Plan, account: str, served: Served | None) -> Item:
    condition = {"StringEquals": {"aws:SourceAccount": account}}
    trust = iam.service_trust("sagemaker.amazonaws.com", condition=condition)
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    repositories = [iam.arn(plan, "ecr", "repository/stoker/*")]
    if served is not None:
        repositories.append(f"arn:{plan.partition}:ecr:{plan.region}:{IMAGES_ACCOUNT}:repository/vllm")
    logs = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    files = iam.training(plan) if plan.spec.training.enabled else iam.weights(plan)
    metrics = {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}
    statements = (
        *files,
        iam.allow("Images", pull, *repositories),
        iam.allow("Registry", ("ecr:GetAuthorizationToken",), "*"),
        iam.allow("Logs", logs, iam.arn(plan, "logs", "log-group:/aws/sagemaker/*")),
        {**iam.allow("Metrics", ("cloudwatch:PutMetricData",), "*"), "Condition": metrics},
    )
    comment = "What jobs and endpoints of SageMaker may do. A token of the registry and metrics have no ARNs."
    return Resource(_FILE, iam.role(plan, ROLE, trust, statements), comment)


def _training_job(plan: Plan) -> Item:
    """The container's `train` is run, with its data under /opt/ml/input/data/train.

    Source: SageMaker's developer guide, "Use your own training algorithms".
    """
    said = plan.spec.training
    bucket = plan.bucket("checkpoints")  # known, since the account is
    types = [each for each in _types(plan, TRAINING, said.gpus, 0) if each.efa_count or not said.efa]
    instance = _chosen(types, f"training.gpus is {said.gpus}", "training.gpus")
    spot = any(pool.use == "training" and "spot" in pool.capacity for pool in plan.pools)
    waiting = {"maxWaitTimeInSeconds": _LONGEST_RUN_S} if spot else {}
    if said.is_on_file_system:
        raise InvalidInput(
            f"composition.ack.sagemaker is true, and training.data is {said.data}: SageMaker's job reads S3",
            param="training.data",
            hint="write a place in S3, or composition.ack.sagemaker false",
        )
    data = {
        "s3DataType": "S3Prefix",
        "s3URI": said.data or f"s3://{bucket}/data.jsonl",
        "s3DataDistributionType": "FullyReplicated",
    }
    spec: Object = {
        "roleARN": _role_arn(plan),
        "algorithmSpecification": {
            "trainingImage": said.image or plan.image("trainer"),
            "trainingInputMode": "FastFile",
        },
        "inputDataConfig": [{"channelName": "train", "dataSource": {"s3DataSource": data}}],
        "outputDataConfig": {"s3OutputPath": f"s3://{bucket}/sagemaker/"},
        "checkpointConfig": {"s3URI": f"s3://{bucket}/sagemaker/checkpoints/", "localPath": "/opt/ml/checkpoints"},
        "resourceConfig": {
            "instanceType": f"ml.{instance.name}",
            "instanceCount": said.nodes,
            "volumeSizeInGB": _VOLUME_GB,
        },
        "enableManagedSpotTraining": spot,
        "stoppingCondition": {"maxRuntimeInSeconds": _LONGEST_RUN_S, **waiting},
        "tags": tag_list(plan),
    }
    name = _versioned(plan, "train", spec)
    comment = (
        f"{_by_hand(_TRAIN)}\nIt runs once, beside whatever the cluster trains, and costs {said.nodes} x "
        f"ml.{instance.name} while it runs. Its image has to be in ECR, and to have a program `train`, which Stoker's "
        "own has not: write yours into training.image."
    )
    return Resource(_TRAIN, _object(plan, "TrainingJob", name, {"trainingJobName": name, **spec}), comment)


def _endpoint(plan: Plan, served: Served) -> Iterator[Item]:
    """vLLM in AWS' own container, since SageMaker asks port 8080 for /ping and /invocations, and takes images from ECR
    alone. It reads what begins with SM_VLLM_ as vLLM's arguments.

    Source: aws/deep-learning-containers, vLLM for SageMaker; SageMaker's developer guide, "Deploying uncompressed
    models" (a prefix of S3 is put into /opt/ml/model).
    """
    if plan.partition != "aws":
        raise InvalidInput(
            f"composition.ack.sagemaker is true, and AWS publishes its vLLM container not in {plan.region}",
            param="composition.ack.sagemaker",
            hint="write false, and serve the model in the cluster",
        )
    environment = {
        "SM_VLLM_MODEL": served.weights,
        "SM_VLLM_SERVED_MODEL_NAME": served.name,
        "SM_VLLM_TENSOR_PARALLEL_SIZE": str(served.gpu.count),
        "SM_VLLM_MAX_MODEL_LEN": str(served.model.limits.context_tokens),
    }
    source = _place(plan, served)
    files: Object = {}
    if source is not None:
        environment["SM_VLLM_MODEL"] = "/opt/ml/model"
        files = {
            "modelDataSource": {
                "s3DataSource": {"compressionType": "None", "s3DataType": "S3Prefix", "s3URI": source},
            }
        }
    image = f"{IMAGES_ACCOUNT}.dkr.ecr.{plan.region}.amazonaws.com/{IMAGE}"
    model: Object = {
        "executionRoleARN": _role_arn(plan),
        "primaryContainer": {"image": image, "environment": environment, **files},
        "tags": tag_list(plan),
    }
    model_name = _versioned(plan, served.name, model)
    yield Resource(
        _FILE,
        _object(plan, "Model", model_name, {"modelName": model_name, **model}),
        f"The first model that runs on one node's GPUs, {served.name}.",
    )
    memory_mib = bytes_of(served.gpu.memory) / 1024**2 * _SURE
    types = _types(plan, served.serves, served.gpu.count, memory_mib)
    path = f"llm.models.{served.name}"
    instance = _chosen(types, f"{path} needs {served.gpu.count} GPU of {served.gpu.memory}", f"{path}.serving.gpu")
    variant = {
        "variantName": "all",
        "modelName": model_name,
        "instanceType": f"ml.{instance.name}",
        "initialInstanceCount": max(served.replicas.min, 1),
        "containerStartupHealthCheckTimeoutInSeconds": _START_S,
        **({"modelDataDownloadTimeoutInSeconds": _START_S} if files else {}),
    }
    config: Object = {"productionVariants": [variant], "tags": tag_list(plan)}
    config_name = _versioned(plan, served.name, config)
    yield Resource(
        _FILE,
        _object(plan, "EndpointConfig", config_name, {"endpointConfigName": config_name, **config}),
        "The cheapest type that the model's pool allows and SageMaker has.",
    )
    name = _name(plan, served.name)
    spec = {"endpointName": name, "endpointConfigName": config_name, "tags": tag_list(plan)}
    comment = f"{_by_hand(_SERVE)}\nIt costs by the hour from then on, whether or not somebody asks it."
    yield Resource(_SERVE, _object(plan, "Endpoint", name, spec), comment)


def _by_hand(file: str) -> str:
    return f"Nothing applies this file by itself. It starts, and costs, with\nkubectl apply -f {file}"


def _place(plan: Plan, served: Served) -> str | None:
    """Where in S3 the model's weights are, or None where they come from the hub."""
    if served.weights.startswith("s3://"):
        return served.weights.rstrip("/") + "/"
    bucket = plan.bucket("models")
    return f"s3://{bucket}/{served.name}/" if plan.cache == "s3" and bucket is not None else None


def _types(plan: Plan, serves: str, gpus: int, memory_mib: float) -> list[InstanceType]:
    """Those of the pool that SageMaker has, or of the whole catalogue where there are no pools; the cheapest first."""
    of_pool = [each for pool in plan.pools if pool.serves == serves for each in pool.types]
    types = of_pool or list(instance_types().values())
    fit = [
        each
        for each in types
        if each.family in FAMILIES
        and each.prices
        and not each.bare_metal
        and each.gpu_count >= gpus
        and each.gpu_memory_mib * gpus >= memory_mib
    ]
    return sorted(fit, key=_by_price)


def _by_price(instance: InstanceType) -> tuple[float, str]:
    """In the region whose prices are known for nearly every type, as pools are ordered."""
    price = instance.usd_per_hour()
    return (max(instance.prices.values()) if price is None else price), instance.name


def _chosen(types: Sequence[InstanceType], need: str, param: str) -> InstanceType:
    if not types:
        raise InvalidInput(
            f"composition.ack.sagemaker is true, {need}, and no type of its node pool is one that SageMaker has",
            param=param,
            hint=f"allow one of the families {', '.join(FAMILIES)}, or write composition.ack.sagemaker false",
        )
    return types[0]


def _object(plan: Plan, kind: str, name: str, spec: Object) -> Object:
    meta = metadata(plan, name, COMPONENT, namespace=plan.namespace)
    return {"apiVersion": _GROUP, "kind": kind, "metadata": meta, "spec": spec}


def _role_arn(plan: Plan) -> str:
    return f"arn:{plan.partition}:iam::{plan.account}:role/{plan.name_in_region(ROLE)}"


def _name(plan: Plan, what: str) -> str:
    """As SageMaker and Kubernetes both take it."""
    return short(plan.cluster.lower().replace("_", "-"), what, at_most=56)


def _versioned(plan: Plan, what: str, spec: Object) -> str:
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:6]
    return f"{_name(plan, what)}-{digest}"
