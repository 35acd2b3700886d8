"""Who in the cluster may do what in AWS: a role for each ServiceAccount that calls it, bound by EKS Pod Identity.

No pod has a key, and no role has more than its pods call: actions are named one by one, resources by their ARNs. Where
`global.cluster.account` is not known, the account's part of an ARN is `*`, which allows no more in practice: roles can
only be used for resources of their own account, unless another account opens its own to them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.aws import cloudwatch_names
from stoker.render.facts import (
    GATEWAY,
    MODELS_ACCOUNT,
    NODE_WATCHER,
    PIPELINE_ACCOUNT,
    TRAINING_ACCOUNT,
    WEIGHTS_ACCOUNT,
)
from stoker.render.items import Item, Resource
from stoker.render.models_weights import has_jobs
from stoker.render.objects import Object, metadata
from stoker.render.plan import Plan
from stoker.render.scaling import sqs_queues

COMPONENT = "aws"
KEDA = ("keda", "keda-operator")
EXTERNAL_SECRETS = ("external-secrets", "external-secrets")
"""Namespace and ServiceAccount as the charts of KEDA and of External Secrets name them."""

_READ = ("s3:GetObject",)
_WRITE = (
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
_QUEUE = (
    "sqs:GetQueueUrl",
    "sqs:GetQueueAttributes",
    "sqs:SendMessage",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
)


@dataclass(frozen=True)
class Identity:
    """A ServiceAccount and what its pods may do. `elsewhere`: another chart brings the ServiceAccount."""

    namespace: str
    account: str
    statements: tuple[Object, ...]
    why: str
    elsewhere: bool = False


def identities(plan: Plan) -> Iterator[Identity]:
    """All that have something to do in AWS, by this spec; who has nothing gets no role."""
    models = weights(plan)
    if models:
        yield Identity(plan.namespace, MODELS_ACCOUNT, models, "Replicas read weights from S3.")
    filled = plan.bucket("models")
    if filled is not None and plan.cache == "s3" and has_jobs(plan):
        why = "Jobs put weights from the hub into the bucket."
        yield Identity(plan.namespace, WEIGHTS_ACCOUNT, _writing(plan, "Weights", filled), why)
    if statements := tuple(_gateway(plan)):
        why = "Gateways forward dead letters to SQS and back, put metrics, tell of budgets: as far as the spec says so."
        yield Identity(plan.namespace, GATEWAY, statements, why)
    # Prices have no ARNs (Service Authorization Reference, "Amazon EC2").
    prices = allow("SpotPrices", ("ec2:DescribeSpotPriceHistory",), "*")
    yield Identity(plan.namespace, NODE_WATCHER, (prices,), "The watcher of nodes asks what spot machines cost.")
    looking = tuple(_keda(plan))
    if looking and plan.spec.keda.enabled:
        yield Identity(*KEDA, looking, "KEDA's operator reads what keda.scalers names.", elsewhere=True)
    yield Identity(*EXTERNAL_SECRETS, (_secrets(plan),), "ExternalSecrets copy the platform's secrets.", elsewhere=True)
    said = plan.spec.training
    if said.enabled and said.kubeflow:  # AWS Batch has roles of its own
        why = "Training reads data and weights, and keeps checkpoints."
        yield Identity(plan.training_namespace, TRAINING_ACCOUNT, training(plan), why)
        if said.pipeline.enabled:
            why = "The pipeline also puts a model where replicas load it."
            yield Identity(plan.training_namespace, PIPELINE_ACCOUNT, _pipeline(plan), why)


def _gateway(plan: Plan) -> Iterator[Object]:
    if plan.spec.keda.scalers.sqs:
        yield allow("DeadLetters", _QUEUE, dead_letters_arn(plan))
    if puts_metrics(plan):
        yield put_metrics(cloudwatch_names.TOKENS, cloudwatch_names.COST, cloudwatch_names.QUEUE)
    topic = plan.spec.costs.alerts.sns
    if topic is not None:
        yield allow("Alerts", ("sns:Publish",), topic if topic.startswith("arn:") else arn(plan, "sns", topic))


def puts_metrics(plan: Plan) -> bool:
    said = plan.spec.global_.observability
    return said.enabled and said.cloudwatch


def put_metrics(*namespaces: str) -> Object:
    """Metrics have no ARNs: it is their namespace that is held to.

    Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon CloudWatch".
    """
    condition = {"StringEquals": {"cloudwatch:namespace": list(namespaces)}}
    return {**allow("PutMetrics", ("cloudwatch:PutMetricData",), "*"), "Condition": condition}


def identity(plan: Plan, who: Identity) -> Iterator[Item]:
    """A role and its association, which names the role by its object, so that no account need be known."""
    file = f"aws/identity-{who.account}.yaml"
    trust = pod_trust(plan, who.namespace, who.account)
    yield Resource(file, role(plan, who.account, trust, who.statements), f"{who.why} {_unknown_account(plan)}".strip())
    spec = {
        "clusterName": plan.cluster,
        "namespace": who.namespace,
        "serviceAccount": who.account,
        "roleRef": {"from": {"name": who.account}},
        "tags": plan.tags,
    }
    comment = ""
    if who.elsewhere:
        comment = f"stoker:ignore STK-AWS-012 the operator's chart brings {who.namespace}/{who.account}"
    yield Resource(
        file,
        {
            "apiVersion": "eks.services.k8s.aws/v1alpha1",
            "kind": "PodIdentityAssociation",
            "metadata": metadata(plan, who.account, COMPONENT, namespace=plan.namespace),
            "spec": spec,
        },
        comment,
    )


def role(
    plan: Plan, name: str, trust: Object, statements: Sequence[Object] = (), managed: Sequence[str] = ()
) -> Object:
    """Its policy is inline: it lives and dies with the role, and can be read in one place. `managed`: names of AWS'
    own policies, with their path."""
    spec: Object = {
        "name": plan.name_in_region(name),
        "description": f"{name} of the cluster {plan.cluster}",
        "assumeRolePolicyDocument": policy(trust),
    }
    if statements:
        spec["inlinePolicies"] = {name: policy(*statements)}
    if managed:
        spec["policies"] = [f"arn:{plan.partition}:iam::aws:policy/{each}" for each in managed]
    return {
        "apiVersion": "iam.services.k8s.aws/v1alpha1",
        "kind": "Role",
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.namespace),
        "spec": {**spec, "tags": tag_list(plan)},
    }


def pod_trust(plan: Plan, namespace: str, account: str) -> Object:
    """Pod Identity may be the role, for pods of this ServiceAccount in this cluster alone.

    Source: awsdocs/amazon-eks-user-guide, pod-id-role (trust and its conditions), pod-id-abac (the session's tags).
    """
    tags = {"eks-cluster-name": plan.cluster, "kubernetes-namespace": namespace, "kubernetes-service-account": account}
    condition = {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in tags.items()}}
    return service_trust("pods.eks.amazonaws.com", tag=True, condition=condition)


def service_trust(service: str, *, tag: bool = False, condition: Mapping[str, Any] | None = None) -> Object:
    actions = ["sts:AssumeRole", "sts:TagSession"] if tag else ["sts:AssumeRole"]
    found: Object = {"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}
    return {**found, "Condition": dict(condition)} if condition else found


def policy(*statements: Object) -> str:
    """The text of a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)


