"""The rules about names, labels and taints that must meet: what they flag, how sure they are, and what they let be."""

from pathlib import Path

import pytest

from stoker.lint.config import Config
from stoker.lint.fixing import fix
from stoker.lint.rules import match
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text

HERE = Path(__file__).parent
OWN = frozenset(rule.id for rule in match.RULES)
Found = list[tuple[str, str]]
TIER = "taints: [{key: tier, value: serving, effect: NoSchedule}]"
CLAIM = "volumes: [{name: weights, persistentVolumeClaim: {claimName: weights}}]"


def pool(more: str = "", labels: str = "{tier: serving}") -> str:
    return f"""
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {{name: serving}}
spec:
  template:
    metadata: {{labels: {labels}}}
    spec:
      requirements: [{{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}}]
      nodeClassRef: {{group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}}
      {more}
---
"""


def deployment(
    spec: str = "", *, name: str = "chat", replicas: int = 1, container: str = "", kind: str = "Deployment"
) -> str:
    return f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: ai}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {spec}
      containers:
      - name: server
        image: chat:v1
        {container}
---
"""


def thing(kind: str, name: str, api_version: str = "v1", namespace: str = "ai", more: str = "") -> str:
    space = f", namespace: {namespace}" if namespace else ""
    return f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}{space}}}\n{more}\n---\n"


def said(text: str, rule: str, config: Config | None = None) -> Found:
    """Severity and path of each finding of one rule."""
    report = lint(read_text(text), config)
    return [(finding.severity.value, finding.path) for finding in report.findings if finding.rule == rule]


def messages(text: str, rule: str) -> list[str]:
    return [finding.message for finding in lint(read_text(text)).findings if finding.rule == rule]


# -- labels and taints --

SELECTOR = "spec.template.spec.nodeSelector"


def test_without_a_pool_in_sight_nothing_is_said_of_labels() -> None:
    text = deployment("nodeSelector: {tier: batch, karpenter.sh/nodepool: gone}")
    assert [each for rule in ("STK-MATCH-001", "STK-MATCH-002") for each in said(text, rule)] == []


@pytest.mark.parametrize(
    "label",
    [
        "kubernetes.io/hostname: node-1",
        "topology.kubernetes.io/zone: us-west-2a",
        "node.kubernetes.io/instance-type: m6i.large",
        "eks.amazonaws.com/nodegroup: system",
        "node-role.kubernetes.io/control-plane: ''",
        "beta.kubernetes.io/arch: amd64",
    ],
)
def test_labels_that_others_give_need_no_pool(label: str) -> None:
    assert said(pool() + deployment(f"nodeSelector: {{{label}}}"), "STK-MATCH-001") == []


def test_a_value_that_no_pool_gives_is_named_beside_those_that_they_give() -> None:
    text = pool() + deployment("nodeSelector: {tier: batch}")
    assert said(text, "STK-MATCH-001") == [("warning", f"{SELECTOR}.tier")]
    assert "they give serving" in messages(text, "STK-MATCH-001")[0]


def test_a_label_of_a_node_group_in_sight_is_given() -> None:
    group = thing(
        "Nodegroup", "batch", "eks.services.k8s.aws/v1alpha1", more="spec: {name: batch, labels: {tier: batch}}"
    )
    assert said(pool() + deployment("nodeSelector: {tier: batch}") + group, "STK-MATCH-001") == []


def test_a_pool_that_the_config_says_is_there() -> None:
    text = pool() + deployment("nodeSelector: {karpenter.sh/nodepool: gpu}")
    assert said(text, "STK-MATCH-002") == [("warning", f'{SELECTOR}."karpenter.sh/nodepool"')]
    assert said(text, "STK-MATCH-002", Config(exists=("NodePool gpu",))) == []


def test_a_label_of_feature_discovery_is_right_for_a_daemon_and_too_late_for_a_deployment() -> None:
    spec = 'nodeSelector: {nvidia.com/gpu.present: "true"}'
    assert said(pool() + deployment(spec, kind="DaemonSet"), "STK-MATCH-003") == []
    assert said(pool() + deployment(spec), "STK-MATCH-003") == [("warning", f'{SELECTOR}."nvidia.com/gpu.present"')]
    given = pool(labels='{nvidia.com/gpu.present: "true"}')
    assert said(given + deployment(spec), "STK-MATCH-003") == []


def test_a_missing_toleration_is_added_by_fix() -> None:
    text = pool(TIER) + deployment("nodeSelector: {tier: serving}")
    assert said(text, "STK-MATCH-004") == [("error", "spec.template.spec.tolerations")]
    done = fix(read_text(text, "a.yaml"), Config(only=frozenset({"STK-MATCH-004"})))
    assert said(done.texts["a.yaml"], "STK-MATCH-004") == []


def test_a_second_toleration_is_added_to_the_first() -> None:
    spec = "nodeSelector: {tier: serving}\n      tolerations:\n      - {key: other, operator: Exists}"
    text = pool(TIER) + deployment(spec)
    done = fix(read_text(text, "a.yaml"), Config(only=frozenset({"STK-MATCH-004"}))).texts["a.yaml"]
    assert "- {key: other, operator: Exists}" in done
    assert said(done, "STK-MATCH-004") == []


@pytest.mark.parametrize("effect", ["PreferNoSchedule"])
def test_a_taint_that_keeps_nobody_off_needs_no_toleration(effect: str) -> None:
    text = pool(f"taints: [{{key: tier, effect: {effect}}}]") + deployment("nodeSelector: {tier: serving}")
    assert said(text, "STK-MATCH-004") == []


def test_an_agent_for_every_node_is_kept_off_all_pools_or_some() -> None:
    agent = deployment("nodeSelector: {kubernetes.io/os: linux}", kind="DaemonSet")
    tolerant = deployment("tolerations: [{operator: Exists}]", kind="DaemonSet")
    tainted, open_one = pool(TIER), pool().replace("name: serving}", "name: open}")
    path = "spec.template.spec.tolerations"
    assert said(tainted + agent, "STK-MATCH-005") == [("warning", path)]
    assert said(tainted + open_one + agent, "STK-MATCH-005") == [("info", path)]
    assert said(tainted + tolerant, "STK-MATCH-005") == []


def test_common_taints_may_be_tolerated_without_a_pool_that_has_them() -> None:
    spec = (
        "tolerations: [{key: nvidia.com/gpu, operator: Exists}, {key: node.kubernetes.io/not-ready, operator: Exists}]"
    )
    assert said(pool() + deployment(spec), "STK-MATCH-006") == []


# -- references --


def test_how_sure_depends_on_what_else_is_in_sight() -> None:
    """One lone Deployment may have its claim anywhere; beside two other kinds of its namespace it should be here."""
    alone = deployment(CLAIM)
    more = alone + thing("ConfigMap", "a") + thing("Service", "b", more="spec: {ports: [{port: 80}]}")
    path = "spec.template.spec.volumes[0].persistentVolumeClaim.claimName"
    assert said(alone, "STK-MATCH-010") == [("info", path)]
    assert said(more, "STK-MATCH-010") == [("warning", path)]
    assert said(more, "STK-MATCH-010", Config(exists=("PersistentVolumeClaim ai/weights",))) == []
    assert said(more + thing("PersistentVolumeClaim", "weights"), "STK-MATCH-010") == []


def test_a_claim_of_another_namespace_is_not_there() -> None:
    text = deployment(CLAIM) + thing("PersistentVolumeClaim", "weights", namespace="other")
    assert len(said(text, "STK-MATCH-010")) == 1


def test_the_default_account_is_always_there() -> None:
    assert said(deployment("serviceAccountName: default"), "STK-MATCH-011") == []
    assert said(deployment("serviceAccountName: chat"), "STK-MATCH-011") == [
        ("info", "spec.template.spec.serviceAccountName")
    ]


def test_an_optional_reference_may_resolve_to_nothing() -> None:
    env = "envFrom: [{configMapRef: {name: a, optional: true}}, {secretRef: {name: b, optional: true}}]"
    text = deployment(container=env)
    assert said(text, "STK-MATCH-012") + said(text, "STK-MATCH-013") == []


@pytest.mark.parametrize(
    "maker",
    [
        thing("ExternalSecret", "redis", "external-secrets.io/v1", more="spec: {}"),
        thing("ExternalSecret", "other", "external-secrets.io/v1", more="spec: {target: {name: redis}}"),
        thing("SealedSecret", "redis", "bitnami.com/v1alpha1"),
        thing("Certificate", "tls", "cert-manager.io/v1", more="spec: {secretName: redis}"),
        thing(
            "SecretProviderClass",
            "aws",
            "secrets-store.csi.x-k8s.io/v1",
            more="spec: {secretObjects: [{secretName: redis}]}",
        ),
        thing("Kustomization", "k", "kustomize.config.k8s.io/v1beta1", "", "secretGenerator: [{name: redis}]"),
    ],
    ids=["same name", "target", "sealed", "certificate", "provider class", "kustomize"],
)
def test_what_another_object_will_make_is_there(maker: str) -> None:
    text = deployment(container="envFrom: [{secretRef: {name: redis}}]")
    assert len(said(text, "STK-MATCH-013")) == 1
    assert said(text + maker, "STK-MATCH-013") == []


def test_a_secret_is_a_warning_only_where_secrets_are_kept() -> None:
    text = deployment(container="envFrom: [{secretRef: {name: redis}}]") + thing("ConfigMap", "a") + thing("Role", "b")
    path = "spec.template.spec.containers[0].envFrom[0].secretRef.name"
    assert said(text, "STK-MATCH-013") == [("info", path)]
    assert said(text + thing("Secret", "other"), "STK-MATCH-013") == [("warning", path)]


def test_the_volumes_of_a_workflow_are_references_too() -> None:
    text = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: run, namespace: ai}
spec:
  entrypoint: work
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: "{{workflow.parameters.claim}}"}}
  - {name: w, persistentVolumeClaim: {claimName: w}}
  templates: [{name: work, container: {image: "work:v1"}}]
"""
    assert said(text, "STK-MATCH-010") == [("info", "spec.volumes[1].persistentVolumeClaim.claimName")]


