"""AWS resources as Kubernetes objects (ACK): buckets, the queue of dead letters, repositories, roles, add-ons.

What is named by the spec and exists already is refused by ACK ("already exists", in the conditions of the object), and
left as it is. What holds data stays when its object is deleted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from stoker.render import aws_secrets, iam, sagemaker
from stoker.render.hcl import Block
from stoker.render.iam import COMPONENT, tag_list
from stoker.render.items import Item, Resource, Terraform
from stoker.render.objects import Object, metadata
from stoker.render.plan import Image, Plan

_RETAIN = {"services.k8s.aws/deletion-policy": "retain"}
"""Source: ACK documentation, "Retain AWS resources after deletion"."""
_DAY_S = 86_400
LETTERS_KEPT_S = 14 * _DAY_S
EBS_ROLE = "ebs-csi-controller"


@dataclass(frozen=True)
class Bucket:
    what: Literal["models", "checkpoints"]
    name: str
    uses: tuple[str, ...]
    old_days: int
    """Days that a version which is not the newest stays."""
    is_said: bool
    """Whether the spec names it, so that it may be there."""


@dataclass(frozen=True)
class Addon:
    name: str
    why: str
    account: str | None = None
    """Its ServiceAccount in kube-system, where it calls AWS."""
    policies: tuple[str, ...] = ()
    """What its role may do: AWS' own policies."""


def render(plan: Plan) -> Iterator[Item]:
    yield from aws_secrets.terraform(plan)
    yield from _alerts_topic(plan)
    if not plan.by_ack:
        return
    yield from aws_secrets.empty(plan)
    yield from (_bucket(plan, each) for each in buckets(plan))
    yield from _dead_letters(plan)
    yield from _repositories(plan)
    for who in iam.identities(plan):
        yield from iam.identity(plan, who)
    for addon in addons(plan):
        yield from _addon(plan, addon)
    yield from _capabilities(plan)
    if plan.spec.composition.ack.sagemaker:
        yield from sagemaker.render(plan)


def buckets(plan: Plan) -> Iterator[Bucket]:
    models = plan.bucket("models") if plan.cache == "s3" else None
    checkpoints = plan.bucket("checkpoints") if plan.spec.training.enabled else None
    said = plan.spec.llm.inference.cache.bucket, plan.spec.training.checkpointing.s3_bucket
    if models is not None:
        uses = ("weights of models", *(("checkpoints",) if checkpoints == models else ()))
        yield Bucket("models", models, uses, old_days=30, is_said=models == said[0])
    if checkpoints is not None and checkpoints != models:
        yield Bucket("checkpoints", checkpoints, ("checkpoints",), old_days=7, is_said=checkpoints == said[1])


def _bucket(plan: Plan, said: Bucket) -> Item:
    name = said.name
    comment = f"For {' and '.join(said.uses)}. Deleting this object leaves the bucket and what is in it."
    if said.is_said:
        comment += " If it is there already, ACK refuses to touch it, and this file can be left out."
    block = dict.fromkeys(("blockPublicACLs", "blockPublicPolicy", "ignorePublicACLs", "restrictPublicBuckets"), True)
    rule = {
        "id": "old",
        "status": "Enabled",
        "filter": {"prefix": ""},
        "noncurrentVersionExpiration": {"noncurrentDays": said.old_days},
        "expiration": {"expiredObjectDeleteMarker": True},
        "abortIncompleteMultipartUpload": {"daysAfterInitiation": 7},
    }
    # us-east-1 is what S3 takes for no location, and the only region that may not be named as one.
    where = {} if plan.region == "us-east-1" else {"createBucketConfiguration": {"locationConstraint": plan.region}}
    spec: Object = {
        "name": name,
        **where,
        "encryption": {
            "rules": [
                {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}, "bucketKeyEnabled": True},
            ]
        },
        "publicAccessBlock": block,
        "ownershipControls": {"rules": [{"objectOwnership": "BucketOwnerEnforced"}]},
        "versioning": {"status": "Enabled"},
        "lifecycle": {"rules": [rule]},
        "policy": iam.policy(only_tls("s3:*", iam.bucket_arn(plan, name), iam.bucket_arn(plan, f"{name}/*"))),
        "tagging": {"tagSet": tag_list(plan)},
    }
    found = {
        "apiVersion": "s3.services.k8s.aws/v1alpha1",
        "kind": "Bucket",
        "metadata": metadata(plan, said.what, COMPONENT, namespace=plan.namespace, annotations=_RETAIN),
        "spec": spec,
    }
    return Resource(f"aws/bucket-{said.what}.yaml", found, comment)


