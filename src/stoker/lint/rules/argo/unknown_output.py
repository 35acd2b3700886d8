"""A task reads the output of one that it does not wait for, or an output that is not declared.

The tag can only be filled in when the other has ended: a task reads what its dependencies (and theirs) put out, a step
what earlier steps did. The name must be one of the outputs that the called template declares. The controller refuses
the workflow otherwise.

Symptom: invalid spec: failed to resolve {{tasks.evaluate.outputs.parameters.score}}

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
          - {name: evaluate, template: evaluation}
          - {name: register, template: registration, when: "{{tasks.evaluate.outputs.parameters.score}} > 0.8"}
      - name: evaluation
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}
        outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}
      - name: registration
        container: {image: "registry.example.com/register:1.0", command: [register]}

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
          - {name: evaluate, template: evaluation}
          - name: register
            template: registration
            dependencies: [evaluate]
            when: "{{tasks.evaluate.outputs.parameters.score}} > 0.8"
      - name: evaluation
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}
        outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}
      - name: registration
        container: {image: "registry.example.com/register:1.0", command: [register]}

Source: argoproj/argo-workflows@v4.1.2 workflow/validate/validate.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Call, Flow, Read, Template, flows, reads


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for template in flow.templates:
            by_name = {call.name: call for call in template.calls}
            for call in template.calls:
                for read in call.reads():
                    yield from _unreadable(flow, template, call, read, by_name)
            for read in reads(template.tree.get("outputs"), (*template.path, "outputs")) if by_name else ():
                other = by_name.get(read.task)
                yield from _no_task(flow, template, read) if other is None else _undeclared(flow, read, other)


def _unreadable(flow: Flow, template: Template, call: Call, read: Read, by_name: dict[str, Call]) -> Iterator[Problem]:
    other = by_name.get(read.task)
    if other is None:
        yield from _no_task(flow, template, read)
    elif read.task not in template.before.get(call.name, ()):
        word = "dependency" if template.is_dag else "earlier step"
        yield Problem(
            flow.manifest,
            read.path,
            f"{call.name} reads {read.text}, but {read.task} is no {word} of it: there is nothing to read yet",
            hint=f"dependencies: [{read.task}]" if template.is_dag else f"a step after {read.task}",
        )
    else:
        yield from _undeclared(flow, read, other)


def _no_task(flow: Flow, template: Template, read: Read) -> Iterator[Problem]:
    known = ", ".join(call.name for call in template.calls)
    yield Problem(
        flow.manifest,
        read.path,
        f"{read.text}: {template.name} has no task {read.task}, so the tag is never filled in",
        hint=f"one of: {known}",
    )


def _undeclared(flow: Flow, read: Read, other: Call) -> Iterator[Problem]:
    called = flow.by_name.get(other.template)
    if called is None or not read.output:
        return
    declared = called.outputs(read.kind)
    if read.output not in declared:
        yield Problem(
            flow.manifest,
            read.path,
            f"{read.text}: {called.name} declares no output {read.output} in outputs.{read.kind}",
            hint=f"one of: {', '.join(sorted(map(str, declared)))}" if declared else "declare it in that template",
        )


RULE = Rule(
    "STK-ARGO-005",
    Severity.ERROR,
    "A task reads the output of one that it does not wait for, or an output that is not declared",
    check,
    __name__,
)
