"""GPUs are requested, and no limit is set.

GPUs cannot be shared beyond what there is, so Kubernetes takes them from `limits`. A request without the limit is
refused; the limit alone is enough, as it is the request, too.

Symptom: "Limit must be set for non overcommitable resources"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {requests: {nvidia.com/gpu: 1}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, tasks/manage-gpus/scheduling-gpus
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Add
from stoker.manifests.node_pools import amounts
from stoker.manifests.objects import is_open, look
from stoker.spec.faults import Path

DEVICES = ("nvidia.com/", "amd.com/gpu", "aws.amazon.com/neuron", "habana.ai/", "vpc.amazonaws.com/efa")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            requests, limits = (look(container, "resources", each, default={}) for each in ("requests", "limits"))
            for name, value in requests.items() if isinstance(requests, dict) else ():
                is_device = isinstance(name, str) and name.startswith(DEVICES)
                if not is_device or (isinstance(limits, dict) and name in limits) or is_open(workload.manifest, value):
                    continue
                place: Path = (*path, "resources", "requests", name)
                # Only what is right as a request is right as a limit.
                is_right = amounts({name: value}).get(name) is not None and isinstance(limits, dict)
                edits = (Add((*path, "resources", "limits", name), value),) if is_right else ()
                yield Problem(
                    workload.manifest,
                    place,
                    f"{name} is requested without a limit, which the API server refuses",
                    hint=f"limits: {{{name}: {value}}}",
                    edits=edits,
                )


RULE = Rule("STK-GPU-005", Severity.ERROR, "GPUs are requested, and no limit is set", check, __name__)
