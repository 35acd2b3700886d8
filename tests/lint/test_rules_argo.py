"""Rules of Argo beyond the examples in their docstrings."""

from pathlib import Path

import pytest
from asking import messages, said

from stoker.lint.run import lint
from stoker.manifests.reading import read

HERE = Path(__file__).parent

LEAVES = """
  - name: work
    inputs: {parameters: [{name: size, default: "1"}]}
    container: {image: "a:1", command: [work]}
    outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}
"""


def a_dag(tasks: str, kind: str = "Workflow") -> str:
    """A workflow of one dag with these tasks (each indented by six) and the template `work`."""
    return (
        f"apiVersion: argoproj.io/v1alpha1\nkind: {kind}\nmetadata: {{name: a, namespace: ai}}\nspec:\n"
        "  entrypoint: main\n  serviceAccountName: workflow\n  templates:\n"
        f"  - name: main\n    dag:\n      tasks:\n{tasks}{LEAVES}"
    )


def test_every_place_that_names_a_template() -> None:
    tasks = (
        "      - {name: a, template: gone}\n"
        "      - {name: b, template: work, onExit: gone}\n"
        "      - {name: c, template: work, hooks: {exit: {template: gone}}}\n"
        '      - {name: d, template: "{{item}}"}\n'
        "      - {name: e, templateRef: {name: other, template: gone}}\n"
    )
    text = a_dag(tasks).replace("  entrypoint: main\n", "  entrypoint: main\n  onExit: gone\n")
    base = "spec.templates[0].dag.tasks"
    assert sorted(said("STK-ARGO-001", text)) == [
        ("spec.onExit", "error"),
        (f"{base}[0].template", "error"),
        (f"{base}[1].onExit", "error"),
        (f"{base}[2].hooks.exit.template", "error"),
    ]


def test_steps_are_read_like_dags() -> None:
    text = (
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: a}\nspec:\n  entrypoint: main\n"
        "  templates:\n  - name: main\n    steps:\n"
        "    - - {name: one, template: work}\n"
        '      - {name: two, template: work, when: "{{steps.one.outputs.parameters.score}} > 1"}\n'
        '    - - {name: three, template: gone, when: "{{steps.one.outputs.parameters.score}} > 1"}\n' + LEAVES
    )
    assert said("STK-ARGO-001", text) == [("spec.templates[0].steps[1][0].template", "error")]
    assert messages("STK-ARGO-005", text) == [
        "two reads steps.one.outputs.parameters.score, but one is no earlier step of it: there is nothing to read yet"
    ]


def test_a_workflow_that_takes_its_templates_from_elsewhere() -> None:
    text = (
        "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: a}\n"
        "spec: {entrypoint: main, workflowTemplateRef: {name: shared}}\n"
    )
    assert said("STK-ARGO-001", text) == []
    assert said("STK-ARGO-002", text) == []
    assert said("STK-ARGO-009", text) == [("spec.workflowTemplateRef.name", "info")]
    assert said("STK-ARGO-009", text, exists=("WorkflowTemplate shared",)) == []


def test_a_workflow_template_needs_no_entrypoint() -> None:
    text = a_dag("      - {name: a, template: work}\n", "WorkflowTemplate").replace("  entrypoint: main\n", "")
    assert said("STK-ARGO-002", text) == []
    assert said("STK-ARGO-002", text.replace("WorkflowTemplate", "Workflow")) == [("spec.entrypoint", "error")]


@pytest.mark.parametrize(
    ("depends", "unknown"),
    [
        ("one.Succeeded && (two || three.Failed)", ["three"]),
        ("one", []),
        ("!one.Skipped", []),
        ("one.Succeeded && one.Daemoned", []),
        ("four && three", ["four", "three"]),
    ],
)
def test_dependencies_in_an_expression(depends: str, unknown: list[str]) -> None:
    tasks = (
        "      - {name: one, template: work}\n      - {name: two, template: work}\n"
        f'      - {{name: last, template: work, depends: "{depends}"}}\n'
    )
    assert messages("STK-ARGO-003", a_dag(tasks)) == [
        f"last waits for {name}, which is no task of main" for name in unknown
    ]


