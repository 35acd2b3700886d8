"""Rules of security beyond the examples in their docstrings: where they begin and where they end."""

from pathlib import Path

import pytest
from asking import messages, said

from stoker.lint.rules.security._iam import listed, open_to_all
from stoker.lint.rules.security._placeholders import placeholder
from stoker.lint.rules.security._pod_security import violations
from stoker.lint.rules.security._secrets import by_form, by_name, flag, shortened
from stoker.lint.run import lint
from stoker.manifests.reading import read

HERE = Path(__file__).parent


def a_pod(spec: str, *, kind: str = "Pod") -> str:
    """A Pod, or a DaemonSet of such pods, with this in its spec (indented by two)."""
    if kind == "Pod":
        return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: ai}}\nspec:\n{spec}"
    deeper = "\n".join(f"    {line}" for line in spec.splitlines())
    return (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: a, namespace: ai}}\nspec:\n"
        "  selector: {matchLabels: {app: a}}\n"
        f"  template:\n    metadata: {{labels: {{app: a}}}}\n    spec:\n{deeper}"
    )


@pytest.mark.parametrize(
    ("host", "kind", "severity"),
    [
        ("/var/run/docker.sock", "DaemonSet", "warning"),
        ("/run/containerd/containerd.sock", "Pod", "warning"),
        ("/", "DaemonSet", "warning"),
        ("/etc/", "DaemonSet", "warning"),
        ("/var/lib/kubelet/pod-resources", "DaemonSet", "info"),
        ("/var/lib/kubelet/pod-resources", "Pod", "warning"),
        ("/dev/infiniband", "DaemonSet", "info"),
        ("/dev/infiniband", "Pod", "warning"),
        ("/procfs", "DaemonSet", "warning"),
    ],
)
def test_a_path_of_the_node_weighs_what_is_behind_it(host: str, kind: str, severity: str) -> None:
    spec = f"  volumes: [{{name: v, hostPath: {{path: {host}}}}}]\n"
    prefix = "spec." if kind == "Pod" else "spec.template.spec."
    assert said("STK-SECURITY-002", a_pod(spec, kind=kind)) == [(f"{prefix}volumes[0].hostPath.path", severity)]


def test_a_path_that_is_filled_in_later_is_not_judged() -> None:
    assert said("STK-SECURITY-002", a_pod('  volumes: [{name: v, hostPath: {path: "${WHERE}"}}]\n')) == []


def test_privileged_is_less_of_a_surprise_where_the_api_server_demands_it() -> None:
    spec = (
        "  containers:\n  - name: driver\n    securityContext: {privileged: true}\n"
        "    volumeMounts: [{name: pods, mountPath: /var/lib/kubelet, mountPropagation: Bidirectional}]\n"
        "  initContainers:\n  - name: setup\n    securityContext: {privileged: true}\n"
    )
    assert said("STK-SECURITY-001", a_pod(spec)) == [
        ("spec.containers[0].securityContext.privileged", "info"),
        ("spec.initContainers[0].securityContext.privileged", "warning"),
    ]


def test_the_host_s_namespaces_are_expected_of_daemonsets_only() -> None:
    spec = "  hostNetwork: true\n  hostPID: false\n"
    assert said("STK-SECURITY-003", a_pod(spec, kind="DaemonSet")) == [("spec.template.spec.hostNetwork", "info")]
    assert said("STK-SECURITY-003", a_pod(spec)) == [("spec.hostNetwork", "warning")]


@pytest.mark.parametrize(
    ("section", "value", "flagged"),
    [
        ("stringData", "<redis-password>", True),
        ("stringData", "tr0ub4dor", True),
        ("data", "PHJlZGlzLXBhc3N3b3JkPg==", True),
        ("data", "${PASSWORD_BASE64}", False),
        ("stringData", "{{ .Values.password }}", False),
        ("stringData", "ENC[AES256_GCM,data:abc=]", False),
        ("stringData", '""', False),
    ],
)
def test_a_secret_with_its_value(section: str, value: str, flagged: bool) -> None:
    quoted = value if value == '""' else f"'{value}'"
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: redis}}\n{section}:\n  password: {quoted}\n"
    assert said("STK-SECURITY-004", text) == ([(f"{section}.password", "warning")] if flagged else [])


