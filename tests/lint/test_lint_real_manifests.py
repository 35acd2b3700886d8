"""Shapes of manifests that public projects publish and that are right: each was once a false alarm."""

from pathlib import Path

import pytest
from asking import messages, said

from stoker.lint.findings import Report
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text


def loud(text: str) -> list[tuple[str, str]]:
    """Rule and path of what is said at warning or error."""
    return [(each.rule, each.path) for each in lint(read_text(text)).findings if each.severity.value != "info"]


def of_rule(report: Report, rule: str) -> list[tuple[str, str]]:
    return [(Path(each.file).name, each.severity.value) for each in report.findings if each.rule == rule]


# -- text that is filled in before it is applied --

POOL = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: "gpu-${ZONE}"}
spec:
  limits: {nvidia.com/gpu: "8"}
  template:
    metadata:
      labels: {example.com/family: "${family}"}
    spec:
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
      requirements:
      - {key: node.kubernetes.io/instance-type, operator: In, values: ["%s"]}
      - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
      taints: [{key: nvidia.com/gpu, effect: NoSchedule}]
      terminationGracePeriod: 1h
"""


def test_variables_of_envsubst_and_terraform_can_be_anything() -> None:
    assert loud(POOL % "${instance_type}") == []
    assert loud(POOL % "g5.xlarge") == []
    assert [rule for rule, _ in loud(POOL.replace("${family}", "not a label") % "g5.xlarge")] == ["STK-API-005"]


def test_a_whole_section_that_is_filled_in() -> None:
    text = (
        "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass\nmetadata: {name: a}\nspec:\n  ${indent(2, node_class)}\n"
    )
    assert loud(text) == []
    assert loud(text.replace("${indent(2, node_class)}", "words")) == [("STK-API-002", "spec")]


def test_what_a_pool_without_limits_lacks_is_said_beside_a_variable() -> None:
    text = (POOL % "g5.xlarge").replace('  limits: {nvidia.com/gpu: "8"}\n', "")
    assert loud(text) == [("STK-KARPENTER-034", "spec.limits")]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "%{ for each in pools ~}\n---\nkind: NodePool\n%{ endfor ~}\n",
            "render it first: templatefile() of Terraform",
        ),
        (
            "kind: Application\nspec:\n  destination:\n    server: {{ .Values.server }}\n",
            "render it first: helm template CHART | stoker lint -",
        ),
    ],
)
def test_templates_are_told_from_what_is_no_yaml(text: str, hint: str) -> None:
    troubles = read_text(text).troubles
    assert {(each.kind, each.hint) for each in troubles} == {("template", hint)}


def test_a_fault_after_a_workflow_s_own_expressions_is_no_template() -> None:
    text = 'kind: Workflow\nspec:\n  value: "{{inputs.parameters.a}}"\n  b: [1\n'
    assert [each.kind for each in read_text(text).troubles] == ["syntax"]


# -- Argo --

STEP = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: a-}
spec:
  entrypoint: main
  serviceAccountName: runner
  templates:
  - name: main
    inputs: {parameters: [{name: day, value: "1"}]}
    resource:
      action: %s
      manifest: |
%s
"""


@pytest.mark.parametrize(("action", "judged"), [("get", False), ("delete", False), ("patch", False), ("create", True)])
def test_a_step_that_only_names_an_object_needs_no_more_of_it(action: str, judged: bool) -> None:
    named = "        apiVersion: apps/v1\n        kind: StatefulSet\n        metadata: {name: web}"
    assert loud(STEP % (action, named)) == ([("STK-API-003", "spec")] if judged else [])


def test_tags_in_a_workflow_that_a_step_creates_are_the_step_s() -> None:
    child = """        apiVersion: argoproj.io/v1alpha1
        kind: Workflow
        metadata: {name: "job-{{inputs.parameters.day}}"}
        spec:
          entrypoint: main
          templates:
          - name: main
            steps:
            - - name: start
                templateRef: {name: job, template: main}
                arguments: {parameters: [{name: day, value: "{{inputs.parameters.day}}"}]}"""
    assert said("STK-ARGO-010", STEP % ("apply", child)) == []
    own = STEP.replace("{name: day, ", "{name: other, ") % ("apply", child)
    assert [path for path, _ in said("STK-ARGO-010", own)] == ["spec.templates[0].resource.manifest"]


