"""A workflow with outputs runs under the default ServiceAccount.

The executor beside each step reports what the step put out by creating a WorkflowTaskResult, with the pod's
ServiceAccount. The default one has no right to, unless the installation gave it one, and no account should that every
other pod has as well.

Symptom: workflowtaskresults.argoproj.io is forbidden: User "system:serviceaccount:ai:default" cannot create resource

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: evaluation, namespace: ai}
    spec:
      entrypoint: evaluate
      templates:
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}
        outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {name: evaluation, namespace: ai}
    spec:
      entrypoint: evaluate
      serviceAccountName: workflow
      templates:
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}
        outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}

Source: argoproj/argo-workflows@v4.1.2 docs/workflow-rbac.md
Source: guide-errors R18
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import Template, flows
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        if not flow.runs or flow.borrowed or flow.spec.get("serviceAccountName"):
            continue
        if any(look(flow.spec, key, "serviceAccountName") for key in ("executor", "templateDefaults")):
            continue
        reporting = [
            template.name
            for template in flow.templates
            if _puts_out(template) and not template.tree.get("serviceAccountName")
        ]
        if reporting:
            yield Problem(
                flow.manifest,
                (*flow.base, "serviceAccountName"),
                f"the outputs of {', '.join(reporting)} are reported with the default ServiceAccount,"
                " which may not create workflowtaskresults",
                hint="serviceAccountName, of an account with a Role for that (create and patch)",
                severity=None if _rights_in_sight(cluster) else Severity.INFO,
            )


def _rights_in_sight(cluster: Cluster) -> bool:
    """Without any, the account may have its Role from elsewhere, or the controller a default of its own."""
    return next(cluster.of("ServiceAccount", "Role", "RoleBinding", "ClusterRoleBinding"), None) is not None


def _puts_out(template: Template) -> bool:
    outputs = template.tree.get("outputs")
    in_pod = any(key in template.tree for key in ("container", "script", "containerSet", "plugin", "http"))
    return in_pod and isinstance(outputs, dict) and any(outputs.get(key) for key in ("parameters", "artifacts"))


RULE = Rule(
    "STK-ARGO-008",
    Severity.WARNING,
    "A workflow with outputs runs under the default ServiceAccount",
    check,
    __name__,
    guide=("R18",),
)
