"""Runs of a CronWorkflow may pile up.

With concurrencyPolicy Allow, which is the default, a run that takes longer than the interval has the next one beside
it, and so on: on GPUs that is an expensive pile, and two trainings may write one checkpoint.

Symptom: three nightly trainings run at noon

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: CronWorkflow
    metadata: {name: nightly}
    spec:
      schedules: ["0 1 * * *"]
      workflowSpec:
        entrypoint: train
        templates:
        - name: train
          container: {image: "registry.example.com/train:1.0", command: [train]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: CronWorkflow
    metadata: {name: nightly}
    spec:
      schedules: ["0 1 * * *"]
      concurrencyPolicy: Forbid
      workflowSpec:
        entrypoint: train
        templates:
        - name: train
          container: {image: "registry.example.com/train:1.0", command: [train]}

Source: argoproj/argo-workflows@v4.1.2 docs/cron-workflows.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import GROUP, schedules


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("CronWorkflow", group=GROUP):
        if schedules(manifest) and manifest.get("spec", "concurrencyPolicy") in (None, ""):
            yield Problem(
                manifest,
                ("spec", "concurrencyPolicy"),
                "a run that takes longer than the interval has the next one beside it",
                hint="concurrencyPolicy: Forbid or Replace; Allow, if that is meant",
            )


RULE = Rule("STK-ARGO-015", Severity.INFO, "Runs of a CronWorkflow may pile up", check, __name__)