def test_a_node_class_that_auto_mode_has_by_itself() -> None:
    auto = pool().replace(
        "group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes",
        "group: eks.amazonaws.com, kind: NodeClass, name: default",
    )
    assert said(auto, "STK-MATCH-018") == []
    assert said(pool(), "STK-MATCH-018") == [("info", "spec.template.spec.nodeClassRef.name")]


# -- selectors --


def service(selector: str, name: str = "chat", target: str = "8080") -> str:
    ports = f"[{{name: web, port: 80, targetPort: {target}}}]"
    return thing("Service", name, more=f"spec: {{selector: {selector}, ports: {ports}}}")


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("{app: chat}", []),
        ("{app: chta}", [("warning", "spec.selector")]),
        ("{app: redis}", [("info", "spec.selector")]),
        ("{app: chat, statefulset.kubernetes.io/pod-name: chat-0}", []),
    ],
    ids=["meets", "misspelt", "may be an operator's", "set by a controller"],
)
def test_a_service_and_its_pods(selector: str, found: Found) -> None:
    assert said(deployment() + service(selector, name="front"), "STK-MATCH-025") == found


def test_a_service_alone_may_have_its_pods_elsewhere() -> None:
    assert said(service("{app: chat}"), "STK-MATCH-025") == []


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("http", []),
        ("grpc", [("warning", "spec.ports[0].targetPort")]),
        ("8080", []),
        ("9090", [("info", "spec.ports[0].targetPort")]),
    ],
)
def test_a_service_and_the_ports_of_its_pods(target: str, found: Found) -> None:
    pods = deployment(container="ports: [{name: http, containerPort: 8080}]")
    assert said(pods + service("{app: chat}", target=target), "STK-MATCH-026") == found


