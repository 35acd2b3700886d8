"""The loss of one spot node fails a job for good.

A pod that is evicted because its node is taken counts as failed. With `backoffLimit: 0` the Job is over; a PyTorchJob
whose replicas have `restartPolicy: Never` is, too. On spot nodes that is a matter of time, and the work has to be
begun again by hand.

Symptom: Job has reached the specified backoff limit, after a spot interruption

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: train, image: "example.com/train:v1"}]

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      backoffLimit: 0
      podFailurePolicy:
        rules:
        - action: Ignore
          onPodConditions: [{type: DisruptionTarget, status: "True"}]
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: train, image: "example.com/train:v1"}]

Source: Kubernetes documentation, concepts/workloads/controllers/job (pod failure policy, backoff policy)
Source: kubeflow/trainer@v1.9.4 pkg/apis/kubeflow.org/v1/common_types.go (RestartPolicy)
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

JOB_SPECS: dict[str, Path] = {
    "Job": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec"),
    "ScaledJob": ("spec", "jobTargetRef"),
}
"""Where the spec of the Job stands in each kind."""
_HINT = "podFailurePolicy with the action Ignore on the condition DisruptionTarget"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if pools(cluster).spot(workload) != "never":
            yield from _of_job(workload)
            yield from _of_replicas(workload)


def _of_job(workload: Workload) -> Iterator[Problem]:
    path = JOB_SPECS.get(workload.kind)
    if path is None:
        return
    limit = workload.manifest.get(*path, "backoffLimit")
    if limit == 0 and not isinstance(limit, bool) and not ignores_disruption(workload.manifest.get(*path)):
        message = "backoffLimit: 0 on spot nodes: the first that is taken fails the Job for good"
        yield Problem(workload.manifest, (*path, "backoffLimit"), message, hint=_HINT)


def _of_replicas(workload: Workload) -> Iterator[Problem]:
    if workload.kind != "PyTorchJob":
        return
    path = workload.path[:-2]  # the replica's spec, around template.spec
    if workload.manifest.get(*path, "restartPolicy") == "Never":
        yield Problem(
            workload.manifest,
            (*path, "restartPolicy"),
            "restartPolicy: Never on spot nodes: the first that is taken fails the whole job",
            hint="restartPolicy: OnFailure, with checkpoints to start from",
        )


def ignores_disruption(job: Any) -> bool:
    """Whether pods that were evicted do not count as failures of the Job."""
    return any(
        rule.get("action") == "Ignore" and condition.get("type") == "DisruptionTarget"
        for _, rule in sections(look(job, "podFailurePolicy", "rules"))
        for _, condition in sections(rule.get("onPodConditions"))
    )


RULE = Rule("STK-DISRUPTION-014", Severity.WARNING, "The loss of one spot node fails a job for good", check, __name__)