def test_a_circle_is_said_once() -> None:
    tasks = (
        "      - {name: a, template: work, dependencies: [c]}\n"
        "      - {name: b, template: work, dependencies: [a]}\n"
        "      - {name: c, template: work, dependencies: [b]}\n"
        "      - {name: d, template: work, dependencies: [c]}\n"
    )
    assert said("STK-ARGO-004", a_dag(tasks)) == [("spec.templates[0].dag.tasks[0].dependencies[0]", "error")]
    itself = "      - {name: a, template: work, dependencies: [a]}\n"
    assert said("STK-ARGO-004", a_dag(itself)) == [("spec.templates[0].dag.tasks[0].dependencies[0]", "error")]


@pytest.mark.parametrize(
    ("when", "flagged"),
    [
        ("{{tasks.a.outputs.parameters.score}} > 1", False),  # a dependency of its dependency
        ("{{tasks.b.status}} == Succeeded", False),
        ("{{tasks.b.outputs.parameters.loss}} > 1", True),
        ("{{tasks.other.outputs.parameters.score}} > 1", True),
        ("{{tasks.gone.outputs.result}} == yes", True),
        ("{{inputs.parameters.tasks.gone}} == yes", False),
        ("{{workflow.status}} == Succeeded", False),
    ],
)
def test_what_a_condition_can_read(when: str, flagged: bool) -> None:
    tasks = (
        "      - {name: a, template: work}\n      - {name: other, template: work}\n"
        "      - {name: b, template: work, dependencies: [a]}\n"
        f'      - {{name: c, template: work, dependencies: [b], when: "{when}"}}\n'
    )
    expected = [("spec.templates[0].dag.tasks[3].when", "error")] if flagged else []
    assert said("STK-ARGO-005", a_dag(tasks)) == expected


def test_two_of_one_name() -> None:
    tasks = "      - {name: a, template: work}\n      - {name: a, template: work}\n"
    assert said("STK-ARGO-006", a_dag(tasks)) == [("spec.templates[0].dag.tasks[1].name", "error")]


def test_a_template_is_idle_only_where_all_calls_are_known() -> None:
    assert said("STK-ARGO-007", a_dag("      - {name: a, template: main}\n")) == [("spec.templates[1].name", "info")]
    assert said("STK-ARGO-007", a_dag('      - {name: a, template: "{{item}}"}\n')) == []
    assert said("STK-ARGO-007", a_dag("      - {name: a, template: main}\n", "WorkflowTemplate")) == []


def test_who_reports_outputs() -> None:
    text = a_dag("      - {name: a, template: work}\n").replace("  serviceAccountName: workflow\n", "")
    account = "\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: workflow, namespace: ai}\n"
    assert said("STK-ARGO-008", text + account) == [("spec.serviceAccountName", "warning")]
    assert said("STK-ARGO-008", text) == [("spec.serviceAccountName", "info")]  # who may do what is not in sight
    own = text.replace("    container:", "    serviceAccountName: own\n    container:")
    assert said("STK-ARGO-008", own) == []
    silent = text.replace("    outputs: {parameters: [{name: score, valueFrom: {path: /tmp/score}}]}\n", "")
    assert said("STK-ARGO-008", silent) == []


def test_a_template_that_the_other_does_not_have() -> None:
    text = a_dag("      - {name: a, templateRef: {name: shared, template: gone}}\n") + (
        "---\napiVersion: argoproj.io/v1alpha1\nkind: WorkflowTemplate\nmetadata: {name: shared, namespace: ai}\n"
        "spec: {templates: [{name: there, container: {image: 'a:1'}}]}\n"
    )
    assert said("STK-ARGO-009", text) == [("spec.templates[0].dag.tasks[0].templateRef.template", "error")]


@pytest.mark.parametrize(("kind", "severity"), [("Workflow", "warning"), ("WorkflowTemplate", None)])
def test_arguments_may_come_with_the_submission(kind: str, severity: str | None) -> None:
    text = a_dag("      - {name: a, template: work}\n", kind)
    text = text.replace("command: [work]", 'command: [work, "{{workflow.parameters.epochs}}"]')
    expected = [("spec.templates[1].container.command[1]", severity)] if severity else []
    assert said("STK-ARGO-010", text) == expected


def test_an_input_without_a_default_must_be_given() -> None:
    tasks = (
        "      - {name: a, template: work}\n"
        '      - {name: b, template: work, arguments: {parameters: [{name: size, value: "2"}]}}\n'
    )
    assert said("STK-ARGO-011", a_dag(tasks)) == []
    bare = a_dag(tasks).replace('{name: size, default: "1"}', "{name: size}")
    assert said("STK-ARGO-011", bare) == [("spec.templates[0].dag.tasks[0].arguments", "error")]