def test_a_monitor_that_looks_in_the_wrong_namespace() -> None:
    labelled = service("{app: chat}").replace("namespace: ai}", "namespace: ai, labels: {app: chat}}")
    spec = "spec: {selector: {matchLabels: {app: chat}}, endpoints: [{port: web}]@}"
    monitor = thing("ServiceMonitor", "chat", "monitoring.coreos.com/v1", "watch", spec)
    there = ", namespaceSelector: {matchNames: [ai]}"
    assert said(labelled + monitor.replace("@", ""), "STK-MATCH-027") == [("warning", "spec.namespaceSelector")]
    assert said(labelled + monitor.replace("@", there), "STK-MATCH-027") == []
    assert said(monitor.replace("@", ""), "STK-MATCH-027") == []


# -- volumes --


def test_a_monitor_is_not_judged_by_the_ports_of_what_may_have_other_labels() -> None:
    """A kro graph's pods get their labels when somebody makes an instance."""
    monitor = thing(
        "PodMonitor",
        "keda",
        "monitoring.coreos.com/v1",
        more="spec: {selector: {matchLabels: {app: keda}}, podMetricsEndpoints: [{port: metrics}]}",
    )
    pod = "spec: {containers: [{name: a, image: 'a:1', ports: [{name: http, containerPort: 80}]}]}"
    known = thing("Pod", "chat", more=pod).replace("namespace: ai}", "namespace: ai, labels: {app: keda}}")
    graph = """\
apiVersion: kro.run/v1alpha1
kind: ResourceGraphDefinition
metadata: {name: stack}
spec:
  schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
  resources:
  - id: pod
    template:
      apiVersion: v1
      kind: Pod
      metadata: {name: "${schema.spec.name}", namespace: ai, labels: {app: "${schema.spec.name}"}}
      spec: {containers: [{name: a, image: "a:1", ports: [{name: http, containerPort: 80}]}]}
"""
    assert [severity for severity, _ in said(f"{monitor}---\n{known}", "STK-MATCH-028")] == ["warning"]
    assert said(f"{monitor}---\n{graph}", "STK-MATCH-028") == []


