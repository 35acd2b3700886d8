"""A pool's terminationGracePeriod overrules do-not-disrupt.

With `terminationGracePeriod` in its template a NodePool may replace nodes for drift although a pod on it says that it
is not to be disrupted: the node is drained, and the pod is deleted when the period is over, less its own grace
period. That is what the field is for. A training job that runs longer than the period is not protected from a new
AMI, unless a budget of the pool allows no drift at all.

Symptom: a pod with do-not-disrupt is deleted some hours after a new AMI came out

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
          terminationGracePeriod: 1h
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

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md (TerminationGracePeriod)
Source: Karpenter documentation, reference/annotations (karpenter.sh/do-not-disrupt)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import DO_NOT_DISRUPT, ONE_SHOT_KINDS, TRAINING_KINDS, allows_no_drift


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(ONE_SHOT_KINDS):
        if workload.annotations.get(DO_NOT_DISRUPT) != "true":
            continue
        for pool in pools(cluster).of(workload):
            period = pool.manifest.get("spec", "template", "spec", "terminationGracePeriod")
            if isinstance(period, str) and not allows_no_drift(pool.manifest):
                yield Problem(
                    workload.manifest,
                    (*workload.meta, "annotations", DO_NOT_DISRUPT),
                    f"pool {pool.name} has terminationGracePeriod: {period}, so drift deletes the pod after that time",
                    hint="a pool for training without terminationGracePeriod, or with one that is longer than the job",
                    severity=None if workload.kind in TRAINING_KINDS else Severity.INFO,
                )


RULE = Rule(
    "STK-DISRUPTION-022",
    Severity.WARNING,
    "A pool's terminationGracePeriod overrules do-not-disrupt",
    check,
    __name__,
)
