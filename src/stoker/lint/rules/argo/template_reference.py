"""A reference to a WorkflowTemplate, or to a template in it, that is not there.

The workflow fails when it comes to that task. What is not among the manifests may be in the cluster already; a template
that a WorkflowTemplate among them does not have is missing for certain.

Symptom: workflowtemplates.argoproj.io "shared" not found

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
          - {name: train, templateRef: {name: shared, template: train}}

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
          - {name: train, templateRef: {name: shared, template: train}}
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: WorkflowTemplate
    metadata: {name: shared}
    spec:
      templates:
      - name: train
        container: {image: "registry.example.com/train:1.0", command: [train]}

Source: argoproj/argo-workflows@v4.1.2 docs/workflow-templates.md
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Flow, flows
from stoker.manifests.objects import filled_in_later, look, sections
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        for path, reference in _references(flow):
            yield from _judged(cluster, flow, path, reference)


def _references(flow: Flow) -> Iterator[tuple[Path, dict[str, Any]]]:
    whole = flow.spec.get("workflowTemplateRef")
    if isinstance(whole, dict):
        yield (*flow.base, "workflowTemplateRef"), whole
    for _template, call in flow.calls:
        reference = call.tree.get("templateRef")
        if isinstance(reference, dict):
            yield (*call.path, "templateRef"), reference


def _judged(cluster: Cluster, flow: Flow, path: Path, reference: dict[str, Any]) -> Iterator[Problem]:
    name, template = reference.get("name"), reference.get("template")
    if not isinstance(name, str) or not name or filled_in_later(name):
        return
    kind = "ClusterWorkflowTemplate" if reference.get("clusterScope") is True else "WorkflowTemplate"
    namespace = "" if reference.get("clusterScope") is True else flow.manifest.namespace
    found = cluster.find(kind, name, namespace or None)
    if found is None:
        if not cluster.exists(kind, name, namespace):
            yield Problem(
                flow.manifest,
                (*path, "name"),
                f"no {kind} {name} among these manifests: it must be in the cluster already",
                hint=f'"{kind} {name}" under exists in the config, if it is',
                severity=Severity.INFO,
            )
    elif isinstance(template, str) and not filled_in_later(template):
        known = [each.get("name") for _i, each in sections(look(found.data, "spec", "templates"))]
        if template not in known:
            yield Problem(
                flow.manifest,
                (*path, "template"),
                f"{found} has no template {template}: the workflow fails there",
                hint=f"one of: {', '.join(map(str, known))}",
            )


RULE = Rule(
    "STK-ARGO-009",
    Severity.ERROR,
    "A reference to a WorkflowTemplate, or to a template in it, that is not there",
    check,
    __name__,
)
