"""A template that nothing calls.

It is valid, and never runs: a task that was forgotten, or code that is left over.

Symptom: a step of the pipeline is never seen in the graph

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: train
      templates:
      - name: train
        container: {image: "registry.example.com/train:1.0", command: [train]}
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}

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
          - {name: train, template: train}
          - {name: evaluate, template: evaluate, dependencies: [train]}
      - name: train
        container: {image: "registry.example.com/train:1.0", command: [train]}
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}

Source: argoproj/argo-workflows@v4.1.2 docs/workflow-concepts.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        entry = flow.spec.get("entrypoint")
        if not flow.runs or flow.borrowed or not isinstance(entry, str) or entry not in flow.by_name:
            continue
        called = {name for _path, name in flow.names_called()}
        if any("{{" in name for name in called) or any(
            "{{" in str(each.tree.get("template")) for _t, each in flow.calls
        ):
            continue  # which one is called is known when it runs
        for template in flow.templates:
            if template.name and template.name != entry and template.name not in called:
                yield Problem(
                    flow.manifest,
                    (*template.path, "name"),
                    f"nothing calls the template {template.name}: it never runs",
                    hint="a task that calls it, or leave it out",
                )


RULE = Rule("STK-ARGO-007", Severity.INFO, "A template that nothing calls", check, __name__)