def claim(mode: str, storage_class: str = "gp3") -> str:
    spec = f"accessModes: [{mode}], storageClassName: {storage_class}, resources: {{requests: {{storage: 1Gi}}}}"
    return thing("PersistentVolumeClaim", "weights", more=f"spec: {{{spec}}}")


@pytest.mark.parametrize(
    ("replicas", "other", "found"),
    [
        (1, claim("ReadWriteOnce"), []),
        (2, claim("ReadWriteOnce"), ["warning"]),
        (2, claim("ReadWriteMany"), []),
        (2, claim("ReadWriteOnce", "efs-sc"), []),
        (2, "", ["info"]),
        (1, claim("ReadWriteOnce") + deployment(CLAIM, name="loader"), ["info"]),
    ],
    ids=["one pod", "two pods", "for many", "a file system of the network", "not in sight", "by turns"],
)
def test_a_volume_of_one_node_shared_by_pods(replicas: int, other: str, found: list[str]) -> None:
    path = "spec.template.spec.volumes[0].persistentVolumeClaim.claimName"
    assert said(deployment(CLAIM, replicas=replicas) + other, "STK-MATCH-030") == [(each, path) for each in found]


def test_an_autoscaler_makes_one_replica_many() -> None:
    scaler = thing(
        "HorizontalPodAutoscaler",
        "chat",
        "autoscaling/v2",
        more="spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}, maxReplicas: 5}",
    )
    found = messages(deployment(CLAIM) + claim("ReadWriteOnce") + scaler, "STK-MATCH-030")
    assert found == [
        "5 pods of Deployment ai/chat mount the claim weights, which is ReadWriteOnce: one node at a time "
        "has it, so the others wait"
    ]


# -- names --


def test_the_same_name_in_one_file_is_worse_than_in_files_side_by_side() -> None:
    one = thing("ConfigMap", "a")
    assert said(one + one, "STK-MATCH-034") == [("warning", "metadata.name")]


def test_the_same_name_in_other_folders_is_how_stages_are_kept(tmp_path: Path) -> None:
    for stage in ("dev", "prod"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "a.yaml").write_text(thing("ConfigMap", "a"))
    (tmp_path / "dev" / "b.yaml").write_text(thing("ConfigMap", "a"))
    report = lint(read([str(tmp_path)]), Config(only=frozenset({"STK-MATCH-034"})))
    assert [(Path(each.file).name, each.severity.value) for each in report.findings] == [("b.yaml", "info")]


def test_patches_beside_a_kustomization_are_not_the_object_again() -> None:
    text = (
        thing("ConfigMap", "a")
        + thing("ConfigMap", "a")
        + thing("Kustomization", "k", "kustomize.config.k8s.io/v1beta1", "")
    )
    assert said(text, "STK-MATCH-034") == []


# -- inside a pod --


def test_a_probe_s_port_is_looked_up_in_its_own_container() -> None:
    ports = "ports: [{name: http, containerPort: 8080}]"
    probe = "readinessProbe: {httpGet: {path: /, port: http}}"
    both = f"{ports}\n      - name: side\n        image: side:v1\n        {probe}"
    assert said(deployment(container=both), "STK-MATCH-036") == [
        ("error", "spec.template.spec.containers[1].readinessProbe.httpGet.port")
    ]
    assert said(deployment(container=f"{ports}\n        {probe}"), "STK-MATCH-036") == []