def only_tls(action: str, *resources: Any) -> Object:
    return {
        "Sid": "OnlyTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def _dead_letters(plan: Plan) -> Iterator[Item]:
    """The queue to which gateways forward dead letters. It is where letters end, so no queue may have it as its own
    dead-letter queue, and it has none."""
    if not plan.spec.keda.scalers.sqs:
        return
    name = plan.spec.queue.dead_letters.sqs_queue
    spec: Object = {
        "queueName": name,
        "messageRetentionPeriod": str(LETTERS_KEPT_S),
        "sqsManagedSSEEnabled": "true",
        "redriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}),
    }
    if name.endswith(".fifo"):
        spec["fifoQueue"] = "true"
    if plan.account is not None:  # a queue's policy names the queue by its ARN
        spec["policy"] = iam.policy(only_tls("sqs:*", iam.dead_letters_arn(plan)))
    found = {
        "apiVersion": "sqs.services.k8s.aws/v1alpha1",
        "kind": "Queue",
        "metadata": metadata(plan, "dead-letters", COMPONENT, namespace=plan.namespace, annotations=_RETAIN),
        "spec": {**spec, "tags": plan.tags},
    }
    comment = "keda.scalers.sqs is on. Letters stay for 14 days, the most that SQS allows; prompts are in them."
    yield Resource("aws/queue-dead-letters.yaml", found, comment)


def _alerts_topic(plan: Plan) -> Iterator[Item]:
    """The topic that is told of budgets, where `costs.alerts.sns` is a name. Under SNS' own key, which whoever may
    publish in this account may use (Amazon SNS developer guide, "Key management")."""
    name = plan.spec.costs.alerts.sns
    if name is None or name.startswith("arn:"):
        return
    attributes = {"name": name, "kms_master_key_id": "alias/aws/sns", "tags": plan.tags}
    why = "Gateways publish here that a budget is being used up (costs.alerts). Who hears it subscribes."
    yield Terraform("terraform/alerts.tf", Block("resource", ("aws_sns_topic", "alerts"), attributes), why)


def repositories(plan: Plan) -> Iterator[Image]:
    """Where Stoker's own images are pushed to, unless the spec names a registry."""
    if plan.spec.global_.images.registry is not None:
        return
    training = plan.spec.training
    yield "gateway"
    yield "worker"
    if plan.has_agents:
        yield "agents"
    if training.enabled and training.image is None:
        yield "trainer"


def repository(part: Image) -> str:
    return f"stoker/{part}"


def kept_images() -> str:
    """A repository's lifecycle policy."""
    untagged = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}
    many = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 100}
    rules = [
        {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}
        for priority, selection in enumerate((untagged, many), start=1)
    ]
    return json.dumps({"rules": rules}, indent=2)


def _repositories(plan: Plan) -> Iterator[Item]:
    for part in repositories(plan):
        spec = {
            "name": repository(part),
            "imageTagMutability": "IMMUTABLE",
            "imageScanningConfiguration": {"scanOnPush": True},
            "encryptionConfiguration": {"encryptionType": "KMS"},
            "lifecyclePolicy": kept_images(),
            "tags": tag_list(plan),
        }
        found = {
            "apiVersion": "ecr.services.k8s.aws/v1alpha1",
            "kind": "Repository",
            "metadata": metadata(plan, f"stoker-{part}", COMPONENT, namespace=plan.namespace, annotations=_RETAIN),
            "spec": spec,
        }
        pods = (
            f"Pods pull {plan.image(part)}." if plan.account else "Pods name it once global.cluster.account is known."
        )
        yield Resource("aws/repositories.yaml", found, f"{pods} A tag that was pushed stays what it is.")


