"""What the API server's code refuses of core kinds: one object that is right, and one change at a time."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog import schemas
from stoker.lint import core_validation, names, structural
from stoker.lint.run import lint
from stoker.lint.structural import Fault
from stoker.manifests import quantities
from stoker.manifests.reading import read_text


@pytest.fixture(autouse=True)
def shipped_alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SCHEMAS", str(tmp_path_factory.mktemp("none")))


def found(text: str, *, is_open: Any = structural.never_open) -> list[Fault]:
    """The faults of the code and of the schema, as a run of lint has them."""
    obj = yaml.safe_load(text)
    schema = schemas.find(obj["apiVersion"], obj["kind"])
    assert schema is not None
    gvk = (schema.group, obj["apiVersion"].rpartition("/")[2], obj["kind"])
    return [
        *structural.faults(obj, schema, is_open=is_open),
        *core_validation.core_faults(obj, gvk, is_open=is_open),
    ]


def brief(text: str) -> list[str]:
    return [f"{fault.kind} {'.'.join(str(part) for part in fault.path)}" for fault in found(text)]


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec:
      restartPolicy: Always
      tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
      volumes: [{name: cache, emptyDir: {medium: Memory}}]
      initContainers: [{name: warm, image: warm}]
      containers:
        - name: web
          image: web:1
          ports: [{containerPort: 8000, name: http}]
          env: [{name: A, value: "1"}, {name: A, value: "2"}]
          resources: {requests: {cpu: 500m, nvidia.com/gpu: 1}, limits: {cpu: 1, memory: 2Gi, nvidia.com/gpu: "1"}}
          volumeMounts: [{name: cache, mountPath: /cache}]
          readinessProbe: {httpGet: {path: /, port: http}}
"""
# Each: what is changed in the Deployment, and what is said of it.
CHANGES: list[tuple[str, str, list[str]]] = [
    ("{app: web, tier: front}", "{app: api}", ["bad-value spec.template.metadata.labels.app"]),
    ("{app: web, tier: front}", "{}", ["bad-value spec.template.metadata.labels"]),
    ("matchLabels: {app: web}", "", ["bad-value spec.selector"]),
    (
        "matchLabels: {app: web}",
        "matchExpressions: [{key: app, operator: In, values: [api]}]",
        ["bad-value spec.selector.matchExpressions.0"],
    ),
    ("replicas: 2", "replicas: -1", ["out-of-range spec.replicas"]),
    ("type: RollingUpdate", "type: Rolling", ["not-in-enum spec.strategy.type"]),
    ("type: RollingUpdate", "type: Recreate", ["bad-value spec.strategy.rollingUpdate"]),
    ("maxSurge: 1", "maxSurge: 0", ["bad-value spec.strategy.rollingUpdate.maxUnavailable"]),
    ("maxSurge: 1", "maxSurge: 25", []),
    ("maxSurge: 1", "maxSurge: 25%", []),
    ("maxSurge: 1", "maxSurge: a lot", ["bad-value spec.strategy.rollingUpdate.maxSurge"]),
    ("restartPolicy: Always", "restartPolicy: OnFailure", ["bad-value spec.template.spec.restartPolicy"]),
    ("restartPolicy: Always", "restartPolicy: Often", ["not-in-enum spec.template.spec.restartPolicy"]),
    ("restartPolicy: Always", 'restartPolicy: ""', []),
    ("restartPolicy: Always", "activeDeadlineSeconds: 5", ["bad-value spec.template.spec.activeDeadlineSeconds"]),
    ("operator: Exists", "operator: Exists, value: x", ["bad-value spec.template.spec.tolerations.0.value"]),
    ("operator: Exists", "operator: Is", ["not-in-enum spec.template.spec.tolerations.0.operator"]),
    ("NoSchedule}", "NoWay}", ["not-in-enum spec.template.spec.tolerations.0.effect"]),
    (
        "NoSchedule}",
        "NoSchedule, tolerationSeconds: 5}",
        ["bad-value spec.template.spec.tolerations.0.tolerationSeconds"],
    ),
    ("emptyDir: {medium: Memory}", "emptyDir:", []),
    (
        "emptyDir: {medium: Memory}",
        "emptyDir: {medium: Ram}",
        ["bad-value spec.template.spec.volumes.0.emptyDir.medium"],
    ),
    (
        "emptyDir: {medium: Memory}",
        "emptyDir: {}, hostPath: {path: /a}",
        ["bad-value spec.template.spec.volumes.0.hostPath"],
    ),
    ("name: warm, image: warm", "name: web, image: warm", ["duplicate-key spec.template.spec.containers.0.name"]),
    (
        "image: warm",
        "image: warm, livenessProbe: {exec: {command: [a]}}",
        ["bad-value spec.template.spec.initContainers.0.livenessProbe"],
    ),
    ("name: warm", "name: Warm_Up", ["bad-name spec.template.spec.initContainers.0.name"]),
    (", image: warm", "", ["missing-field spec.template.spec.initContainers.0.image"]),
    ("8000", "80000", ["out-of-range spec.template.spec.containers.0.ports.0.containerPort"]),
    ("name: http}]\n", "name: HTTP}]\n", ["bad-name spec.template.spec.containers.0.ports.0.name"]),
    ('{name: A, value: "2"}', "{name: B=C}", ["bad-name spec.template.spec.containers.0.env.1.name"]),
    (
        '{name: A, value: "2"}',
        "{name: B, value: b, valueFrom: {fieldRef: {fieldPath: a}}}",
        ["bad-value spec.template.spec.containers.0.env.1.valueFrom"],
    ),
    ("cpu: 500m", "cpu: 2", ["bad-value spec.template.spec.containers.0.resources.requests.cpu"]),
    ("cpu: 500m", "cpu: -1", ["out-of-range spec.template.spec.containers.0.resources.requests.cpu"]),
    ("cpu: 500m", "gpu: 1", ["bad-name spec.template.spec.containers.0.resources.requests.gpu"]),
    ("cpu: 500m", "cpu: half", ["bad-format spec.template.spec.containers.0.resources.requests.cpu"]),
    (
        "nvidia.com/gpu: 1}",
        "nvidia.com/gpu: 2}",
        ["bad-value spec.template.spec.containers.0.resources.requests.nvidia.com/gpu"],
    ),
    (
        ', nvidia.com/gpu: "1"',
        "",
        ["bad-value spec.template.spec.containers.0.resources.requests.nvidia.com/gpu"],
    ),
    (
        'requests: {cpu: 500m, nvidia.com/gpu: 1}, limits: {cpu: 1, memory: 2Gi, nvidia.com/gpu: "1"}',
        "limits: {nvidia.com/gpu: 500m}",
        ["bad-value spec.template.spec.containers.0.resources.limits.nvidia.com/gpu"],
    ),
    (
        "{name: cache, mountPath",
        "{name: cash, mountPath",
        ["bad-value spec.template.spec.containers.0.volumeMounts.0.name"],
    ),
    ("port: http", "port: 0", ["out-of-range spec.template.spec.containers.0.readinessProbe.httpGet.port"]),
    (
        "httpGet: {path: /, port: http}",
        "periodSeconds: 5",
        ["bad-value spec.template.spec.containers.0.readinessProbe"],
    ),
    (
        "readinessProbe: {",
        "livenessProbe: {successThreshold: 2, ",
        ["bad-value spec.template.spec.containers.0.livenessProbe.successThreshold"],
    ),
    ("name: web, labels", "name: Web, labels", ["bad-name metadata.name"]),
    ("name: web, labels: {app: web}", "labels: {app: web}", ["missing-field metadata.name"]),
    ("labels: {app: web}}\nspec", "labels: {app: web web}}\nspec", ["bad-name metadata.labels.app"]),
]


