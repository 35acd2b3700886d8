"""Where a model's weights come from, the volumes that hold them, and the Job that fetches them once for all replicas.

- From the hub, to the node: each replica downloads to an empty volume of its pod.
- From S3: vLLM streams them to the GPU and writes nothing to disk. So it is with `cache.kind: s3`, from NAME/ of the
  bucket, and for weights whose name is an s3:// URL, whatever the cache.
- From the hub, to EFS or FSx for Lustre: one claim that all replicas mount, with the hub's own cache in it.
"""

import hashlib
from collections.abc import Iterator
from typing import Literal

from stoker.base.errors import InvalidInput
from stoker.render.facts import ROLE, WEIGHTS_ACCOUNT, Served
from stoker.render.items import Item, Resource
from stoker.render.models_scripts import FILL_BUCKET, FILL_FILE_SYSTEM
from stoker.render.objects import (
    Object,
    metadata,
    region_env,
    resources,
    restricted_container,
    restricted_pod,
    selector,
    usual_labels,
)
from stoker.render.plan import Plan

FILLS = "fill"
"""ROLE of the pods of the Jobs."""
VOLUME, FOLDER = "weights", "/weights"
HUB_HOME = f"{FOLDER}/huggingface"
HUB_SECRET = "hub"  # noqa: S105 - the name of a Secret with the key `token`, which may be missing: open weights need none

# Of the hub's files what no replica reads: the same weights in other formats.
_OTHER_FORMATS = "original/* *.pth *.pt *.bin *.gguf *.onnx consolidated*"


def streamed_from(plan: Plan, served: Served) -> str | None:
    """The s3:// URL that vLLM streams the weights from, with a slash at its end, since `code` is not `code-next`. None:
    they are files."""
    if not served.is_on_gpu:
        return None
    if served.weights.startswith("s3://"):
        return served.weights.rstrip("/") + "/"
    if plan.cache != "s3":
        return None
    bucket = plan.bucket("models")
    if bucket is None:
        raise InvalidInput(
            "llm.inference.cache.kind is s3, and neither a bucket nor an account to name one by is written",
            param="llm.inference.cache.bucket",
            hint="write llm.inference.cache.bucket, or global.cluster.account",
        )
    return f"s3://{bucket}/{served.name}/"


def s3_urls(plan: Plan) -> tuple[str, ...]:
    """All that the models' ServiceAccount has to be allowed to list and read."""
    found = (streamed_from(plan, served) for served in plan.served)
    return tuple(dict.fromkeys(url for url in found if url is not None))


def volume(plan: Plan, served: Served) -> Object | None:
    """The pod's volume for weights that are files."""
    if not served.is_on_gpu or streamed_from(plan, served) is not None:
        return None
    if _is_shared(plan):
        return {"name": VOLUME, "persistentVolumeClaim": {"claimName": VOLUME}}
    return {"name": VOLUME, "emptyDir": {"sizeLimit": plan.spec.llm.inference.cache.size}}


def stream_env(region: str) -> list[Object]:
    """For Run:ai's streamer. Without a limit each process that loads (one for each GPU) keeps a buffer in memory for
    all files, up to 40 GB, for which the container would be killed; 0 is room for the largest tensor
    (runai-model-streamer 0.15.0, file_streamer/requests_iterator.py; its docs/src/env-vars.md)."""
    return [*region_env(region), {"name": "RUNAI_STREAMER_MEMORY_LIMIT", "value": "0"}]


def hub_env() -> list[Object]:
    token = {"secretKeyRef": {"name": HUB_SECRET, "key": "token", "optional": True}}
    return [{"name": "HF_HOME", "value": HUB_HOME}, {"name": "HF_TOKEN", "valueFrom": token}]


def render(plan: Plan) -> Iterator[Item]:
    """The claim on the file system, and a Job for each model whose weights have to be brought from the hub."""
    mounting = [served for served in plan.served if volume(plan, served) is not None]
    if mounting and _is_shared(plan):
        yield from _claim(plan)
    filling = [served for served in plan.served if _filled(plan, served) is not None]
    if filling:
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(plan, WEIGHTS_ACCOUNT, "models", namespace=plan.namespace),
            "automountServiceAccountToken": False,
        }
        yield Resource(
            "models/weights.yaml", account, "Pod Identity lets it write to the models' bucket, if there is one."
        )
    for served in filling:
        yield Resource("models/weights.yaml", _job(plan, served), _why_job(plan, served))


def has_jobs(plan: Plan) -> bool:
    return any(_filled(plan, served) is not None for served in plan.served)


def _is_shared(plan: Plan) -> bool:
    return plan.cache in ("efs", "fsx")


def _filled(plan: Plan, served: Served) -> Literal["bucket", "file system"] | None:
    if not served.is_on_gpu or served.weights.startswith("s3://"):
        return None
    return "bucket" if plan.cache == "s3" else "file system" if _is_shared(plan) else None