@pytest.mark.parametrize(
    ("strategy", "path"),
    [
        ("", "retryStrategy"),
        ("    retryStrategy: {limit: 3}\n", "retryStrategy.retryPolicy"),
        ("    retryStrategy: {limit: 3, retryPolicy: Always}\n", ""),
        ("    retryStrategy: {limit: 3, expression: lastRetry.exitCode != 1}\n", ""),
    ],
)
def test_steps_on_spot(strategy: str, path: str) -> None:
    spot = "    nodeSelector: {karpenter.sh/capacity-type: spot}\n    container:"
    text = a_dag("      - {name: a, template: work}\n").replace("    container:", strategy + spot)
    assert said("STK-ARGO-012", text) == ([(f"spec.templates[1].{path}", "warning")] if path else [])


@pytest.mark.parametrize(
    ("schedule", "fine"),
    [("0 9 * * MON-FRI", True), ("@daily", True), ("0 9 * *", False), ("61 * * * *", False), ("{{when}}", True)],
)
def test_schedules(schedule: str, fine: bool) -> None:
    text = (
        "apiVersion: argoproj.io/v1alpha1\nkind: CronWorkflow\nmetadata: {name: a}\n"
        f"spec: {{schedule: '{schedule}', concurrencyPolicy: Allow, workflowSpec: {{}}}}\n"
    )
    assert said("STK-ARGO-014", text) == ([] if fine else [("spec.schedule", "error")])
    assert said("STK-ARGO-015", text) == []


def an_application(destination: str, extra: str = "", project: str = "default") -> str:
    return (
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: argocd}\nspec:\n"
        f"  project: {project}\n  source: {{repoURL: 'https://github.com/example/configs.git'}}\n"
        f"  destination: {destination}\n{extra}"
    )


LOCAL = "{server: 'https://kubernetes.default.svc', namespace: ai}"
CAPABILITY = """
---
apiVersion: eks.services.k8s.aws/v1alpha1
kind: Capability
metadata: {name: argocd}
spec: {name: argocd, clusterName: prod, type: ARGOCD, roleARN: "arn:aws:iam::111122223333:role/argocd"}
"""


def test_the_local_address_is_wrong_only_for_the_capability() -> None:
    path = "spec.destination.server"
    assert said("STK-ARGO-016", an_application(LOCAL)) == [(path, "info")]
    assert said("STK-ARGO-016", an_application(LOCAL) + CAPABILITY) == [(path, "warning")]
    assert said("STK-ARGO-016", an_application(LOCAL) + CAPABILITY.replace("ARGOCD", "KRO")) == [(path, "info")]
    assert said("STK-ARGO-016", "# managed Argo CD\n" + an_application(LOCAL)) == [(path, "warning")]
    assert said("STK-ARGO-016", an_application("{name: in-cluster, namespace: ai}") + CAPABILITY) == []


def a_project(repositories: str, destinations: str) -> str:
    return (
        "\n---\napiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: p, namespace: argocd}\n"
        f"spec: {{sourceRepos: {repositories}, destinations: {destinations}}}\n"
    )


@pytest.mark.parametrize(
    ("repositories", "destinations", "expected"),
    [
        ("['*']", "[{server: '*', namespace: '*'}]", []),
        ("['https://github.com/example/*']", "[{server: 'https://kubernetes.default.svc', namespace: 'a*'}]", []),
        ("['https://github.com/example/configs']", "[{name: in-cluster, namespace: ai}]", []),
        ("['https://github.com/other/*']", "[{server: '*', namespace: ai}]", ["spec.source.repoURL"]),
        ("['*', '!https://github.com/example/*']", "[{server: '*', namespace: ai}]", ["spec.source.repoURL"]),
        ("['*']", "[{server: '*', namespace: b}]", ["spec.destination"]),
        ("['*']", "[{server: 'https://other', namespace: ai}]", ["spec.destination"]),
        ("['*']", "[]", ["spec.destination"]),
    ],
)
def test_what_a_project_allows(repositories: str, destinations: str, expected: list[str]) -> None:
    text = an_application(LOCAL, project="p") + a_project(repositories, destinations)
    assert said("STK-ARGO-017", text) == [(path, "error") for path in expected]
    assert said("STK-ARGO-018", text) == []


def test_a_project_may_be_in_the_cluster() -> None:
    assert said("STK-ARGO-018", an_application(LOCAL, project="p")) == [("spec.project", "info")]
    assert said("STK-ARGO-018", an_application(LOCAL, project="p"), exists=("AppProject p",)) == []
    assert said("STK-ARGO-018", an_application(LOCAL)) == []


