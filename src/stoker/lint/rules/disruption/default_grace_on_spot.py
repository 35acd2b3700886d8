"""Pods with GPUs on spot nodes have the default of 30 s to end.

A spot node is taken two minutes after its notice. Without `terminationGracePeriodSeconds` a pod has 30 s of them:
then SIGKILL, though the node would live for another minute. A server cuts answers that it could have finished, and a
training process loses the checkpoint that it was writing. A template of an Argo Workflow has no such field; it takes
the period by `podSpecPatch`.

Symptom: exit code 137 some 30 s after a spot interruption
Symptom: the newest checkpoint is older than the interruption by a whole interval

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers:
          - name: train
            image: example.com/train:v1
            resources: {limits: {nvidia.com/gpu: 1}}

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          terminationGracePeriodSeconds: 110
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers:
          - name: train
            image: example.com/train:v1
            resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, concepts/workloads/pods/pod-lifecycle (termination of pods)
Source: Amazon EC2 user guide, Spot Instance interruption notices
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import DEFAULT_GRACE_S
from stoker.manifests.workloads import Workload

_FIELD = "terminationGracePeriodSeconds"
_ARGO = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads:
        grace = workload.spec.get(_FIELD)
        if grace is not None and (grace != 0 or isinstance(grace, bool)):
            continue
        if not nodes.gpus(workload) or nodes.spot(workload) == "never" or _is_patched(workload):
            continue
        given = f"the default of {DEFAULT_GRACE_S} s" if grace is None else "no time"
        argo = workload.kind in _ARGO
        yield Problem(
            workload.manifest,
            (*workload.path, "podSpecPatch" if argo else _FIELD),
            f"{workload} can be on spot nodes and has {given} to end, of the 120 s that a spot notice gives",
            hint=f"podSpecPatch: '{{\"{_FIELD}\": 110}}'" if argo else f"{_FIELD}: 110",
            severity=Severity.INFO if argo else None,
        )


def _is_patched(workload: Workload) -> bool:
    """Whether an Argo template or its workflow patches the pod with a period."""
    patches = (workload.spec.get("podSpecPatch"), workload.manifest.get("spec", "podSpecPatch"))
    return workload.kind in _ARGO and any(_FIELD in str(each) for each in patches)


RULE = Rule(
    "STK-DISRUPTION-009",
    Severity.WARNING,
    "Pods with GPUs on spot nodes have the default grace period",
    check,
    __name__,
    guide=("R21",),
)
