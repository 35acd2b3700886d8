"""A device is asked for that the instance type has not, or not as many.

A pod that names its instance type, or family, and more GPUs than that has, is never scheduled. g5.xlarge to
g5.16xlarge have one GPU but for the 12xlarge, whatever their number says. NVIDIA GPUs and Neuron devices are in
different machines; no type has both.

Symptom: Pending with "Insufficient nvidia.com/gpu", and no node is launched

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {node.kubernetes.io/instance-type: g5.4xlarge}
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 2}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {node.kubernetes.io/instance-type: g5.12xlarge}
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 4}}

Source: Amazon EC2 instance types, as in Stoker's catalogue
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.catalog.labels import AWS, INSTANCE_TYPE
from stoker.lint.cluster import Cluster
from stoker.lint.pools import EFA, GPU, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import look
from stoker.manifests.workloads import Workload
from stoker.policy.placement import PodView
from stoker.spec.faults import Path

_NEURON = ("aws.amazon.com/neuron", "aws.amazon.com/neuroncore", "aws.amazon.com/neurondevice")
_FAMILY = f"{AWS}/instance-family"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        pod = pod_view(workload)
        neuron = next((each for each in _NEURON if pod.requests.get(each)), None)
        if neuron and pod.requests.get(GPU):
            message = f"{GPU} and {neuron} in one pod: no instance type has both"
            yield Problem(workload.manifest, _place(workload, neuron), message, hint="one of the two")
        # Where pools are in sight, whether the pod fits one of them says more.
        elif not pools(cluster).all:
            yield from _too_many(workload, pod)


def _too_many(workload: Workload, pod: PodView) -> Iterator[Problem]:
    wanted = {each: pod.requests[each] for each in (GPU, EFA, *_NEURON) if pod.requests.get(each)}
    types = _named(pod) if wanted else []
    for device, number in wanted.items():
        most = max((each.allocatable.get(device, 0) for each in types), default=None)
        if most is not None and most < number:
            names = ", ".join(sorted(each.name for each in types)[:3])
            yield Problem(
                workload.manifest,
                _place(workload, device),
                f"{number} of {device} wanted, and {names} {'have' if len(types) > 1 else 'has'} {most}",
                hint="a type that has as many",
            )


def _named(pod: PodView) -> list[InstanceType]:
    """The types that the pod names, by name or family; none where one of its alternatives leaves it open."""
    names: set[str] = set()
    families: set[str] = set()
    for asked in pod.requirements:
        by_name, by_family = asked.get(INSTANCE_TYPE), asked.get(_FAMILY)
        if by_name is not None and not by_name.complement:
            names |= by_name.values
        elif by_family is not None and not by_family.complement:
            families |= by_family.values
        else:
            return []
    return [each for each in instance_types().values() if each.name in names or each.family in families]


def _place(workload: Workload, device: str) -> Path:
    for path, container in workload.containers():
        for part in ("limits", "requests"):
            if look(container, "resources", part, device) is not None:
                return (*path, "resources", part, device)
    return workload.path


RULE = Rule("STK-GPU-018", Severity.ERROR, "A device is asked for that the instance type has not", check, __name__)