def _why_job(plan: Plan, served: Served) -> str:
    where = streamed_from(plan, served) or "the file system"
    return (
        f"Once, from the hub: {served.weights} to {where}. Again with other weights or another image, under another "
        "name, since a Job cannot be changed; it does nothing where they are already."
    )


def _job(plan: Plan, served: Served) -> Object:
    """Downloads with what is in vLLM's image: huggingface_hub, which transformers needs, and boto3, which the package
    runai-model-streamer-s3 needs (vllm-project/vllm docker/Dockerfile, which installs `runai-model-streamer[s3,gcs]`;
    the metadata of runai-model-streamer-s3 0.15.0)."""
    name = f"{VOLUME}-{served.name}"[:56] + "-" + _digest(served.weights, served.image)
    # Not the label of a model's replicas: it is none, and nobody is to route requests to it.
    labels = {**selector(name), **usual_labels("models"), ROLE: FILLS}
    to_bucket = _filled(plan, served) == "bucket"
    volumes: list[Object] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": VOLUME, "emptyDir": {"sizeLimit": plan.spec.llm.inference.cache.size}}
        if to_bucket
        else {"name": VOLUME, "persistentVolumeClaim": {"claimName": VOLUME}},
    ]
    env: list[Object] = [
        *hub_env(),
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an empty volume of the pod's own
        {"name": "MODEL", "value": served.weights},
        {"name": "LEFT_OUT", "value": _OTHER_FORMATS},
    ]
    if to_bucket:
        env += [*region_env(plan.region), {"name": "TARGET", "value": streamed_from(plan, served)}]
    container = {
        "name": "fill",
        "image": served.image,
        "command": ["python3", "-c", FILL_BUCKET if to_bucket else FILL_FILE_SYSTEM],
        "env": env,
        "resources": resources("1", "4Gi"),
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": VOLUME, "mountPath": FOLDER}],  # noqa: S108
    }
    pod: Object = {
        "serviceAccountName": WEIGHTS_ACCOUNT,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "securityContext": restricted_pod(),
        **plan.general_placement(),
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(plan, name, "models", namespace=plan.namespace),
        "spec": {
            "backoffLimit": 4,
            # What Karpenter does to its node is no fault of the download's.
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:6]


def _claim(plan: Plan) -> Iterator[Item]:
    cache = plan.spec.llm.inference.cache
    name = f"{plan.namespace}-{VOLUME}"[:63]
    if plan.cache == "efs":
        yield Resource("models/claim.yaml", _efs_class(plan, name), _WHY_EFS)
        bound: Object = {"storageClassName": name}
    else:
        yield Resource("models/claim.yaml", _lustre(plan, name), _WHY_LUSTRE)
        bound = {"storageClassName": "", "volumeName": name}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(plan, VOLUME, "models", namespace=plan.namespace),
        "spec": {"accessModes": ["ReadWriteMany"], **bound, "resources": {"requests": {"storage": cache.size}}},
    }
    yield Resource("models/claim.yaml", claim, "All replicas mount it at once, in every zone.")


_WHY_EFS = (
    "An access point of its own in the file system, whose files belong to the user of the pods: the root of an EFS "
    "file system belongs to root, and pods that are not root could not write there."
)
_WHY_LUSTRE = (
    "The file system as it is. Locks (flock) are for the hub's cache: two replicas that start at once download once. "
    "Its root has to be writable for group 1000 (docs/render/models.md)."
)


def _efs_class(plan: Plan, name: str) -> Object:
    """Source: kubernetes-sigs/aws-efs-csi-driver docs/README.md, storage class parameters."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata(plan, name, "models"),
        "provisioner": "efs.csi.aws.com",
        "parameters": {
            "provisioningMode": "efs-ap",
            "fileSystemId": plan.spec.llm.inference.cache.file_system,
            "directoryPerms": "770",
            "uid": "1000",
            "gid": "1000",
        },
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    }


def _lustre(plan: Plan, name: str) -> Object:
    """Source: kubernetes-sigs/aws-fsx-csi-driver examples/kubernetes/static_provisioning."""
    cache = plan.spec.llm.inference.cache
    suffix = ".cn" if plan.partition == "aws-cn" else ""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata(plan, name, "models"),
        "spec": {
            "capacity": {"storage": cache.size},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "mountOptions": ["flock"],
            "claimRef": {"namespace": plan.namespace, "name": VOLUME},
            "csi": {
                "driver": "fsx.csi.aws.com",
                "volumeHandle": cache.file_system,
                "volumeAttributes": {
                    "dnsname": f"{cache.file_system}.fsx.{plan.region}.amazonaws.com{suffix}",
                    "mountname": cache.mount_name,
                },
            },
        },
    }
