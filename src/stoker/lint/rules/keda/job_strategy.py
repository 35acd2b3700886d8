"""The strategy of a ScaledJob does not fit what its trigger counts.

`default` takes the jobs that run off the number that the trigger gives: right when that number includes what is in
work, too few when it is only what waits. `accurate` takes off only the jobs that have not begun: right for what
waits, too many for the rest.

Symptom: ten tasks wait, ten jobs run, and no job is made
Symptom: twice as many jobs as tasks

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledJob
    metadata: {name: batch}
    spec:
      jobTargetRef:
        template:
          spec:
            restartPolicy: Never
            containers: [{name: worker, image: "batch:v1"}]
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "1"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledJob
    metadata: {name: batch}
    spec:
      jobTargetRef:
        template:
          spec:
            restartPolicy: Never
            containers: [{name: worker, image: "batch:v1"}]
      scalingStrategy: {strategy: accurate}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "1"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledjob-spec.md (scalingStrategy); kedacore/keda@v2.20.2
  pkg/scaling/executor/scale_jobs.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._streams import counts_work
from stoker.lint.rules.keda._views import SCALED_JOB, scaled, text, triggers_of

PATH = ("spec", "scalingStrategy", "strategy")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_JOB):
        counts = {counts_work(trigger) for trigger in triggers_of(manifest)}
        strategy = text(manifest.get(*PATH)) or "default"
        if counts == {False} and strategy == "default":
            told = "default takes running jobs off what only waits: with as many running as waiting, no job is made"
            yield Problem(manifest, PATH, told, hint="strategy: accurate")
        elif counts == {True} and strategy == "accurate":
            told = "accurate makes jobs also for what is already in work, which this trigger counts"
            yield Problem(manifest, PATH, told, hint="strategy: default")


RULE = Rule(
    "STK-KEDA-041",
    Severity.WARNING,
    "The strategy of a ScaledJob does not fit what its trigger counts",
    check,
    __name__,
)
