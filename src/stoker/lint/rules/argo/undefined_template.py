"""A task calls a template that is not there.

The controller refuses the workflow before it runs anything: the definition of the kind cannot see this, so that the
API server takes it.

Symptom: invalid spec: templates.pipeline.tasks.prepare template name 'prepare' undefined

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: pipeline
      serviceAccountName: workflow
      templates:
      - name: pipeline
        dag:
          tasks:
          - {name: prepare, template: data-preparation}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: pipeline
      serviceAccountName: workflow
      templates:
      - name: pipeline
        dag:
          tasks:
          - {name: prepare, template: data-preparation}
      - name: data-preparation
        container: {image: "registry.example.com/prepare:1.0", command: [prepare]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows
from stoker.manifests.objects import filled_in_later


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        if flow.borrowed:
            continue
        known = ", ".join(flow.by_name) or "none"
        for path, name in flow.names_called():
            if name and not filled_in_later(name) and name not in flow.by_name:
                yield Problem(
                    flow.manifest,
                    path,
                    f"no template {name}: the workflow is refused before its first step",
                    hint=f"one of its templates ({known}), or a templateRef to another's",
                )


RULE = Rule(
    "STK-ARGO-001", Severity.ERROR, "A task calls a template that is not there", check, __name__, guide=("R15",)
)
