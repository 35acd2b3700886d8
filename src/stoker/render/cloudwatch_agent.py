"""The CloudWatch agent that brings the gateway's own metrics to CloudWatch.

The add-on's agent publishes what nodes and containers do, and nothing of tokens or queues. This one scrapes each
gateway as Prometheus would and writes the numbers as embedded metrics, of which CloudWatch makes metrics in the
namespace `facts.CLOUDWATCH_NAMESPACE`. It knows counters (as the difference since the last look) and gauges; it drops
histograms, so the time to the first token is Prometheus' alone.

Source: Amazon CloudWatch user guide, "Scraping additional Prometheus sources" and "Prometheus metric type conversion".
"""

import json
from collections.abc import Iterator
from typing import Any

from stoker.manifests.writing import to_yaml
from stoker.render.facts import CLOUDWATCH_NAMESPACE, GATEWAY, GATEWAY_PORT
from stoker.render.items import Resource
from stoker.render.metric_names import CLOUDWATCH
from stoker.render.objects import Object, metadata, resources, selector
from stoker.render.plan import Plan

AGENT = "cwagent-prometheus"
IMAGE = "public.ecr.aws/cloudwatch-agent/cloudwatch-agent:1.300066.1b1374"
JOB = "stoker-gateway"
SCRAPED_EVERY_S = 60
"""A custom metric is paid for by the hour, whatever its interval; log lines are paid for by size."""

_COMPONENT = "cloudwatch"
_FILE = "cloudwatch/agent.yaml"
_WHY_ONE = """\
One, and never two at a time: counters would be counted twice. RUN_WITH_IRSA, in spite of its name, makes the agent \
take the credentials of its service account (Pod Identity here) instead of asking the node for its role. As root, as \
the image is made, without any capability.
stoker:ignore STK-SECURITY-012 the image writes its translated configuration as root"""


def log_group(plan: Plan) -> str:
    return f"/aws/containerinsights/{plan.cluster}/prometheus"


def render(plan: Plan) -> Iterator[Resource]:
    space = plan.monitoring_namespace
    yield Resource(
        _FILE,
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(plan, AGENT, _COMPONENT, namespace=space),
        },
    )
    yield Resource(
        _FILE,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata(plan, AGENT, _COMPONENT, namespace=plan.namespace),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        "It looks for the gateway's pods, and sees no others' secrets.",
    )
    yield Resource(
        _FILE,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(plan, AGENT, _COMPONENT, namespace=plan.namespace),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": AGENT},
            "subjects": [{"kind": "ServiceAccount", "name": AGENT, "namespace": space}],
        },
    )
    yield _config_map(plan, f"{AGENT}-agent", {"cwagentconfig.json": json.dumps(agent_config(plan), indent=1) + "\n"})
    yield _config_map(plan, f"{AGENT}-scrape", {"prometheus.yaml": to_yaml(scrape_config(plan))})
    yield Resource(_FILE, _deployment(plan), _WHY_ONE)


def _config_map(plan: Plan, name: str, data: dict[str, str]) -> Resource:
    found = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, name, _COMPONENT, namespace=plan.monitoring_namespace),
        "data": data,
    }
    return Resource(_FILE, found)


def scrape_config(plan: Plan) -> dict[str, Any]:
    label = "__meta_kubernetes_pod_label_app_kubernetes_io_name"
    return {
        "global": {"scrape_interval": f"{SCRAPED_EVERY_S}s", "scrape_timeout": "10s"},
        "scrape_configs": [
            {
                "job_name": JOB,
                "metrics_path": "/metrics",
                "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [plan.namespace]}}],
                "relabel_configs": [
                    {"source_labels": [label], "regex": GATEWAY, "action": "keep"},
                    {
                        "source_labels": ["__meta_kubernetes_pod_container_port_number"],
                        "regex": str(GATEWAY_PORT),
                        "action": "keep",
                    },
                ],
                "metric_relabel_configs": [
                    {"source_labels": ["__name__"], "regex": "|".join(_names()), "action": "keep"}
                ],
            }
        ],
    }


def agent_config(plan: Plan) -> dict[str, Any]:
    """One declaration for each set of dimensions."""
    by_dimensions: dict[tuple[str, ...], list[str]] = {}
    for (namespace, name), sets in CLOUDWATCH.items():
        if namespace == CLOUDWATCH_NAMESPACE:
            for dimensions in sets:
                by_dimensions.setdefault(dimensions, []).append(name)
    declarations = [
        {
            "source_labels": ["job"],
            "label_matcher": f"^{JOB}$",
            "dimensions": [list(dimensions)],
            "metric_selectors": [f"^{name}$" for name in names],
        }
        for dimensions, names in by_dimensions.items()
    ]
    prometheus = {
        "cluster_name": plan.cluster,
        "log_group_name": log_group(plan),
        "prometheus_config_path": "/etc/prometheusconfig/prometheus.yaml",
        "emf_processor": {
            "metric_declaration_dedup": True,
            "metric_namespace": CLOUDWATCH_NAMESPACE,
            "metric_unit": dict.fromkeys(_names(), "Count"),
            "metric_declaration": declarations,
        },
    }
    return {
        "agent": {"region": plan.region},
        "logs": {"metrics_collected": {"prometheus": prometheus}, "force_flush_interval": 5},
    }


def _names() -> list[str]:
    return [name for namespace, name in CLOUDWATCH if namespace == CLOUDWATCH_NAMESPACE]


def _deployment(plan: Plan) -> Object:
    container = {
        "name": "agent",
        "image": IMAGE,
        "env": [{"name": "RUN_WITH_IRSA", "value": "True"}],
        "resources": resources("100m", "256Mi"),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "agent", "mountPath": "/etc/cwagentconfig", "readOnly": True},
            {"name": "scrape", "mountPath": "/etc/prometheusconfig", "readOnly": True},
        ],
    }
    pod = {
        "serviceAccountName": AGENT,
        "automountServiceAccountToken": True,
        **plan.general_placement(),
        "containers": [container],
        "volumes": [{"name": name, "configMap": {"name": f"{AGENT}-{name}"}} for name in ("agent", "scrape")],
    }
    labels = metadata(plan, AGENT, _COMPONENT)["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, AGENT, _COMPONENT, namespace=plan.monitoring_namespace),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector(AGENT)},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