def test_a_secret_says_whether_its_value_is_a_placeholder() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: redis}\ndata: {password: Y2hhbmdlbWU=, user: YQ==}\n"
    assert messages("STK-SECURITY-004", text) == [
        "password is the placeholder 'changeme': applied, it overwrites the real value"
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("AKIAIOSFODNN7EXAMPLE", "an AWS access key id"),
        ("https://hooks.slack.com/services/T0/B0/x", "a Slack webhook"),
        ("redis://:s3cret@redis:6379/0", "a password in a URL"),
        ("postgres://api:s3cret@db/api", "a password in a URL"),
        ("postgres://api:$(PASSWORD)@db/api", ""),
        ("redis://redis:6379/0", ""),
        ("https://user@example.com/", ""),
        ("hf_" + "a" * 34, "a Hugging Face token"),
        ("sk-short", ""),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc", "a private key"),
    ],
)
def test_what_is_a_credential_by_its_form(text: str, what: str) -> None:
    assert by_form(text) == what


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("DB_PASSWORD", "tr0ub4dor", True),
        ("HF_TOKEN", "abc", True),
        ("AWS_SECRET_ACCESS_KEY", "wJalr", True),
        ("OPENAI_API_KEY", "EMPTY", False),
        ("EOS_TOKEN", "</s>", False),
        ("MAX_TOKENS", "512", False),
        ("IMAGE_PULL_SECRET", "regcred", False),
        ("TLS_KEY_FILE", "abc", False),
        ("SIGNING_KEY", "/etc/keys/signing", False),
        ("PARTITION_KEY", "user", False),
        ("REQUIRE_TOKEN", "true", False),
        ("WEBHOOK_URL", "https://chat.example.com/hooks/abc", True),
        ("WEBHOOK_URL", "", False),
    ],
)
def test_what_is_a_credential_by_its_name(name: str, value: str, is_one: bool) -> None:
    assert (by_name(name, value) != "") is is_one


def test_a_report_does_not_repeat_the_credential() -> None:
    assert shortened("tr0ub4dor&3") == "tr0u..."
    assert shortened("<password>") == "<password>"
    assert flag("--api-key=abc") == ("api_key", "abc")


def test_credentials_in_arguments() -> None:
    spec = (
        "  containers:\n  - name: vllm\n    args: [--model, m, --api-key, abc123, --port, '80', '--token=$(TOKEN)',"
        " --db-password=xyz]\n"
    )
    assert said("STK-SECURITY-005", a_pod(spec)) == [
        ("spec.containers[0].args[3]", "warning"),
        ("spec.containers[0].args[7]", "warning"),
    ]


def test_the_name_of_a_secret_is_no_secret() -> None:
    spec = "  containers:\n  - name: a\n    env: [{name: DB_SECRET, value: redis}]\n"
    assert said("STK-SECURITY-005", a_pod(spec)) == [("spec.containers[0].env[0].value", "warning")]
    assert said("STK-SECURITY-005", a_pod(spec), exists=("Secret ai/redis",)) == []


@pytest.mark.parametrize(
    ("image", "flagged"),
    [
        ("a", True),
        ("a:latest", True),
        ("registry:5000/a", True),
        ("registry:5000/a:1.0", False),
        ("a@sha256:" + "0" * 64, False),
        ("a:latest@sha256:" + "0" * 64, False),
        ("${IMAGE}", False),
        ("{{ .Values.image }}:latest", False),
        ("a:main", True),
        ("a:v1", False),
    ],
)
def test_images(image: str, flagged: bool) -> None:
    spec = f"  containers:\n  - name: a\n    image: '{image}'\n"
    assert said("STK-SECURITY-007", a_pod(spec)) == ([("spec.containers[0].image", "warning")] if flagged else [])


SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: ai}
spec: {selector: {app: a}, ports: [{port: 80}]}
"""


def test_readiness_matters_more_behind_a_service() -> None:
    spec = "  containers:\n  - {name: a, ports: [{containerPort: 80}]}\n  - {name: sidecar}\n"
    path = "spec.template.spec.containers[0].readinessProbe"
    alone = a_pod(spec, kind="Deployment")
    assert said("STK-SECURITY-008", alone) == [(path, "info")]
    assert said("STK-SECURITY-008", alone + SERVICE) == [(path, "warning")]
    assert said("STK-SECURITY-008", alone + SERVICE.replace("app: a", "app: b")) == [(path, "info")]
    assert said("STK-SECURITY-008", alone + SERVICE.replace("namespace: ai", "namespace: b")) == [(path, "info")]
    early = SERVICE.replace("ports:", "publishNotReadyAddresses: true, ports:")
    assert said("STK-SECURITY-008", alone + early) == [(path, "info")]


def test_a_worker_without_ports_needs_no_probe() -> None:
    assert said("STK-SECURITY-008", a_pod("  containers: [{name: a}]\n", kind="Deployment")) == []
    assert said("STK-SECURITY-009", a_pod("  containers: [{name: a}]\n", kind="Deployment")) == []


@pytest.mark.parametrize(
    ("probes", "flagged"),
    [
        ("livenessProbe: {initialDelaySeconds: 60}", ["livenessProbe"]),
        ("livenessProbe: {initialDelaySeconds: 90}", []),  # 90 + 3 x 10 s
        ("livenessProbe: {initialDelaySeconds: 89}", ["livenessProbe"]),
        ("livenessProbe: {}\n    startupProbe: {failureThreshold: 12}", []),
        ("livenessProbe: {}\n    startupProbe: {failureThreshold: 11}", ["startupProbe"]),
        ("readinessProbe: {}", []),
    ],
)
def test_how_long_a_gpu_server_may_take_to_start(probes: str, flagged: list[str]) -> None:
    spec = f"  containers:\n  - name: a\n    resources: {{limits: {{nvidia.com/gpu: 1}}}}\n    {probes}\n"
    assert said("STK-SECURITY-010", a_pod(spec)) == [(f"spec.containers[0].{key}", "warning") for key in flagged]
    assert said("STK-SECURITY-010", a_pod(spec.replace("nvidia.com/gpu", "cpu"))) == []


def test_the_fixture_s_probe_for_keda_needs_its_comment() -> None:
    text = a_pod("  containers:\n  - name: a\n    # liveness, so that the HPA sees it\n    livenessProbe: {}\n")
    assert said("STK-SECURITY-011", text) == []
    text = text.replace("liveness,", "health check,")
    assert said("STK-SECURITY-011", text) == [("spec.containers[0].livenessProbe", "info")]


def test_hardening_may_stand_at_the_pod() -> None:
    spec = (
        "  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\n  containers:\n  - name: a\n"
    )
    assert messages("STK-SECURITY-012", a_pod(spec)) == [
        "container a may do more than it needs: allowPrivilegeEscalation, capabilities.drop not set"
    ]


BASELINE_FAULTS = [
    ({"hostPID": True}, [("hostPID",)]),
    ({"hostPID": False}, []),
    ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, [("volumes", 0, "hostPath")]),
    ({"containers": [{"securityContext": {"privileged": True}}]}, [("containers", 0, "securityContext", "privileged")]),
    (
        {"containers": [{"securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}}]},
        [("containers", 0, "securityContext", "capabilities", "add", 1)],
    ),
    ({"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]}, [("containers", 0, "ports", 0, "hostPort")]),
    ({"containers": [{"ports": [{"containerPort": 80, "hostPort": 0}]}]}, []),
    (
        {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies"}, {"name": "kernel.msgmax"}]}},
        [("securityContext", "sysctls", 1, "name")],
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        [("securityContext", "seccompProfile", "type")],
    ),
    (
        {"containers": [{"securityContext": {"procMount": "Unmasked"}}]},
        [("containers", 0, "securityContext", "procMount")],
    ),
    (
        {"initContainers": [{"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}]},
        [("initContainers", 0, "securityContext", "seLinuxOptions", "type")],
    ),
]


@pytest.mark.parametrize(("spec", "paths"), BASELINE_FAULTS)
def test_what_baseline_forbids(spec: dict[str, object], paths: list[tuple[object, ...]]) -> None:
    assert [path for path, _what in violations(spec, {}, "baseline")] == paths
    assert list(violations(spec, {}, "privileged")) == []


HARD = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def test_what_restricted_demands() -> None:
    own = ("containers", 0, "securityContext")
    assert list(violations({"containers": [{"securityContext": HARD}]}, {}, "restricted")) == []
    assert [path for path, _w in violations({"containers": [{}]}, {}, "restricted")] == [own]
    root = {"containers": [{"securityContext": {**HARD, "runAsUser": 0}}]}
    assert [path for path, _w in violations(root, {}, "restricted")] == [(*own, "runAsUser")]
    some = {"containers": [{"securityContext": {**HARD, "capabilities": {"drop": ["NET_RAW"], "add": ["CHOWN"]}}}]}
    assert [path for path, _w in violations(some, {}, "restricted")] == [
        (*own, "capabilities", "drop"),
        (*own, "capabilities", "add", 0),
    ]
    disk = {"volumes": [{"name": "a", "nfs": {}}, {"name": "b", "emptyDir": {}}], "containers": []}
    assert [path for path, _w in violations(disk, {}, "restricted")] == [("volumes", 0, "nfs")]


NAMESPACE = """
---
apiVersion: v1
kind: Namespace
metadata: {name: ai, labels: {pod-security.kubernetes.io/LEVEL}}
"""


def test_the_level_is_that_of_the_pod_s_own_namespace() -> None:
    pod = a_pod("  hostNetwork: true\n")
    enforced = NAMESPACE.replace("LEVEL", "enforce: baseline")
    assert said("STK-SECURITY-014", pod + enforced) == [("spec.hostNetwork", "error")]
    assert said("STK-SECURITY-014", pod + enforced.replace("name: ai", "name: b")) == []
    assert said("STK-SECURITY-014", pod + NAMESPACE.replace("LEVEL", "warn: baseline")) == []
    assert said("STK-SECURITY-014", pod + NAMESPACE.replace("LEVEL", "enforce: privileged")) == []


def a_role(rules: str, kind: str = "ClusterRole") -> str:
    return f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nrules: [{rules}]\n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}', [("rules[0].resources[0]", "warning")]),
        ('{apiGroups: ["*"], resources: ["*"], verbs: [get, list]}', []),
        ('{apiGroups: [""], resources: [pods], verbs: ["*"]}', [("rules[0].verbs[0]", "warning")]),
        ('{apiGroups: [keda.sh], resources: [scaledobjects], verbs: ["*"]}', [("rules[0].verbs[0]", "info")]),
        ('{apiGroups: [""], resources: [users], verbs: [impersonate]}', [("rules[0].verbs[0]", "warning")]),
    ],
)
def test_wildcards_in_roles(rule: str, expected: list[tuple[str, str]]) -> None:
    assert said("STK-SECURITY-015", a_role(rule)) == expected


def test_secrets_of_all_namespaces() -> None:
    rule = '{apiGroups: [""], resources: [secrets], verbs: [get]}'
    assert said("STK-SECURITY-017", a_role(rule)) == [("rules[0].resources[0]", "warning")]
    assert said("STK-SECURITY-017", a_role(rule, "Role")) == []
    assert said("STK-SECURITY-017", a_role(rule.replace("verbs", "resourceNames: [a], verbs"))) == []
    assert said("STK-SECURITY-017", a_role(rule.replace("[get]", "[create]"))) == []


def test_a_binding_to_everybody() -> None:
    text = (
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: a}\n"
        "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\n"
        "subjects: [{kind: Group, name: 'system:authenticated'}, {kind: Group, name: admins}]\n"
    )
    assert said("STK-SECURITY-016", text) == [("subjects[0].name", "warning")]
    assert said("STK-SECURITY-016", text.replace("name: view", "name: 'system:discovery'")) == []


@pytest.mark.parametrize(
    ("arn", "flagged"),
    [
        ("arn:aws:iam::111122223333:role/a", False),
        ("arn:aws-cn:iam::111122223333:role/path/a", False),
        ("arn:aws:iam::111122223333:instance-profile/a", True),
        ("arn:aws:iam::1111:role/a", True),
        ("arn:aws:iam::XXXXXXXXXXXX:role/a", False),  # the placeholder is another rule's
        ("${ROLE}", False),
        ("a", True),
    ],
)
def test_the_arn_of_a_role(arn: str, flagged: bool) -> None:
    text = (
        "apiVersion: v1\nkind: ServiceAccount\n"
        f"metadata: {{name: a, annotations: {{eks.amazonaws.com/role-arn: '{arn}'}}}}\n"
    )
    path = 'metadata.annotations."eks.amazonaws.com/role-arn"'
    assert said("STK-SECURITY-018", text) == ([(path, "error")] if flagged else [])


def a_policy(statement: str) -> str:
    return (
        "apiVersion: iam.services.k8s.aws/v1alpha1\nkind: Policy\nmetadata: {name: a}\nspec:\n  name: a\n"
        f"  policyDocument: '{{\"Statement\": {statement}}}'\n"
    )


@pytest.mark.parametrize(
    ("statement", "flagged"),
    [
        ('{"Effect": "Allow", "Action": "*", "Resource": "*"}', True),
        ('[{"Effect": "Allow", "Action": ["s3:GetObject", "s3:*"], "Resource": ["*"]}]', True),
        ('[{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::a"}]', False),
        ('[{"Effect": "Deny", "Action": "*", "Resource": "*"}]', False),
        ('[{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]', False),
        ('[{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}]', True),
        ('[{"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": {"a": {"b": "c"}}}]', False),
        ('[{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]', True),
    ],
)
def test_wildcards_in_policies(statement: str, flagged: bool) -> None:
    expected = [("spec.policyDocument", "warning")] if flagged else []
    assert said("STK-SECURITY-019", a_policy(statement)) == expected


def test_an_attached_administrator() -> None:
    text = (
        "apiVersion: iam.services.k8s.aws/v1alpha1\nkind: Role\nmetadata: {name: a}\n"
        "spec: {name: a, policies: ['arn:aws:iam::aws:policy/ReadOnlyAccess',"
        " 'arn:aws:iam::aws:policy/AdministratorAccess']}\n"
    )
    assert said("STK-SECURITY-019", text) == [("spec.policies[1]", "warning")]


def test_who_anybody_is() -> None:
    assert open_to_all({"Principal": "*"})
    assert open_to_all({"Principal": {"AWS": ["111122223333", "*"]}})
    assert not open_to_all({"Principal": {"Service": "*"}})
    assert listed(["a", 1]) == ["a"]


def test_a_public_bucket_policy() -> None:
    text = (
        "apiVersion: s3.services.k8s.aws/v1alpha1\nkind: Bucket\nmetadata: {name: a}\nspec:\n  name: a\n"
        '  policy: \'{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}]}\'\n'
    )
    assert said("STK-SECURITY-020", text) == [("spec.policy", "warning")]
    narrowed = text.replace('"Action"', '"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}, "Action"')
    assert said("STK-SECURITY-020", narrowed) == []


@pytest.mark.parametrize(
    ("resources", "flagged"),
    [
        ("{}", True),
        ("{requests: {cpu: 1, memory: 1Gi}}", False),
        ("{limits: {cpu: 1, memory: 1Gi}}", False),  # requests are then the limits
        ("{requests: {cpu: 1}, limits: {memory: 1Gi}}", False),
        ("{requests: {cpu: 1}}", True),
        ("{limits: {nvidia.com/gpu: 1}}", False),  # another rule's
        ("'${schema.spec.resources}'", False),
    ],
)
def test_requests(resources: str, flagged: bool) -> None:
    text = a_pod(f"  containers:\n  - name: a\n    resources: {resources}\n")
    path = "spec.containers[0].resources.requests"
    assert said("STK-SECURITY-021", text) == ([(path, "warning")] if flagged else [])


def test_a_limit_range_gives_what_is_missing() -> None:
    limits = (
        "\n---\napiVersion: v1\nkind: LimitRange\nmetadata: {name: a, namespace: ai}\n"
        "spec: {limits: [{type: Container, default: {memory: 1Gi}, defaultRequest: {cpu: 1}}]}\n"
    )
    pod = a_pod("  containers: [{name: a}]\n")
    for rule in ("STK-SECURITY-021", "STK-SECURITY-022"):
        assert len(said(rule, pod)) == 1
        assert said(rule, pod + limits) == []
        assert len(said(rule, pod + limits.replace("namespace: ai", "namespace: b"))) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("XXXXXXXXXXXX.dkr.ecr.us-west-2.amazonaws.com/a:1", "XXXXXXXXXXXX"),
        ("arn:aws:iam::<account-id>:role/a", "<account-id>"),
        ("arn:aws:iam::ACCOUNT_ID:role/a", "arn:aws:iam::ACCOUNT_ID"),
        ("ACCOUNT_ID", ""),  # the name of a variable
        ("arn:aws:iam::${ACCOUNT_ID}:role/a", ""),
        ("https://example.com/YOUR-ORG/repo", "YOUR-ORG"),
        ("changeme", "changeme"),
        ("a < b and c > d", ""),
        ("yourself", ""),
        ("echo <name> of the person to greet here", ""),
    ],
)
def test_placeholders(text: str, found: str) -> None:
    assert placeholder(text) == found


def test_placeholders_are_not_looked_for_in_code() -> None:
    text = a_pod("  containers:\n  - name: a\n    command: [sh, -c, 'echo <name>']\n    image: '<your-image>'\n")
    assert said("STK-SECURITY-026", text) == [("spec.containers[0].image", "warning")]


def test_who_is_reached_from_outside() -> None:
    pod = a_pod("  containers: [{name: a}]\n", kind="Deployment")
    route = (
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: ai}\n"
        "spec: {rules: [{backendRefs: [{name: a, port: 80}]}]}\n"
    )
    assert said("STK-SECURITY-024", pod + SERVICE) == []
    assert said("STK-SECURITY-024", pod + SERVICE + route) == [
        ("spec.template.spec.automountServiceAccountToken", "info")
    ]
    assert said("STK-SECURITY-025", pod + SERVICE + route) == [("metadata.namespace", "info")]


def test_the_faults_of_the_guide_are_where_they_should_be() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    rules = {f"STK-SECURITY-{number:03}" for number in (4, 5, 7, 11)}
    found = {(f.rule, f.object, f.path) for f in report.findings if f.rule in rules}
    container = "spec.template.spec.containers[0]"
    assert found == {
        ("STK-SECURITY-004", "Secret ai/redis", "stringData.password"),
        ("STK-SECURITY-005", "DaemonSet kube-system/aws-node-termination-handler", f"{container}.env[3].value"),
        ("STK-SECURITY-007", "Deployment ${schema.spec.modelName}", f"{container}.image"),
        ("STK-SECURITY-007", "Workflow ai/pipeline", "spec.templates[2].container.image"),
    }