def addons(plan: Plan) -> Iterator[Addon]:
    """What this platform needs beside what every cluster has. Auto Mode brings Pod Identity and EBS with it, EFS and
    FSx it does not; where it runs only the CPU nodes, the others need the agent of Pod Identity.

    Versions are EKS' default for the version of the cluster: which that is, is not known here.
    Source: awsdocs/amazon-eks-user-guide, workloads-add-ons-available-eks, automode; for the policy of the EBS driver,
    which allows it no volumes but those it made, kubernetes-sigs/aws-ebs-csi-driver issue 2918.
    """
    if plan.mode != "auto":
        yield Addon("eks-pod-identity-agent", "Pods get their roles' credentials from it.")
    if plan.mode == "karpenter":
        why = "Volumes of Redis and the ledger."
        yield Addon("aws-ebs-csi-driver", why, "ebs-csi-controller-sa", ("AmazonEBSCSIDriverPolicyV2",))
    cache = plan.spec.llm.inference.cache
    of_training = plan.spec.training.enabled and plan.spec.training.storage.enabled
    # They mount file systems that are there, by id, for which the drivers call nothing in AWS: so they have no role.
    if plan.cache == "efs":
        yield Addon("aws-efs-csi-driver", f"Replicas mount {cache.file_system}.")
    if plan.cache == "fsx" or of_training:
        who = " and ".join((["Replicas"] if plan.cache == "fsx" else []) + (["training jobs"] if of_training else []))
        yield Addon("aws-fsx-csi-driver", f"{who[0].upper()}{who[1:]} mount FSx for Lustre.")


def _addon(plan: Plan, said: Addon) -> Iterator[Item]:
    identities: list[Object] = []
    if said.account is not None:
        trust = iam.pod_trust(plan, "kube-system", said.account)
        role = iam.role(plan, EBS_ROLE, trust, managed=said.policies)
        yield Resource("aws/addons.yaml", role, "Makes and attaches volumes.")
        identities = [{"serviceAccount": said.account, "roleRef": {"from": {"name": EBS_ROLE}}}]
    name = said.name
    spec: Object = {"name": name, "clusterName": plan.cluster}
    if identities:
        spec["podIdentityAssociations"] = identities
    found = {
        "apiVersion": "eks.services.k8s.aws/v1alpha1",
        "kind": "Addon",
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.namespace),
        "spec": {**spec, "tags": plan.tags},
    }
    yield Resource("aws/addons.yaml", found, f"{said.why} In the version that is EKS' default for the cluster's.")


def _capabilities(plan: Plan) -> Iterator[Item]:
    """kro as the EKS capability. ACK's cannot be made by itself, and Argo CD's needs an instance of IAM Identity
    Center, which the spec does not know: docs/render/aws.md has the commands.

    Source: awsdocs/amazon-eks-user-guide, capability-role, create-kro-capability;
    aws-controllers-k8s/eks-controller@v1.20.0 Capability CRD.
    """
    if not plan.spec.composition.kro or plan.account is None:
        return
    trust = iam.service_trust("capabilities.eks.amazonaws.com", tag=True)
    file = "aws/capability-kro.yaml"
    yield Resource(file, iam.role(plan, "kro", trust), "kro calls nothing in AWS: the role has no rights.")
    found = {
        "apiVersion": "eks.services.k8s.aws/v1alpha1",
        "kind": "Capability",
        "metadata": metadata(plan, "kro", COMPONENT, namespace=plan.namespace),
        "spec": {
            "name": "kro",
            "clusterName": plan.cluster,
            "type": "KRO",
            "roleRef": {"from": {"name": "kro"}},
            "deletePropagationPolicy": "RETAIN",
            "tags": plan.tags,
        },
    }
    comment = (
        "composition.kro is on, and graphs need a kro. Leave this file out where the cluster has one of its own: two "
        "would make the same objects."
    )
    yield Resource(file, found, comment)
