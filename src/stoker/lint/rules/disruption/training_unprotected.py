"""Karpenter may take the node of a training pod away.

Consolidation moves pods to cheaper nodes and drift replaces nodes for a new AMI; both evict whatever runs there. A
training job loses what it did since its last checkpoint, and all ranks wait for the one. Pods say that they are not
to be moved with `karpenter.sh/do-not-disrupt: "true"`. Nothing is said where the pool itself forbids it: `WhenEmpty`,
and a budget of 0 nodes that holds for drift.

Symptom: training starts again from a checkpoint at night, after an AMI was released
Symptom: NCCL time-outs on all ranks after one pod was evicted

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Master:
          replicas: 1
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}]

Right:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Master:
          replicas: 1
          template:
            metadata:
              annotations: {karpenter.sh/do-not-disrupt: "true"}
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources: {limits: {nvidia.com/gpu: 8}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}]

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md (Pod-Level Controls)
Source: kubernetes-sigs/karpenter@v1.14.1 pkg/apis/v1/nodepool.go (budgets by reason)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import Pool, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import DO_NOT_DISRUPT, ONE_SHOT_KINDS, TRAINING_KINDS, allows_no_drift


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    if not nodes.all:
        return
    for workload in cluster.workloads_like(ONE_SHOT_KINDS):
        if not nodes.gpus(workload) or workload.annotations.get(DO_NOT_DISRUPT, "false") != "false":
            continue
        found = nodes.of(workload)
        if found and all(_leaves_alone(pool) for pool in found):
            continue
        where = f" in pool {', '.join(pool.name for pool in found)}" if found else ""
        yield Problem(
            workload.manifest,
            (*workload.meta, "annotations", DO_NOT_DISRUPT),
            f"{workload} has no {DO_NOT_DISRUPT}: consolidation and drift{where} may evict it",
            hint=f'{DO_NOT_DISRUPT}: "true" among the annotations of the pod template',
            severity=None if workload.kind in TRAINING_KINDS else Severity.INFO,
        )


def _leaves_alone(pool: Pool) -> bool:
    """Whether the pool itself keeps Karpenter from moving a pod that runs."""
    return pool.manifest.get("spec", "disruption", "consolidationPolicy") == "WhenEmpty" and allows_no_drift(
        pool.manifest
    )


RULE = Rule(
    "STK-DISRUPTION-016",
    Severity.WARNING,
    "Karpenter may take the node of a training pod away",
    check,
    __name__,
    guide=("S16", "S21"),
)
