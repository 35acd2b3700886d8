"""A container with GPUs requests no CPU, or no memory.

Karpenter chooses the instance type by what is requested. With GPUs alone it takes the cheapest type that has them,
which has the least memory and the fewest cores; other pods then fill the rest of the node. A container without a
memory limit is the first to be killed when the node is short.

Symptom: OOMKilled or evicted while the model is loaded
Symptom: the GPU waits for the tokenizer or the data loader

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: example.com/chat:v1
        resources:
          requests: {cpu: 6, memory: 24Gi}
          limits: {nvidia.com/gpu: 1, memory: 24Gi}

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/scheduling.md (resource requests)
Source: Kubernetes documentation, concepts/configuration/manage-resources-containers
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import gpus
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look

_GIVEN_ELSEWHERE = ("TrainingRuntime", "ClusterTrainingRuntime")
"""Each TrainJob says what its nodes have (resourcesPerNode)."""


def check(cluster: Cluster) -> Iterator[Problem]:
    limited = {each.namespace for each in cluster.of("LimitRange")}  # which gives containers what they leave out
    for workload in cluster.workloads:
        if workload.manifest.namespace in limited or "" in limited or look(workload.spec, "resources") is not None:
            continue
        for path, container in workload.containers():
            held = gpus(container)
            if not held:
                continue
            parts = [look(container, "resources", each) for each in ("requests", "limits")]
            written = {key for part in parts if isinstance(part, dict) for key in part}
            missing = [each for each in ("cpu", "memory") if each not in written]
            if missing and not any(isinstance(part, str) for part in parts):  # as a template's value is
                yield Problem(
                    workload.manifest,
                    (*path, "resources", "requests"),
                    f"{held} GPU{'s' if held > 1 else ''} and no request of {' and '.join(missing)}: "
                    "the cheapest node with the GPUs is taken, and filled with others",
                    hint="requests of cpu and memory that the process needs, and a memory limit",
                    severity=Severity.INFO if workload.kind in _GIVEN_ELSEWHERE else None,
                )


RULE = Rule("STK-GPU-016", Severity.WARNING, "A container with GPUs requests no CPU, or no memory", check, __name__)
