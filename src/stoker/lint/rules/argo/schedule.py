"""The schedule of a CronWorkflow cannot be read.

Five fields, and values that exist: anything else is refused by the controller, and nothing ever starts.

Symptom: cron schedule is malformed: end of range (25) above maximum (23)

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: CronWorkflow
    metadata: {name: nightly}
    spec:
      schedules: ["0 25 * * *"]
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
from stoker.manifests.objects import filled_in_later
from stoker.policy import cron


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("CronWorkflow", group=GROUP):
        for path, text in schedules(manifest):
            fault = "" if filled_in_later(text) else cron.fault(text)
            if fault:
                yield Problem(
                    manifest,
                    path,
                    f"{text!r} {fault}: nothing is ever started",
                    hint="minute, hour, day of the month, month, day of the week: '0 1 * * *'",
                )


RULE = Rule("STK-ARGO-014", Severity.ERROR, "The schedule of a CronWorkflow cannot be read", check, __name__)
