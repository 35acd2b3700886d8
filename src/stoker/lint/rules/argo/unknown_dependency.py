"""A task waits for one that is not in its dag.

The controller refuses the workflow. Most often the task was renamed, or is in another template.

Symptom: invalid spec: templates.pipeline.tasks.train dependency 'prepare' not defined

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
          - {name: data, template: work}
          - {name: train, template: work, dependencies: [prepare]}
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
from stoker.manifests.objects import filled_in_later


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for template in flow.templates:
            names = {call.name for call in template.calls}
            for call in template.calls if template.is_dag else ():
                for path, name in call.needs:
                    if name not in names and not filled_in_later(name):
                        yield Problem(
                            flow.manifest,
                            path,
                            f"{call.name or 'a task'} waits for {name}, which is no task of {template.name}",
                            hint=f"one of: {', '.join(sorted(names - {call.name}))}",
                        )
                if "dependencies" in call.tree and "depends" in call.tree:
                    yield Problem(
                        flow.manifest,
                        (*call.path, "dependencies"),
                        "a dag takes dependencies or depends, not both: the workflow is refused",
                        hint="depends",
                        key=True,
                    )


RULE = Rule("STK-ARGO-003", Severity.ERROR, "A task waits for one that is not in its dag", check, __name__)