def allow(sid: str, actions: Sequence[str], *resources: str) -> Object:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def tag_list(plan: Plan) -> list[Object]:
    """As IAM, ECR, S3, Secrets Manager and SageMaker take tags; EKS and SQS take a map."""
    return [{"key": key, "value": value} for key, value in plan.tags.items()]


def arn(plan: Plan, service: str, resource: str) -> str:
    return f"arn:{plan.partition}:{service}:{plan.region}:{plan.account or '*'}:{resource}"


def bucket_arn(plan: Plan, place: str) -> str:
    """Of a bucket, or of objects in it. S3's ARNs name neither region nor account."""
    return f"arn:{plan.partition}:s3:::{place}"


def dead_letters_arn(plan: Plan) -> str:
    return arn(plan, "sqs", plan.spec.queue.dead_letters.sqs_queue)


def weights(plan: Plan) -> tuple[Object, ...]:
    """Reading the weights that lie in S3: the bucket of models, and wherever a model's `weights` say."""
    places = [each.weights.removeprefix("s3://") for each in plan.served if each.weights.startswith("s3://")]
    bucket = plan.bucket("models")
    if plan.cache == "s3" and bucket is not None and plan.served:
        places.append(f"{bucket}/")
    return _reading(plan, "Weights", places)


def training(plan: Plan) -> tuple[Object, ...]:
    """Checkpoints are read and written; data and weights only read."""
    bucket, said = plan.bucket("checkpoints"), plan.spec.training
    found = _writing(plan, "Checkpoints", bucket) if bucket is not None else ()
    if puts_metrics(plan):
        found += (put_metrics(cloudwatch_names.TRAINING),)
    places = [place for place in (said.data, said.pipeline.exam) if place is not None and place.startswith("s3://")]
    return found + _reading(plan, "Data", [place.removeprefix("s3://") for place in places]) + weights(plan)


def _pipeline(plan: Plan) -> tuple[Object, ...]:
    bucket = plan.bucket("models")
    registers = plan.cache == "s3" and bucket is not None
    return training(plan) + (_writing(plan, "Models", bucket) if registers and bucket else ())


def _writing(plan: Plan, what: str, bucket: str) -> tuple[Object, ...]:
    return (
        allow(f"List{what}", ("s3:ListBucket", "s3:ListBucketMultipartUploads"), bucket_arn(plan, bucket)),
        allow(f"Write{what}", _WRITE, bucket_arn(plan, f"{bucket}/*")),
    )


def _reading(plan: Plan, what: str, places: Sequence[str]) -> tuple[Object, ...]:
    """`places`: BUCKET/PREFIX/ or BUCKET/KEY; a key may be a folder, too."""
    if not places:
        return ()
    buckets = sorted({place.partition("/")[0] for place in places})
    objects = set()
    for place in places:
        bucket, _, key = place.partition("/")
        objects |= {f"{bucket}/{key}*"} if key.endswith("/") or not key else {f"{bucket}/{key}", f"{bucket}/{key}/*"}
    return (
        allow(f"List{what}", ("s3:ListBucket",), *(bucket_arn(plan, each) for each in buckets)),
        allow(f"Read{what}", _READ, *(bucket_arn(plan, each) for each in sorted(objects))),
    )


def _keda(plan: Plan) -> Iterator[Object]:
    """What the scalers call.

    Source: KEDA's documentation of the triggers aws-sqs-queue and aws-cloudwatch. CloudWatch's metrics have no ARNs.
    """
    if queues := sqs_queues(plan):  # not that of the dead letters, which scales nothing
        actions = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
        yield allow("QueueLength", actions, *(arn(plan, "sqs", each) for each in queues))
    if plan.spec.keda.scalers.cloudwatch:
        yield allow("Metrics", ("cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics"), "*")


def _secrets(plan: Plan) -> Object:
    actions = ("secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret")
    return allow("Secrets", actions, arn(plan, "secretsmanager", f"secret:{plan.cluster}/*"))


def _unknown_account(plan: Plan) -> str:
    return "" if plan.account else "ARNs have * for the account: global.cluster.account is not known."