def test_a_host_port_twice_is_refused_and_udp_is_another_port() -> None:
    first = "ports: [{containerPort: 53, protocol: UDP, hostPort: 53}]"
    second = "{containerPort: 53, hostPort: 53, protocol: @}"
    text = deployment(container=f"{first}\n      - name: side\n        image: side:v1\n        ports: [{second}]")
    at = "spec.template.spec.containers[1].ports[0]"
    assert said(text.replace("@", "TCP"), "STK-MATCH-037") == []
    assert said(text.replace("@", "UDP"), "STK-MATCH-037") == [
        ("warning", f"{at}.containerPort"),
        ("error", f"{at}.hostPort"),
    ]


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("status.podIP", True),
        ("metadata.labels['app']", True),
        ("metadata.labels", False),
        ("spec.hostname", False),
    ],
)
def test_fields_that_a_variable_can_have(field: str, known: bool) -> None:
    env = f'env: [{{name: A, valueFrom: {{fieldRef: {{fieldPath: "{field}"}}}}}}]'
    path = "spec.template.spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"
    assert said(deployment(container=env), "STK-MATCH-038") == ([] if known else [("error", path)])


# -- the guide --


def test_the_guide_s_faults_are_found_where_they_stand() -> None:
    report = lint(read([str(HERE / "guide_wrong")]), Config(only=OWN))
    claim_name = "spec.template.spec.volumes[0].persistentVolumeClaim.claimName"
    account = "spec.template.spec.serviceAccountName"
    assert {(each.rule, each.object, each.path) for each in report.findings} == {
        ("STK-MATCH-002", "Workflow ai/pipeline", 'spec.templates[1].nodeSelector."karpenter.sh/nodepool"'),
        ("STK-MATCH-010", "Deployment ai/chat", claim_name),
        ("STK-MATCH-011", "Deployment ai/chat", account),
        ("STK-MATCH-011", "DaemonSet kube-system/aws-node-termination-handler", account),
        ("STK-MATCH-011", "PyTorchJob training/finetune", f"spec.pytorchReplicaSpecs.Master.{account[5:]}"),
        ("STK-MATCH-030", "Deployment ai/chat", claim_name),
        ("STK-MATCH-035", "Deployment chat", "metadata.namespace"),
    }


def test_the_corrected_forms_meet() -> None:
    report = lint(read([str(HERE / "guide_right")]), Config(only=OWN))
    assert {(each.rule, each.severity.value) for each in report.findings} == {("STK-MATCH-017", "info")}


def test_a_template_of_a_workflow_is_not_given_tolerations_that_would_replace_the_workflow_s() -> None:
    text = (
        pool(TIER)
        + """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {name: run, namespace: ai}
spec:
  entrypoint: work
  tolerations: [{key: other, operator: Exists}]
  templates: [{name: work, nodeSelector: {tier: serving}, container: {image: "work:v1"}}]
"""
    )
    assert said(text, "STK-MATCH-004") == [("error", "spec.templates[0].tolerations")]
    assert fix(read_text(text, "a.yaml"), Config(only=frozenset({"STK-MATCH-004"}))).texts.get("a.yaml", text) == text


def test_a_label_that_other_nodes_may_have_too_is_less_sure() -> None:
    """`stage: prod` may be on node groups out of sight; the tainted label, and the pool's name, are this pool's."""
    prod = pool(TIER, labels="{tier: serving, stage: prod}")
    path = "spec.template.spec.tolerations"
    assert said(prod + deployment("nodeSelector: {stage: prod}"), "STK-MATCH-004") == [("warning", path)]
    assert said(prod + deployment("nodeSelector: {tier: serving}"), "STK-MATCH-004") == [("error", path)]
    named = deployment("nodeSelector: {karpenter.sh/nodepool: serving}")
    assert said(prod + named, "STK-MATCH-004") == [("error", path)]


def test_the_namespace_of_argo_cd_is_there_before_its_objects() -> None:
    """Argo CD reads its own objects only where it runs; a Workflow may be anywhere."""
    made = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ai}\n---\n"
    project = "apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: ai, namespace: argocd}\nspec: {}\n"
    assert said(made + project, "STK-MATCH-021") == []
    workflow = project.replace("AppProject", "Workflow")
    assert said(made + workflow, "STK-MATCH-021") == [("info", "metadata.namespace")]


def test_a_policy_may_select_the_pods_that_a_controller_makes_for_a_gateway() -> None:
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: ai}
spec:
  selector: {matchLabels: {app: chat}}
  template: {metadata: {labels: {app: chat}}, spec: {containers: [{name: chat, image: "chat:v1"}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: proxy, namespace: ai}
spec:
  podSelector: {matchLabels: {gateway.networking.k8s.io/gateway-name: edge}}
  policyTypes: [Ingress]
"""
    gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: ai}\n"
    assert said(text, "STK-MATCH-029") == [("info", "spec.podSelector")]
    assert said(text + gateway, "STK-MATCH-029") == []
    assert said(text + gateway.replace("edge", "other"), "STK-MATCH-029") == [("info", "spec.podSelector")]
