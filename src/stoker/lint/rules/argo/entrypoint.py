"""A workflow does not say where it begins, or begins with a template that is not there.

The controller refuses it, though the API server takes it.

Symptom: spec.entrypoint is required; or: spec.entrypoint template name 'main' undefined

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: main
      templates:
      - name: pipeline
        container: {image: "registry.example.com/train:1.0", command: [train]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: pipeline
      templates:
      - name: pipeline
        container: {image: "registry.example.com/train:1.0", command: [train]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows
from stoker.manifests.edits import Add
from stoker.manifests.objects import filled_in_later


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        entry = flow.spec.get("entrypoint")
        path = (*flow.base, "entrypoint")
        if flow.borrowed or not flow.templates or filled_in_later(entry):
            continue
        if isinstance(entry, str) and entry:
            if entry not in flow.by_name:
                known = ", ".join(flow.by_name)
                yield Problem(
                    flow.manifest, path, f"no template {entry}: the workflow is refused", hint=f"one of: {known}"
                )
        elif entry is None and flow.runs:
            only = list(flow.by_name) if len(flow.templates) == 1 else []
            yield Problem(
                flow.manifest,
                path,
                "no entrypoint: the workflow is refused, since nothing says where it begins",
                hint=f"entrypoint: {only[0] if only else '(the template to begin with)'}",
                edits=(Add(path, only[0]),) if only else (),
            )


RULE = Rule(
    "STK-ARGO-002",
    Severity.ERROR,
    "A workflow does not say where it begins, or begins with a template that is not there",
    check,
    __name__,
)