def test_not_every_kind_of_a_known_group_ships() -> None:
    text = "apiVersion: argoproj.io/v1alpha1\nkind: %s\nmetadata: {name: a}\nspec: {}\n"
    assert said("STK-API-009", text % "ClusterWorkflowTemplate") == [("kind", "info")]
    assert said("STK-API-009", text % "Workfow") == [("kind", "error")]  # nearly one that does
    core = "apiVersion: apps/v1\nkind: Daemon\nmetadata: {name: a}\n"
    assert said("STK-API-009", core) == [("kind", "error")]
    pool = "apiVersion: karpenter.sh/v1\nkind: Provisioner\nmetadata: {name: a}\n"
    assert said("STK-API-009", pool) == [("kind", "error")]


# -- pods --


def test_a_pod_that_ends_at_once_has_no_hook_that_is_too_long() -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n"
    assert said("STK-DISRUPTION-008", pod + "  - {name: a, image: 'a:1'}\n") == []
    slow = "  - {name: a, image: 'a:1', lifecycle: {preStop: {exec: {command: [sleep, '5']}}}}\n"
    assert [how for _, how in said("STK-DISRUPTION-008", pod + slow)] == ["warning"]


def test_a_device_plugin_may_be_privileged() -> None:
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: plugin\n"
        "    securityContext: {privileged: true}\n    volumeMounts: [{name: a, mountPath: %s}]\n"
    )
    path = "spec.containers[0].securityContext.privileged"
    assert said("STK-SECURITY-001", pod % "/var/lib/kubelet/device-plugins") == [(path, "info")]
    assert said("STK-SECURITY-001", pod % "/var/lib/kubelet") == [(path, "warning")]


@pytest.mark.parametrize(
    ("value", "flagged"), [("$HF_TOKEN", False), ("${HF_TOKEN}", False), ("$ecret-4711", True), ("abc", True)]
)
def test_a_variable_in_place_of_a_token_is_no_token(value: str, flagged: bool) -> None:
    pod = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n"
        f"  - {{name: a, env: [{{name: HF_TOKEN, value: '{value}'}}]}}\n"
    )
    assert bool(said("STK-SECURITY-005", pod)) is flagged


def test_an_image_that_is_a_placeholder_is_said_once_and_whole() -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: YOUR_OWN_IMAGE}\n"
    assert said("STK-SECURITY-007", pod) == []
    assert messages("STK-SECURITY-026", pod) == ["YOUR_OWN_IMAGE was not replaced: it is applied as it stands"]


def test_what_a_secret_holds_beside_the_secret() -> None:
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: kafka}\nstringData:\n"
        "  sasl: plaintext\n  tls: enable\n  ca: PEM\n  tokenUrl: https://example.com/token\n"
        "  mirrorUrl: https://me:abcdefgh@example.com\n  key: PEM\n"
    )
    assert [path for path, _ in said("STK-SECURITY-004", text)] == ["stringData.mirrorUrl", "stringData.key"]


@pytest.mark.parametrize(("kind", "severity"), [("ClusterTrainingRuntime", "info"), ("JobSet", "warning")])
def test_a_runtime_leaves_resources_to_the_job(kind: str, severity: str) -> None:
    jobs = (
        "replicatedJobs: [{name: node, template: {spec: {template: {spec: {containers: "
        "[{name: node, image: 'a:1', resources: {limits: {%s}}}]}}}}}]"
    )
    head = "apiVersion: %s\nkind: %s\nmetadata: {name: a}\nspec: {%s}\n"
    for limits, rule in (("", "STK-SECURITY-021"), ("nvidia.com/gpu: 2", "STK-GPU-016")):
        if kind == "JobSet":
            text = head % ("jobset.x-k8s.io/v1alpha2", kind, jobs % limits)
        else:
            spec = f"mlPolicy: {{numNodes: 1}}, template: {{spec: {{{jobs % limits}}}}}"
            text = head % ("trainer.kubeflow.org/v1alpha1", kind, spec)
        assert [how for _, how in said(rule, text)] == [severity]