def test_a_deployment_that_is_right() -> None:
    """Two variables of one name are allowed: the later one counts."""
    assert found(DEPLOYMENT) == []


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES, ids=[f"{new[:40]}" for _, new, _ in CHANGES])
def test_one_change_to_a_deployment(old: str, new: str, expected: list[str]) -> None:
    assert old in DEPLOYMENT
    assert brief(DEPLOYMENT.replace(old, new, 1)) == expected


def pod(spec: str) -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: a, image: a}}], {spec}}}\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("nodeSelector: {a: b}", []),
        ("nodeSelector: {a: -b}", ["bad-name spec.nodeSelector.a"]),
        (
            "topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: Never}]",
            [
                "not-in-enum spec.topologySpreadConstraints.0.whenUnsatisfiable",
                "out-of-range spec.topologySpreadConstraints.0.maxSkew",
            ],
        ),
        (
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
            "[{matchExpressions: [{key: a, operator: In}, {key: b, operator: Exists, values: [c]}, "
            "{key: d, operator: Gt, values: [e]}]}]}}}",
            [
                f"{kind} spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.0."
                f"matchExpressions.{where}"
                for kind, where in (("missing-field", "0.values"), ("bad-value", "1.values"), ("bad-value", "2.values"))
            ],
        ),
        (
            "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: "
            "[{weight: 0, podAffinityTerm: {topologyKey: zone}}]}}",
            ["out-of-range spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.weight"],
        ),
        ("tolerations: [{operator: Exists}]", []),
        ("tolerations: [{effect: NoSchedule}]", ["bad-value spec.tolerations.0.operator"]),
        ("dnsPolicy: None", ["bad-value spec.dnsPolicy"]),
        ("hostPID: true, shareProcessNamespace: true", ["bad-value spec.shareProcessNamespace"]),
        ("terminationGracePeriodSeconds: -1", ["out-of-range spec.terminationGracePeriodSeconds"]),
    ],
)
def test_pods(spec: str, expected: list[str]) -> None:
    assert brief(pod(spec)) == expected


