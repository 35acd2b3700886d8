"""What a node of Karpenter's is told at its start: fast image pulls, GPUs cut by MIG.

In the form of its image: AL2023 takes a multipart text whose parts are nodeadm's NodeConfig and shell scripts (which
run before the kubelet does), Bottlerocket takes TOML. Karpenter adds its own settings to either.
"""

from collections.abc import Iterator, Sequence

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import InstanceType
from stoker.render.sharing import bottlerocket_name
from stoker.spec import Gpu

_FAST_PULL_SINCE = 20250901
"""AL2023 of this day and later knows nodeadm's feature gate FastImagePull (awslabs/amazon-eks-ami, nodeadm's feature
gates): the SOCI snapshotter fetches and unpacks the layers of an image in parallel."""
_SOCI_SINCE, _MIG_SINCE, _MPS_SINCE = (1, 44), (1, 34), (1, 54)
"""Bottlerocket's releases with each of these settings (bottlerocket.dev, settings container-runtime-plugins and
kubelet-device-plugins)."""


def user_data(image: str, types: Sequence[InstanceType], *, fast_pull: bool, sharing: Gpu | None) -> str:
    """Empty where the node is to be as its image makes it. Raises InvalidInput for what the image cannot do."""
    if image.startswith("bottlerocket@"):
        return "\n".join(_toml(image, types, fast_pull, sharing))
    parts = list(_parts(image, fast_pull, sharing))
    return _multipart(parts) if parts else ""


def _parts(image: str, fast_pull: bool, sharing: Gpu | None) -> Iterator[tuple[str, str]]:
    if fast_pull and _number(image) >= _FAST_PULL_SINCE:
        yield "application/node.eks.aws", _NODE_CONFIG
    if sharing is not None and sharing.sharing == "mig":
        yield 'text/x-shellscript; charset="us-ascii"', _MIG_SCRIPT.replace("PROFILE", sharing.mig_profile)


_NODE_CONFIG = """\
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  featureGates:
    FastImagePull: true
"""

# A100 take the mode only after a reset; those after it take it at once. Seven slices are the most that a GPU has.
_MIG_SCRIPT = """\
#!/bin/bash
# Cuts each GPU into slices PROFILE. A node that cannot must not join: it would offer whole GPUs by the same name.
set -Eeu
trap 'shutdown -h now' ERR
nvidia-smi -mig 1
if nvidia-smi --query-gpu=mig.mode.current --format=csv,noheader | grep -qv Enabled; then
  nvidia-smi --gpu-reset
fi
for gpu in $(nvidia-smi --query-gpu=index --format=csv,noheader); do
  nvidia-smi mig -i "$gpu" -cgi PROFILE -C
  for more in 2 3 4 5 6 7; do
    nvidia-smi mig -i "$gpu" -cgi PROFILE -C || break
  done
done
"""


def _multipart(parts: Sequence[tuple[str, str]]) -> str:
    lines = ["MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="//"', ""]
    for kind, text in parts:
        lines += ["--//", f"Content-Type: {kind}", "", text]
    return "\n".join([*lines, "--//--", ""])


def _toml(image: str, types: Sequence[InstanceType], fast_pull: bool, sharing: Gpu | None) -> Iterator[str]:
    version = _release(image)
    if fast_pull and version >= _SOCI_SINCE:
        yield '[settings.container-runtime]\nsnapshotter = "soci"\n'
        yield '[settings.container-runtime-plugins.soci-snapshotter]\npull-mode = "parallel-pull-unpack"\n'
    if sharing is not None:
        yield from _sharing_toml(image, version, types, sharing)


def _sharing_toml(image: str, version: tuple[int, ...], types: Sequence[InstanceType], sharing: Gpu) -> Iterator[str]:
    plugin = "settings.kubelet-device-plugins.nvidia"
    if sharing.sharing == "mig":
        unknown = sorted({each.gpu_name for each in types if not bottlerocket_name(each)})
        if version < _MIG_SINCE or unknown:
            raise _cannot(image, "mig" if version < _MIG_SINCE else f"mig on {', '.join(unknown)}", _MIG_SINCE)
        names = sorted({bottlerocket_name(each) for each in types})
        yield f'[{plugin}]\ndevice-partitioning-strategy = "mig"\n'
        yield "\n".join([f"[{plugin}.mig.profile]", *(f'"{each}" = "{sharing.mig_profile}"' for each in names), ""])
        return
    if sharing.sharing == "mps" and version < _MPS_SINCE:
        raise _cannot(image, "mps", _MPS_SINCE)
    yield f'[{plugin}]\ndevice-sharing-strategy = "{sharing.sharing}"\n'
    only_one = "fail-requests-greater-than-one = true\n" if sharing.sharing == "time-slicing" else ""
    yield f"[{plugin}.{sharing.sharing}]\nreplicas = {sharing.share}\nrename-by-default = false\n{only_one}"


def _cannot(image: str, what: str, since: tuple[int, ...]) -> InvalidInput:
    return InvalidInput(
        f"karpenter.image is {image}, and that cannot share GPUs by {what}",
        param="karpenter.image",
        hint=f"al2023@v20260903, or bottlerocket@v{'.'.join(map(str, since))}.0 or later on A100, H100, H200 or B200",
    )


def _number(image: str) -> int:
    """20260903 of `al2023@v20260903`."""
    digits = image.partition("@")[2].lstrip("v").partition(".")[0]
    return int(digits or 0)


def _release(image: str) -> tuple[int, ...]:
    """(1, 55) of `bottlerocket@v1.55.0`."""
    return tuple(int(part or 0) for part in image.partition("@")[2].lstrip("v").split("."))[:2]
