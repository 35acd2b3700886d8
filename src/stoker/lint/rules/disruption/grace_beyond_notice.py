"""A grace period is longer than the notice of a spot node.

EC2 takes a spot node two minutes after the notice, whatever the pods still do. A drain that needs more than that is
cut in the middle; what must be saved has to be saved before. Where the pool also has on-demand nodes the longer
period is of use there, and this is a note.

Symptom: pods on spot nodes vanish before their grace period is over

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: train}
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          terminationGracePeriodSeconds: 600
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: train, image: "example.com/train:v1"}]

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
          containers: [{name: train, image: "example.com/train:v1"}]

Source: Amazon EC2 user guide, Spot Instance interruption notices
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import SPOT_NOTICE_S, grace_s


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        grace = grace_s(workload)
        if grace <= SPOT_NOTICE_S:
            continue
        spot = pools(cluster).spot(workload)
        if spot != "never":
            yield Problem(
                workload.manifest,
                (*workload.path, "terminationGracePeriodSeconds"),
                f"{grace} s to end, but a spot node is gone {SPOT_NOTICE_S} s after its notice",
                hint="at most 110 on spot nodes, or on-demand nodes only",
                severity=None if spot == "only" else Severity.INFO,
            )


RULE = Rule(
    "STK-DISRUPTION-010",
    Severity.WARNING,
    "A grace period is longer than the notice of a spot node",
    check,
    __name__,
    guide=("R21",),
)