def test_a_pod_without_containers() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: %s}\n"

    assert brief(text % "[]") == ["missing-field spec.containers"]
    assert brief(text % "") == ["missing-field spec.containers"]


OBJECTS: list[tuple[str, list[str]]] = [
    (
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {restartPolicy: Never, "
        "containers: [{name: a, image: a}]}}}}",
        [],
    ),
    (
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {"
        "containers: [{name: a, image: a}]}}}}",
        ["missing-field spec.template.spec.restartPolicy"],
    ),
    (
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {completionMode: Indexed, template: {spec: {"
        "restartPolicy: Always, containers: [{name: a, image: a}]}}}}",
        ["bad-value spec.template.spec.restartPolicy", "missing-field spec.completions"],
    ),
    (
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: '*/5 * * *', "
        "concurrencyPolicy: Deny, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, "
        "containers: [{name: a, image: a}]}}}}}}",
        ["not-in-enum spec.concurrencyPolicy", "bad-value spec.schedule"],
    ),
    (
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, "
        "podManagementPolicy: Together, volumeClaimTemplates: [{metadata: {name: data}, "
        "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], "
        "template: {metadata: {labels: {a: b}}, spec: {containers: "
        "[{name: a, image: a, volumeMounts: [{name: data, mountPath: /d}]}]}}}}",
        ["not-in-enum spec.podManagementPolicy"],
    ),
    (
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, "
        "updateStrategy: {rollingUpdate: {maxUnavailable: 0}}, "
        "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}",
        ["bad-value spec.updateStrategy.rollingUpdate.maxUnavailable"],
    ),
    ("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None, selector: {a: b}}}", []),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: 1a}, spec: {}}",
        ["bad-name metadata.name", "missing-field spec.ports"],
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: Public, ports: [{port: 80}, {port: 80}]}}",
        [
            "not-in-enum spec.type",
            "missing-field spec.ports.0.name",
            "missing-field spec.ports.1.name",
            "duplicate-key spec.ports.1",
        ],
    ),
    (
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName}}",
        ["missing-field spec.externalName"],
    ),
    ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {'a b': c}}", ["bad-name data.a b"]),
    ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: 1}}", ["wrong-type data.a"]),
    ("{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: '!'}}", ["bad-format data.a"]),
    (
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, type: kubernetes.io/tls, stringData: {tls.crt: a}}",
        ["missing-field data.tls.key"],
    ),
    (
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {accessModes: [ReadWriteOften], "
        "resources: {requests: {}}}}",
        ["not-in-enum spec.accessModes.0", "missing-field spec.resources.requests.storage"],
    ),
    (
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {}}",
        ["missing-field spec.accessModes", "missing-field spec.resources"],
    ),
    (
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {minReplicas: 5, "
        "maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a}, metrics: [{type: Resource, resource: "
        "{name: cpu, target: {type: Utilization}}}, {type: Pods}], behavior: {scaleDown: {selectPolicy: Most, "
        "stabilizationWindowSeconds: 4000, policies: [{type: Pods, value: 0, periodSeconds: 15}]}}}}",
        [
            "not-in-enum spec.behavior.scaleDown.selectPolicy",
            "bad-value spec.maxReplicas",
            "missing-field spec.metrics.0.resource.target.averageUtilization",
            "missing-field spec.metrics.1.pods",
            "out-of-range spec.behavior.scaleDown.stabilizationWindowSeconds",
            "out-of-range spec.behavior.scaleDown.policies.0.value",
        ],
    ),
    (
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {minAvailable: 1, "
        "maxUnavailable: 150%, unhealthyPodEvictionPolicy: Always}}",
        [
            "not-in-enum spec.unhealthyPodEvictionPolicy",
            "bad-value spec.maxUnavailable",
            "bad-value spec.maxUnavailable",
        ],
    ),
    (
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: {rules: [{host: A.b, "
        "http: {paths: [{path: a, pathType: Prefix, backend: {service: {name: a, port: {}}}}]}}]}}",
        [
            "bad-name spec.rules.0.host",
            "bad-value spec.rules.0.http.paths.0.path",
            "bad-value spec.rules.0.http.paths.0.backend.service.port",
        ],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: 'a:b'}, "
        "roleRef: {apiGroup: v1, kind: ClusterRole, name: a}, subjects: [{kind: ServiceAccount, name: a}]}",
        ["bad-value roleRef.apiGroup", "missing-field subjects.0.namespace"],
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}, rules: [{verbs: [], "
        "resources: [pods]}]}",
        ["missing-field rules.0.verbs", "missing-field rules.0.apiGroups"],
    ),
    ("{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}", ["bad-name metadata.name"]),
    (
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a}, provisioner: ebs.csi.aws.com, "
        "volumeBindingMode: Later}",
        ["not-in-enum volumeBindingMode"],
    ),
    (
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: a}, value: 2000000000}",
        ["out-of-range value"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), OBJECTS)
def test_other_kinds(text: str, expected: list[str]) -> None:
    assert brief(text) == expected


def test_what_tools_write_and_the_server_takes() -> None:
    """Null creation times, an empty status, fields that the published schema demands and the server does not."""
    text = DEPLOYMENT.replace("metadata: {labels:", "metadata: {creationTimestamp: null, labels:")
    text = text.replace("httpGet: {", "httpGet: {httpHeaders: [{name: X-Empty}], ")
    assert found(text + "status: {}\n") == []
    quota = "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {}}"
    assert found(quota) == []


def test_messages_say_what_and_what_would_be_right() -> None:
    (fault,) = found(DEPLOYMENT.replace("{app: web, tier: front}", "{app: api}"))
    assert fault.message == 'the selector wants the label app: web, and the pod template has "api"'
    assert fault.hint == "write app: web in spec.template.metadata.labels"

    (fault,) = found(DEPLOYMENT.replace("cpu: 500m", "cpu: 2"))
    assert fault.message == "the request of cpu, 2, is more than its limit, 1"


def test_what_is_filled_in_later_is_not_judged() -> None:
    text = DEPLOYMENT.replace("{app: web, tier: front}", "{app: '${name}'}").replace("cpu: 500m", "cpu: '${cpu}'")
    text = text.replace("name: web, labels", "name: '${name}', labels").replace(
        "{name: cache, emp", "{name: '${v}', emp"
    )

    assert found(text, is_open=lambda value: isinstance(value, str) and "${" in value) == []


def test_the_pods_of_other_kinds() -> None:
    spec = {"containers": [{"name": "a", "image": "a", "volumeMounts": [{"name": "no", "mountPath": "/a"}]}]}

    (fault,) = core_validation.pod_spec_faults(spec, ("spec", "pod"))

    assert fault.path == ("spec", "pod", "containers", 0, "volumeMounts", 0, "name")
    assert (fault.message, fault.hint) == ("no volume of the pod is called no", "the pod has no volumes")


GROUP = """\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: big, namespace: ai}
spec:
  leaderWorkerTemplate:
    size: 2
    leaderTemplate: {spec: {containers: [{name: a, image: a:1, volumeMounts: [{name: shm, mountPath: /dev/shm}]}]}}
    workerTemplate:
      spec:
        containers: [{name: a, image: a:1, volumeMounts: [{name: shm, mountPath: /dev/shm}]}]
        volumes: [{name: shm, emptyDir: {medium: Memory}}]
"""
JOBS = """\
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: jobs, namespace: ai}
spec:
  replicatedJobs:
    - name: w
      template:
        spec:
          template: {spec: {restartPolicy: Never, containers: [{name: a, image: a:1, volumeMounts: [MOUNT]}]}}
""".replace("MOUNT", "{name: data, mountPath: /d}")
RUNTIME = """\
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainingRuntime
metadata: {name: runtime, namespace: ai}
spec:
  template:
    spec:
      replicatedJobs:
        - name: node
          template: {spec: {template: {spec: {containers: [{name: node, image: a:1, volumeMounts: [MOUNT]}]}}}}
""".replace("MOUNT", "{name: data, mountPath: /d}")


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (GROUP, ["spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0].volumeMounts[0].name"]),
        (GROUP.replace("size: 2", "size: 2\n    volumeClaimTemplates: [{metadata: {name: shm}, spec: {}}]"), []),
        (JOBS, ["spec.replicatedJobs[0].template.spec.template.spec.containers[0].volumeMounts[0].name"]),
        (JOBS + "  volumeClaimPolicies: [{templates: [{metadata: {name: data}, spec: {}}]}]\n", []),
        (RUNTIME, []),  # a TrainJob may add the volume
    ],
)
def test_a_mount_without_its_volume_is_found_in_the_pods_of_other_controllers(text: str, paths: list[str]) -> None:
    report = lint(read_text(text))

    said = [(each.rule, each.path) for each in report.findings if "no volume of the pod is called" in each.message]
    assert said == [("STK-API-005", path) for path in paths]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("500m", "0.5"),
        ("1Ki", "1024"),
        ("1e3", "1k"),
        ("1E", "1e18"),
        ("+1.5Gi", "1536Mi"),
        (".5", "500m"),
        ("-1", "-1000m"),
    ],
)
def test_quantities(text: str, same: str) -> None:
    assert quantities.amount(text) == quantities.amount(same) is not None


