"""A parameter is read that nothing declares.

`{{inputs.parameters.x}}` needs x in the template's own inputs, `{{workflow.parameters.x}}` in the arguments of the
workflow (or given with `argo submit -p`). The tag stays unresolved and the workflow is refused.

Symptom: invalid spec: templates.train: failed to resolve {{inputs.parameters.epochs}}

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: train
      templates:
      - name: train
        container:
          image: registry.example.com/train:1.0
          command: [train, "--epochs={{inputs.parameters.epochs}}"]

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: pipeline}
    spec:
      entrypoint: train
      arguments: {parameters: [{name: epochs, value: "3"}]}
      templates:
      - name: train
        inputs: {parameters: [{name: epochs}]}
        container:
          image: registry.example.com/train:1.0
          command: [train, "--epochs={{inputs.parameters.epochs}}"]

Source: argoproj/argo-workflows@v4.1.2 docs/variables.md
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Flow, flows, parameters, texts_in

_PARAMETER = re.compile(r"\{\{\s*(workflow|inputs)\.parameters\.([\w-]+)\s*\}\}")


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        if flow.manifest.inside is not None:
            continue  # the workflow that creates it fills in the tags first: they are its own
        given = parameters(flow.spec)
        for template in flow.templates:
            declared = set(template.inputs)
            if any("inline" in call.tree for call in template.calls):
                continue  # a template within has inputs of its own
            for path, text in texts_in(template.tree):
                for whose, name in _PARAMETER.findall(text) if "parameters." in text else ():
                    if whose == "inputs" and name not in declared:
                        yield Problem(
                            flow.manifest,
                            (*template.path, *path),
                            f"the template {template.name} has no input {name}: the tag is never filled in",
                            hint=f"inputs: {{parameters: [{{name: {name}}}]}}, and the argument where it is called",
                        )
                    elif whose == "workflow" and name not in given and flow.runs and not flow.borrowed:
                        yield Problem(
                            flow.manifest,
                            (*template.path, *path),
                            f"the workflow has no argument {name}: only a submission can give it",
                            hint=f"arguments: {{parameters: [{{name: {name}, value: ...}}]}}",
                            severity=_severity(flow),
                        )


def _severity(flow: Flow) -> Severity:
    """A schedule gives no arguments; whoever submits a Workflow may."""
    return Severity.ERROR if flow.manifest.kind == "CronWorkflow" else Severity.WARNING


RULE = Rule("STK-ARGO-010", Severity.ERROR, "A parameter is read that nothing declares", check, __name__)
