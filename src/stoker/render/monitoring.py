"""What is measured: the GPU exporter, who is scraped, rules and dashboards.

CloudWatch has a component of its own. The thresholds are in `monitoring_rules`, the panels in `dashboards`, and which
metrics there are in `metric_names`.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from stoker.render import dashboards, monitoring_rules, training
from stoker.render.facts import (
    AGENT_WORKER,
    AGENTS,
    DCGM,
    DCGM_PORT,
    GATEWAY,
    METRICS_PORT,
    MODEL,
    REDIS,
    WORKER_METRICS_PORT,
)
from stoker.render.items import Item, Resource
from stoker.render.metric_names import COUNTERS, publishers
from stoker.render.objects import NAME, Object, from_field, metadata, resources, selector, usual_labels
from stoker.render.plan import Plan
from stoker.render.redis import REPLICA as REDIS_COPIES

EXPORTER_IMAGE = "nvcr.io/nvidia/k8s/dcgm-exporter:4.6.1-4.8.4-distroless"
"""The last release with the names that dashboards, alerts and Container Insights know: 4.9 renames 23 of them to those
of DCGM 4.7, some in other units. Source: NVIDIA/dcgm-exporter, release notes of 4.8.4 and 4.9.0."""
COMPONENT = "monitoring"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
CLOUDWATCH_SPACE = "amazon-cloudwatch"
"""Where the CloudWatch add-on installs everything."""

_COUNTERS_FILE = "counters.csv"
_COUNTERS_FOLDER = "/etc/dcgm-counters"
_POD_RESOURCES = "/var/lib/kubelet/pod-resources"
_WORKERS_PORT = [
    {"action": "keep", "sourceLabels": ["__meta_kubernetes_pod_container_name"], "regex": "worker"},
    {
        "sourceLabels": ["__meta_kubernetes_pod_ip"],
        "targetLabel": "__address__",
        "replacement": f"${{1}}:{WORKER_METRICS_PORT}",
    },
]
_NODE_LABELS = {
    "instance_type": "node_kubernetes_io_instance_type",
    "capacity_type": "karpenter_sh_capacity_type",
    "zone": "topology_kubernetes_io_zone",
}


def render(plan: Plan) -> Iterator[Item]:
    said = plan.spec.global_.observability
    if not said.enabled:
        return
    if plan.gpu_exporter == "own":
        yield from _exporter(plan)
    if said.prometheus:
        yield from _monitors(plan)
        yield Resource("monitoring/rules.yaml", _rules(plan))
        if said.grafana:  # which shows what the rules record
            yield from _dashboards(plan)


def _exporter(plan: Plan) -> Iterator[Resource]:
    file = "monitoring/dcgm-exporter.yaml"
    space = plan.monitoring_namespace
    yield Resource(
        file,
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(plan, DCGM, COMPONENT, namespace=space),
            "automountServiceAccountToken": False,
        },
    )
    yield Resource(
        file,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(plan, DCGM, COMPONENT, namespace=space),
            "data": {_COUNTERS_FILE: _counters()},
        },
    )
    yield Resource(file, _daemon_set(plan), _WHY_EXPORTER)


_WHY_EXPORTER = """\
On each GPU node, whoever made it and however it is bought, and nowhere else. Auto Mode's nodes bring driver and \
device plugin, and no exporter. With observability.cloudwatch the add-on runs its own and this one is left \
out: two would count each GPU twice.
SYS_ADMIN and root, for two reasons: profiling fields (DCGM_FI_PROF_*), and NVIDIA's container toolkit, which on \
Bottlerocket shows devices to a container that has not requested them only with it. Not privileged.
stoker:ignore STK-SECURITY-002,STK-SECURITY-013 as said above; the kubelet's socket names pods"""


def _counters() -> str:
    return "".join(f"{field}, {kind}, {text}\n" for field, (kind, text) in COUNTERS.items())


