"""A template is called without an argument that it needs.

An input parameter without a value or a default must be given by each call. The workflow is refused otherwise.

Symptom: invalid spec: templates.pipeline.tasks.train inputs.parameters.epochs was not supplied

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
          - {name: train, template: train}
      - name: train
        inputs: {parameters: [{name: epochs}]}
        container: {image: "registry.example.com/train:1.0", command: [train, "{{inputs.parameters.epochs}}"]}

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
          - name: train
            template: train
            arguments: {parameters: [{name: epochs, value: "3"}]}
      - name: train
        inputs: {parameters: [{name: epochs}]}
        container: {image: "registry.example.com/train:1.0", command: [train, "{{inputs.parameters.epochs}}"]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows, parameters


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for _template, call in flow.calls:
            called = flow.by_name.get(call.template)
            given = parameters(call.tree)
            missing = [name for name, each in called.inputs.items() if _must_be_given(each)] if called else []
            for name in missing:
                if name not in given:
                    yield Problem(
                        flow.manifest,
                        (*call.path, "arguments"),
                        f"{call.template} needs the parameter {name}, which {call.name or 'this call'} does not give",
                        hint=f"arguments: {{parameters: [{{name: {name}, value: ...}}]}}",
                    )


def _must_be_given(parameter: dict[str, Any]) -> bool:
    return not any(key in parameter for key in ("value", "default", "valueFrom", "enum"))


RULE = Rule("STK-ARGO-011", Severity.ERROR, "A template is called without an argument that it needs", check, __name__)
