"""Two templates, or two tasks, of one name.

The controller refuses the workflow: a call would not know which is meant.

Symptom: invalid spec: templates[2].name 'train' is not unique

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: train
      templates:
      - name: train
        container: {image: "registry.example.com/train:1.0", command: [train]}
      - name: train
        container: {image: "registry.example.com/train:1.1", command: [train]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: train
      templates:
      - name: train
        container: {image: "registry.example.com/train:1.1", command: [train]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator, Sequence

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Call, Flow, Template, flows


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        yield from _twice(flow, flow.templates, "template")
        for template in flow.templates:
            yield from _twice(flow, template.calls, "task" if template.is_dag else "step")


def _twice(flow: Flow, named: Sequence[Template | Call], word: str) -> Iterator[Problem]:
    seen = set()
    for each in named:
        if each.name and each.name in seen:
            yield Problem(
                flow.manifest,
                (*each.path, "name"),
                f"a second {word} {each.name}: the workflow is refused",
                hint="another name",
            )
        seen.add(each.name)


RULE = Rule("STK-ARGO-006", Severity.ERROR, "Two templates, or two tasks, of one name", check, __name__)