def _daemon_set(plan: Plan) -> Object:
    """Source: NVIDIA/dcgm-exporter 4.8.4 deployment/examples/dcgm-exporter.yaml, for what it needs of the node."""
    placement = plan.on_gpu_nodes()
    if "affinity" not in placement:  # nodes of your own: their labels are those of GPU feature discovery
        placement = {"nodeSelector": {"nvidia.com/gpu.present": "true"}, **placement}
    container = {
        "name": DCGM,
        "image": EXPORTER_IMAGE,
        "env": [
            {"name": "DCGM_EXPORTER_LISTEN", "value": f":{DCGM_PORT}"},
            {"name": "DCGM_EXPORTER_KUBERNETES", "value": "true"},
            {"name": "DCGM_EXPORTER_COLLECTORS", "value": f"{_COUNTERS_FOLDER}/{_COUNTERS_FILE}"},
            from_field("NODE_NAME", "spec.nodeName"),
        ],
        "ports": [{"name": METRICS_PORT, "containerPort": DCGM_PORT}],
        "resources": resources("100m", "512Mi"),
        "startupProbe": _probe(period=10, failures=18),  # DCGM looks at each GPU before it answers
        "livenessProbe": _probe(period=15, failures=3),
        "readinessProbe": _probe(period=15, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "counters", "mountPath": _COUNTERS_FOLDER, "readOnly": True},
            {"name": "pod-resources", "mountPath": _POD_RESOURCES, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a folder of the container
        ],
    }
    pod = {
        "serviceAccountName": DCGM,
        "automountServiceAccountToken": False,
        **placement,
        "containers": [container],
        "volumes": [
            {"name": "counters", "configMap": {"name": DCGM}},
            {"name": "pod-resources", "hostPath": {"path": _POD_RESOURCES, "type": "Directory"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    # The exporter reads its list at start only: another list, another pod.
    version = {"stoker.dev/counters": hashlib.sha256(_counters().encode()).hexdigest()[:12]}
    labels = metadata(plan, DCGM, COMPONENT)["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(plan, DCGM, COMPONENT, namespace=plan.monitoring_namespace),
        "spec": {
            "selector": {"matchLabels": selector(DCGM)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": labels, "annotations": version}, "spec": pod},
        },
    }


def _probe(period: int, failures: int) -> Object:
    get = {"path": "/health", "port": METRICS_PORT}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def _monitors(plan: Plan) -> Iterator[Resource]:
    there = publishers(plan)
    yield _monitor(
        plan,
        "ServiceMonitor",
        GATEWAY,
        {"matchLabels": selector(GATEWAY)},
        {"port": "http", "path": "/metrics", "interval": "15s"},
        why="/metrics of the gateway asks for no key. Each gateway counts its own requests, so all are scraped.",
    )
    if plan.has_agents:
        endpoint = {"port": "http", "path": "/metrics", "interval": "15s"}
        yield _monitor(plan, "ServiceMonitor", AGENTS, {"matchLabels": selector(AGENTS)}, endpoint)
        yield _monitor(
            plan,
            "PodMonitor",
            AGENT_WORKER,
            {"matchLabels": selector(AGENT_WORKER)},
            endpoint,
            why="Workers serve nothing else, so no Service leads to them.",
        )
    if "engine" in there:
        model = {
            "sourceLabels": [f"__meta_kubernetes_service_label_{_as_label(MODEL)}"],
            "targetLabel": "model",
        }
        yield _monitor(
            plan,
            "ServiceMonitor",
            "engines",
            {"matchExpressions": [{"key": MODEL, "operator": "Exists"}]},
            {"port": "http", "path": "/metrics", "interval": "15s", "relabelings": [model]},
            why="vLLM's own metrics, with the name of the model as the gateway says it.",
        )
    if "worker" in there:
        yield _monitor(
            plan,
            "PodMonitor",
            "workers",
            {"matchExpressions": [{"key": MODEL, "operator": "Exists"}]},
            {"path": "/metrics", "interval": "15s", "relabelings": _WORKERS_PORT},
            why="What workers count of the tasks that they run. They declare no port, since nothing but "
            "Prometheus comes there: the target is the container, at the port that its arguments say.",
        )
    if "trainer" in there:
        yield _monitor(
            plan,
            "PodMonitor",
            "training",
            {"matchLabels": usual_labels(training.COMPONENT)},
            {"port": METRICS_PORT, "path": "/metrics", "interval": "15s", "relabelings": _first_of_run(plan)},
            space=plan.training_namespace,
            why="A run answers in the pod of its first process (rank 0). The label `run` is the name of its job.",
        )
    if "redis" in there:
        yield _monitor(
            plan,
            "PodMonitor",
            REDIS,
            {"matchExpressions": [{"key": NAME, "operator": "In", "values": [REDIS, REDIS_COPIES]}]},
            {"port": METRICS_PORT, "interval": "15s"},
            why="The server and its copies, which the Service does not lead to.",
        )
    if plan.gpu_exporter == "own":
        yield _monitor(
            plan,
            "PodMonitor",
            DCGM,
            {"matchLabels": selector(DCGM)},
            _gpu_endpoint(plan),
            space=plan.monitoring_namespace,
            attach=True,
            why=_WHY_GPU_LABELS,
        )
    if plan.gpu_exporter == "addon":
        scraped = _gpu_endpoint(plan)
        scraped |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
        yield _monitor(
            plan,
            "PodMonitor",
            DCGM,
            {"matchLabels": {"k8s-app": "dcgm-exporter"}},  # the chart's label, which its operator hands on to pods
            scraped,
            space=CLOUDWATCH_SPACE,
            attach=True,
            why=f"{_WHY_GPU_LABELS}\nThis is the exporter of the CloudWatch add-on. "
            "Its certificate is made by the add-on itself at each installation: there is none to check it against.",
        )
    if "karpenter" in there:
        yield _monitor(
            plan,
            "ServiceMonitor",
            "karpenter",
            {"matchLabels": selector("karpenter")},
            {"port": "http-metrics", "path": "/metrics", "interval": "30s"},
            space="kube-system",
        )
    if "keda" in there:
        yield _monitor(
            plan,
            "PodMonitor",
            "keda-operator",
            {"matchLabels": {"app": "keda-operator"}},
            {"port": METRICS_PORT, "path": "/metrics", "interval": "30s"},
            space="keda",
            why="KEDA publishes with the value prometheus.operator.enabled=true of its chart.",
        )


def _first_of_run(plan: Plan) -> list[Object]:
    """Source: kubernetes.io, Labels, annotations and taints (batch.kubernetes.io/job-completion-index);
    kubernetes-sigs/jobset api/jobset/v1alpha2 (JobSetNameKey); kubeflow/trainer v1.9 pkg/apis/kubeflow.org/v1."""
    is_legacy = plan.spec.training.legacy_pytorch_job
    index, first = ("training.kubeflow.org/replica-type", "master") if is_legacy else (COMPLETION_INDEX, "0")
    job = "training.kubeflow.org/job-name" if is_legacy else "jobset.sigs.k8s.io/jobset-name"
    return [
        {"action": "keep", "sourceLabels": [f"__meta_kubernetes_pod_label_{_as_label(index)}"], "regex": first},
        {"sourceLabels": [f"__meta_kubernetes_pod_label_{_as_label(job)}"], "targetLabel": "run"},
    ]


_WHY_GPU_LABELS = """\
honorLabels: namespace, pod and container are those of the pod that has the GPU. The exporter's own are dropped, or a \
GPU that nobody uses would seem to be the exporter's. Type, zone and capacity of the node come with it, for prices."""


def _gpu_endpoint(plan: Plan) -> Object:
    node = [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}]
    node += [
        {"sourceLabels": [f"__meta_kubernetes_node_label_{label}"], "targetLabel": name}
        for name, label in _NODE_LABELS.items()
    ]
    # What was set from the exporter's own pod; a GPU's labels come from the exporter itself, later.
    node.append({"action": "labeldrop", "regex": "namespace|pod|container"})
    endpoint: Object = {
        "port": METRICS_PORT,
        "path": "/metrics",
        "interval": "15s",
        "honorLabels": True,
        "relabelings": node,
    }
    # The longest first, since `code` begins `code-large`, too.
    names = sorted((served.name for served in plan.served if served.is_on_gpu), key=lambda name: (-len(name), name))
    if names:
        pods = f"model-({'|'.join(map(re.escape, names))})-.+"
        endpoint["metricRelabelings"] = [
            {"sourceLabels": ["namespace", "pod"], "regex": f"{plan.namespace};{pods}", "targetLabel": "model"}
        ]
    return endpoint


def _monitor(
    plan: Plan,
    kind: str,
    name: str,
    chosen: Object,
    endpoint: Object,
    *,
    space: str | None = None,
    attach: bool = False,
    why: str = "",
) -> Resource:
    """`space`: where what it looks at is; None: the platform's namespace. `attach`: with labels of the node."""
    endpoints = "endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.monitoring_namespace),
        "spec": {
            "namespaceSelector": {"matchNames": [space or plan.namespace]},
            "selector": chosen,
            **({"attachMetadata": {"node": True}} if attach else {}),
            endpoints: [endpoint],
        },
    }
    return Resource(f"monitoring/scrape-{name}.yaml", monitor, why)


def _as_label(key: str) -> str:
    """A label of Kubernetes as Prometheus' discovery names it."""
    return re.sub(r"[^A-Za-z0-9_]", "_", key)


def _rules(plan: Plan) -> Object:
    written = [
        {"name": name, "rules": [rule.written() for rule in rules]} for name, rules in monitoring_rules.groups(plan)
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata(plan, "stoker", COMPONENT, namespace=plan.monitoring_namespace),
        "spec": {"groups": written},
    }


def _dashboards(plan: Plan) -> Iterator[Resource]:
    for name, text in dashboards.texts(plan).items():
        found: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(
                plan,
                f"dashboard-{name}",
                COMPONENT,
                namespace=plan.monitoring_namespace,
                labels={"grafana_dashboard": "1"},
            ),
            "data": {f"{name}.json": text},
        }
        yield Resource(f"monitoring/dashboard-{name}.yaml", found)
