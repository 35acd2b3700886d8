"""A Job on spot nodes counts interruptions as its own failures.

`backoffLimit` (6 unless written) is meant for a program that fails. Evictions count, too: a long Job on spot nodes
can use all of it up without one fault of its own. A pod failure policy tells the two apart; it needs `restartPolicy:
Never`.

Symptom: a Job fails after a week although each pod would have gone on from its checkpoint

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
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
      podFailurePolicy:
        rules:
        - action: Ignore
          onPodConditions: [{type: DisruptionTarget, status: "True"}]
      template:
        spec:
          restartPolicy: Never
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: train, image: "example.com/train:v1"}]

Source: Kubernetes documentation, tasks/job/pod-failure-policy
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption.spot_loss_is_fatal import JOB_SPECS, ignores_disruption


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(JOB_SPECS):
        path = JOB_SPECS[workload.kind]
        limit = workload.manifest.get(*path, "backoffLimit", default=6)
        if limit == 0 or ignores_disruption(workload.manifest.get(*path)) or pools(cluster).spot(workload) == "never":
            continue
        yield Problem(
            workload.manifest,
            (*path, "podFailurePolicy"),
            f"each spot node that is taken counts against the {limit} failures that the Job may have",
            hint="podFailurePolicy with the action Ignore on the condition DisruptionTarget",
        )


RULE = Rule(
    "STK-DISRUPTION-015", Severity.INFO, "A Job on spot nodes counts interruptions as failures", check, __name__
)