@pytest.mark.parametrize("text", ["", "1GB", "1 Gi", "Gi", "1.2.3", "1e", "٣", "1e9999", True, None, float("nan")])
def test_what_is_no_quantity(text: Any) -> None:
    assert quantities.amount(text) is None


def test_names() -> None:
    assert [rule("a.b") for rule in (names.dns_subdomain, names.label_key, names.label_value)] == ["", "", ""]
    assert names.label_key("example.com/team") == ""
    assert names.dns_label("a" * 64) == "is 64 characters long; 63 is the most"
    assert names.label_key("Example.com/team").startswith("has the prefix 'Example.com'")
    assert names.port_name("8080").startswith("must be lower-case letters")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
KEYS = st.sampled_from(
    ["spec", "metadata", "name", "labels", "template", "containers", "initContainers", "resources", "requests",
     "limits", "cpu", "nvidia.com/gpu", "ports", "env", "valueFrom", "volumes", "volumeMounts", "selector",
     "matchLabels", "matchExpressions", "operator", "values", "key", "strategy", "rollingUpdate", "maxSurge",
     "maxUnavailable", "affinity", "nodeAffinity", "tolerations", "jobTemplate", "schedule", "rules", "data",
     "metrics", "behavior", "scaleDown", "policies", "type", "readinessProbe", "httpGet", "port",
     "topologySpreadConstraints"]
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(tree=TREES, gvk=st.sampled_from(sorted(core_validation._CHECKS)))
def test_any_tree_is_judged(tree: Any, gvk: tuple[str, str]) -> None:
    group, kind = gvk
    for obj in (tree, {"metadata": tree, "spec": tree, "data": tree, "rules": tree, "roleRef": tree, "subjects": tree}):
        for fault in core_validation.core_faults(obj, (group, "v1", kind)):
            assert fault.message
    template = {"selector": tree, "strategy": tree, "template": {"metadata": tree, "spec": tree}}
    core_validation.core_faults({"spec": template}, (group, "v1", kind))
    core_validation.pod_spec_faults({"containers": [tree], "volumes": [tree], "affinity": tree}, ("spec",))


POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec:
  podSelector: {}
  egress:
  - ports: [{port: 80, endPort: 90}]
    to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
"""


@pytest.mark.parametrize(
    ("right", "wrong", "path"),
    [
        ("endPort: 90", "endPort: 70", ("spec", "egress", 0, "ports", 0, "endPort")),
        ("port: 80, endPort", "port: http, endPort", ("spec", "egress", 0, "ports", 0, "endPort")),
        ("10.0.0.0/8", "10.0.0.0", ("spec", "egress", 0, "to", 0, "ipBlock", "cidr")),
        ("10.1.0.0/16", "10.1.0.0/99", ("spec", "egress", 0, "to", 0, "ipBlock", "except", 0)),
        ("namespace: shop", "namespace: sh.op", ("metadata", "namespace")),
    ],
)
def test_a_network_policy(right: str, wrong: str, path: tuple[str | int, ...]) -> None:
    def paths(text: str) -> list[tuple[str | int, ...]]:
        kind = ("networking.k8s.io", "v1", "NetworkPolicy")
        return [fault.path for fault in core_validation.core_faults(yaml.safe_load(text), kind)]

    assert paths(POLICY) == []
    assert paths(POLICY.replace(right, wrong)) == [path]
