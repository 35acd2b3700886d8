"""Where weights come from; and which they are, where only their place is named and a Job or init container fills it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stoker.manifests.objects import Manifest, sections
from stoker.manifests.workloads import Workload, workloads_of
from stoker.simulate.reading_commands import Configs, environment

MODEL_VARIABLES = (
    "MODEL_ID",
    "HF_MODEL_ID",
    "OPTION_MODEL_ID",
    "MODEL",
    "MODEL_NAME",
    "VLLM_MODEL",
    "MODEL_PATH",
    "NIM_MODEL_NAME",
)
_S3_COPY = re.compile(r"s3://|s5cmd|aws s3|rclone|s3-sync")
_S3_URL = re.compile(r"s3://[\w./-]+")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DOWNLOAD = re.compile(
    r"(?:hf|huggingface-cli)\s+download\s+([\w.-]+/[\w.-]+)"
    r"|snapshot_download\(\s*(?:repo_id\s*=\s*)?[\"']([\w.-]+/[\w.-]+)[\"']"
)


def brought(manifests: Sequence[Manifest], configs: Mapping[str, Configs]) -> dict[str, str]:
    """By place in S3, the model of the hub that a Job puts there."""
    found = {}
    for each in manifests:
        if each.kind not in ("Job", "CronJob"):
            continue
        for workload in workloads_of(each):
            own = configs.get(workload.namespace, {})
            for _, container in workload.containers(init=True):
                texts = _texts(container, own)
                name = _hub_name(container, own)
                places = [url for text in texts for url in _S3_URL.findall(text)]
                if name:
                    found.update({place.rstrip("/"): name for place in places})
    return found


def downloaded(workload: Workload, configs: Configs) -> str:
    """The model that an init container fetches from the hub; empty where none does."""
    inits = (each for _, each in sections(workload.spec.get("initContainers")))
    return next((name for each in inits if (name := _hub_name(each, configs))), "")


def _hub_name(container: dict[str, Any], configs: Configs) -> str:
    match = _DOWNLOAD.search(" ".join([*_listed(container.get("command")), *_listed(container.get("args"))]))
    if match is not None:
        return match[1] or match[2]
    env = environment(container, configs)
    return next((env[key] for key in MODEL_VARIABLES if _HUB_NAME.fullmatch(env.get(key, ""))), "")


def _texts(container: dict[str, Any], configs: Configs) -> list[str]:
    env = environment(container, configs).values()
    return [*_listed(container.get("command")), *_listed(container.get("args")), *env]


def weights_from(
    spec: Mapping[str, Any], main: dict[str, Any], weights: str, env: Mapping[str, str], configs: Configs
) -> Literal["hub", "s3", "volume", "node", "none"]:
    """Where a replica loads them from. `weights` as the engine is told; `main` is the container that serves."""
    if weights.startswith(("s3://", "gs://")):
        return "s3"
    volume = _volume_of(spec, main, weights if weights.startswith("/") else env.get("HF_HOME", ""))
    if volume is None and not weights:
        # An own server: a claim among its volumes holds the weights, whatever they are called.
        volume = next((each for _, each in sections(spec.get("volumes")) if "persistentVolumeClaim" in each), None)
    if volume is not None and "persistentVolumeClaim" in volume:
        return "volume"
    if volume is not None and ("hostPath" in volume or "image" in volume):
        return "node"
    if _copies_from_s3(spec, configs) or any("S3" in key and "BUCKET" in key for key in env):
        return "s3"
    if weights.startswith("/"):
        return "node" if volume is None else "hub"
    return "hub" if weights else "none"


def _volume_of(spec: Mapping[str, Any], container: dict[str, Any], path: str) -> dict[str, Any] | None:
    """The volume in which a path of the container is."""
    mounts = [
        (str(each.get("mountPath")).rstrip("/"), each.get("name"))
        for _, each in sections(container.get("volumeMounts"))
        if path and f"{path}/".startswith(str(each.get("mountPath")).rstrip("/") + "/")
    ]
    if not mounts:
        return None
    _, name = max(mounts, key=lambda pair: len(pair[0]))
    return next((each for _, each in sections(spec.get("volumes")) if each.get("name") == name), None)


def _copies_from_s3(spec: Mapping[str, Any], configs: Configs) -> bool:
    for _, each in sections(spec.get("initContainers")):
        if any(_S3_COPY.search(text) for text in _texts(each, configs)):
            return True
    return False


def _listed(tree: Any) -> list[str]:
    return [str(each) for each in tree] if isinstance(tree, list) else []
