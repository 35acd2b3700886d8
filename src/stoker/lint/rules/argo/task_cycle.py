"""Tasks wait for one another.

Each waits for the other to end, so none begins. The controller refuses the workflow.

Symptom: invalid spec: templates.pipeline.tasks dependency cycle detected

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: pipeline
      templates:
      - name: pipeline
        dag:
          tasks:
          - {name: data, template: work, dependencies: [train]}
          - {name: train, template: work, dependencies: [data]}
      - name: work
        container: {image: "registry.example.com/work:1.0", command: [work]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: pipeline
      templates:
      - name: pipeline
        dag:
          tasks:
          - {name: data, template: work}
          - {name: train, template: work, dependencies: [data]}
      - name: work
        container: {image: "registry.example.com/work:1.0", command: [work]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for template in flow.templates:
            for call in template.calls if template.is_dag else ():
                if call.name in template.before.get(call.name, ()):
                    path, name = next(
                        (path, name)
                        for path, name in call.needs
                        if name == call.name or call.name in template.before.get(name, ())
                    )
                    yield Problem(
                        flow.manifest,
                        path,
                        f"{call.name} waits for {name}, and {name} waits for {call.name}: neither begins",
                        hint="the one direction that is meant",
                    )
                    break  # once for each circle is enough


RULE = Rule("STK-ARGO-004", Severity.ERROR, "Tasks wait for one another", check, __name__)