# -- one file of several --

SERVED = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: db, image: "db:1"}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: ebs.csi.aws.com
"""


def test_what_a_file_of_one_workload_refers_to_is_perhaps_in_another_file() -> None:
    assert [how for _, how in said("STK-MATCH-010", SERVED)] == ["info"]
    assert [how for _, how in said("STK-MATCH-020", SERVED)] == ["info"]
    service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {clusterIP: None}\n"
    assert [how for _, how in said("STK-MATCH-020", SERVED + service)] == ["warning"]


def test_whether_a_claim_may_be_shared_is_not_known_without_it() -> None:
    two = SERVED.replace("  serviceName: db\n", "  replicas: 2\n  serviceName: db\n")
    claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [%s]}\n"
    assert [how for _, how in said("STK-MATCH-030", two)] == ["info"]
    assert [how for _, how in said("STK-MATCH-030", two + claim % "ReadWriteOnce")] == ["warning"]
    assert said("STK-MATCH-030", two + claim % "ReadWriteMany") == []


def test_a_route_whose_gateway_is_kept_elsewhere() -> None:
    route = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n"
        "spec: {parentRefs: [{name: shared}]}\n"
    )
    other = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: other}\nspec: {}\n"
    assert [how for _, how in said("STK-EDGE-014", route)] == ["info"]
    assert [how for _, how in said("STK-EDGE-014", route + other)] == ["warning"]


def test_the_limit_of_a_pool_goes_by_its_accelerators() -> None:
    pool = (
        "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {name: a}\nspec: {template: {spec: {requirements: "
        "[{key: karpenter.k8s.aws/instance-family, operator: In, values: [%s]}]}}}\n"
    )
    for family, limit in (("inf2", "aws.amazon.com/neuron"), ("g5", "nvidia.com/gpu"), ("m5", "cpu")):
        found = [each for each in lint(read_text(pool % family)).findings if each.rule == "STK-KARPENTER-034"]
        assert [each.hint for each in found] == [f'limits: {{{limit}: "<number>"}}']


# -- several files of one folder --


def test_overlays_have_secrets_of_one_name(tmp_path: Path) -> None:
    auth = (
        "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {name: queue, namespace: ai}\nspec:\n"
        "  secretTargetRef: [{parameter: host, name: queue, key: %s}]\n---\n"
    )
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: queue, namespace: ai}\nstringData: {%s: '${HOST}'}\n"
    for name, key in (("dev", "host"), ("prod", "address")):
        (tmp_path / f"{name}.yaml").write_text(auth % key + secret % key)
    assert of_rule(lint(read([str(tmp_path)])), "STK-KEDA-024") == []
    (tmp_path / "prod.yaml").write_text(auth % "other" + secret % "address")
    assert of_rule(lint(read([str(tmp_path)])), "STK-KEDA-024") == [("prod.yaml", "error")]


def test_a_field_that_several_sections_have_is_not_said_to_stand_in_one() -> None:
    """`numProcPerNode` went from `torch` and stays in two others, neither of which is meant."""
    text = (
        "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: ClusterTrainingRuntime\nmetadata: {name: a}\n"
        "spec: {mlPolicy: {numNodes: 1, torch: {numProcPerNode: 2}}, template: {spec: {replicatedJobs: []}}}\n"
    )
    found = [each for each in lint(read_text(text)).findings if each.path == "spec.mlPolicy.torch.numProcPerNode"]
    assert [(each.rule, each.hint) for each in found] == [("STK-API-001", "known here: envInjection")]


def test_a_placement_group_under_a_wrong_name_is_one_finding() -> None:
    text = (
        "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass\nmetadata: {name: a}\nspec:\n"
        "  # in our placement group\n  placementGroup: {name: training}\n"
    )
    assert said("STK-KARPENTER-039", text) == []
    nothing = text.replace("  placementGroup: {name: training}\n", "  role: training\n")
    assert [how for _, how in said("STK-KARPENTER-039", nothing)] == ["warning"]