def test_a_destination_has_one_name() -> None:
    assert said("STK-ARGO-019", an_application("{namespace: ai}")) == [("spec.destination.server", "error")]
    assert said("STK-ARGO-019", an_application(LOCAL)) == []


SCALED = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: ai}
spec: {replicas: 2}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: a, namespace: ai}
spec: {scaleTargetRef: {name: a}}
"""
HEALS = "  syncPolicy: {automated: {selfHeal: true}}\n"


def test_self_heal_against_an_autoscaler() -> None:
    path = "spec.ignoreDifferences"
    assert said("STK-ARGO-020", an_application(LOCAL, HEALS) + SCALED) == [(path, "warning")]
    assert said("STK-ARGO-020", an_application(LOCAL) + SCALED) == []
    assert said("STK-ARGO-020", an_application(LOCAL, HEALS) + SCALED.replace("replicas: 2", "paused: false")) == []
    assert said("STK-ARGO-020", an_application(LOCAL.replace("ai", "b"), HEALS) + SCALED) == []
    ignored = "  ignoreDifferences: [{group: apps, kind: Deployment, jsonPointers: [/spec/replicas]}]\n"
    assert said("STK-ARGO-020", an_application(LOCAL, HEALS + ignored) + SCALED) == []


def a_set(options: str, name: str, generator: str = "clusters: {}") -> str:
    return (
        "apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {name: a, namespace: argocd}\nspec:\n"
        f"{options}  generators: [{{{generator}}}]\n  template:\n    metadata: {{name: '{name}'}}\n"
    )


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        (a_set("  goTemplate: true\n", "a-{{.name}}"), False),
        (a_set("  goTemplate: true\n", "a-{{name}}"), True),
        (a_set("", "a-{{name}}"), False),
        (a_set("", "a-{{.name}}"), True),
        (a_set("", "a"), True),
        (a_set("", "a", "list: {elements: [{cluster: one}]}"), False),
        (a_set("", "a", "list: {elements: [{cluster: one}, {cluster: two}]}"), True),
        (a_set("", "a", "selector: {}, list: {elements: [{cluster: one}]}"), False),
    ],
)
def test_tags_of_application_sets(text: str, flagged: bool) -> None:
    assert said("STK-ARGO-021", text) == ([("spec.template.metadata.name", "error")] if flagged else [])


def test_keda_takes_a_deployment_where_no_kind_is_said() -> None:
    text = SCALED.replace("apps/v1", "argoproj.io/v1alpha1").replace("kind: Deployment", "kind: Rollout")
    assert said("STK-ARGO-022", text) == [("spec.scaleTargetRef.kind", "error")]
    assert said("STK-ARGO-022", text + SCALED) == []
    assert said("STK-ARGO-022", text.replace("{name: a}}", "{kind: Rollout, name: a}}")) == []


def test_a_rollout_has_one_strategy() -> None:
    text = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: a}\nspec: {strategy: STRATEGY}\n"
    path = [("spec.strategy", "error")]
    assert said("STK-ARGO-023", text.replace("STRATEGY", "{canary: {}, blueGreen: {}}")) == path
    assert said("STK-ARGO-023", text.replace("STRATEGY", "{type: RollingUpdate}")) == path
    assert said("STK-ARGO-023", text.replace("STRATEGY", "{blueGreen: {activeService: a}}")) == []


def test_the_faults_of_the_guide_are_where_they_should_be() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {(f.rule, f.object, f.path, f.severity.value) for f in report.findings if f.rule.startswith("STK-ARGO")}
    tasks = "spec.templates[0].dag.tasks"
    assert found == {
        ("STK-ARGO-001", "Workflow ai/pipeline", f"{tasks}[0].template", "error"),
        ("STK-ARGO-001", "Workflow ai/pipeline", f"{tasks}[3].template", "error"),
        ("STK-ARGO-008", "Workflow ai/pipeline", "spec.serviceAccountName", "info"),
        ("STK-ARGO-013", "Workflow ai/pipeline", "spec.ttlStrategy", "info"),
        ("STK-ARGO-016", "Application argocd/chat", "spec.destination.server", "warning"),
        ("STK-ARGO-018", "Application argocd/chat", "spec.project", "info"),
        ("STK-ARGO-020", "Application argocd/chat", "spec.ignoreDifferences", "warning"),
    }
