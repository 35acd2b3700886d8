"""Which controllers the objects of a platform need, as Helm charts at exact versions, and what has no chart. Pure.

What is needed is read off the objects: their API groups, and for load balancers their classes. So nothing is installed
that nothing needs. docs/deploy/controllers.md has the table, the source of each version, and what is not verified.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stoker.render import iam
from stoker.render.plan import Plan

Tree = Mapping[str, Any]

_ARGO = "https://argoproj.github.io/argo-helm"
_KARPENTER = "oci://public.ecr.aws/karpenter"
_AGENTGATEWAY = "oci://cr.agentgateway.dev/charts"
_GITHUB = "https://github.com"
_ACK_VERSIONS = {
    "ecr": "1.8.1",
    "eks": "1.20.0",
    "iam": "1.8.1",
    "rds": "1.11.1",
    "s3": "1.10.0",
    "sagemaker": "1.9.1",
    "secretsmanager": "1.4.1",
    "sqs": "1.6.1",
}
"""Of ACK's controllers, by service: those that the catalogue's schemas are of."""


@dataclass(frozen=True)
class Facts:
    """What only Terraform's outputs say. None where Terraform did not make the cluster, or not yet."""

    vpc_id: str | None = None
    cluster_endpoint: str | None = None
    interruption_queue: str | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> "Facts":
        """`outputs`: values by name, without what Terraform says around them."""
        return cls(*(outputs.get(name) for name in ("vpc_id", "cluster_endpoint", "interruption_queue")))


@dataclass(frozen=True)
class Controller:
    """A release. `chart`: a URL (oci://), or the chart's name within `repository`. `groups`: API groups of the kinds
    that it brings. `values`: what differs from the chart's own; no secret. `why`: one line for people."""

    name: str
    chart: str
    repository: str | None
    version: str
    namespace: str
    groups: tuple[str, ...]
    why: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manual:
    """What has no chart, or needs rights that only a person can give. It is there once the cluster serves all of
    `kinds`: (apiVersion, kind)."""

    what: str
    why: str
    command: str
    kinds: tuple[tuple[str, str], ...]


def controllers(plan: Plan, objects: Sequence[Tree], facts: Facts) -> list[Controller]:
    """In the order of installation. No two release names are equal."""
    needs = _Needs(plan, objects)
    found: list[Controller] = []
    if needs.karpenter:
        found += _karpenter(plan, facts)
    if needs.load_balancers:
        found.append(_load_balancers(plan, facts))
    if needs.has("external-secrets.io"):
        found.append(_external_secrets())
    if needs.has("monitoring.coreos.com") and _is_own_prometheus(plan):
        found.append(_prometheus(plan))
    if needs.has("keda.sh"):
        found.append(_keda())
    if needs.has("leaderworkerset.x-k8s.io"):
        found.append(_leader_worker_sets())
    if needs.has("trainer.kubeflow.org", "jobset.x-k8s.io"):
        found.append(_trainer())
    if needs.has("kueue.x-k8s.io"):
        found.append(_kueue())
    if needs.kro:
        found.append(_kro())
    found += _argo(needs)
    if "agentgateway" in needs.gateway_classes:
        found += _agentgateway()
    return found


def by_hand(plan: Plan, objects: Sequence[Tree]) -> list[Manual]:
    """What has to be there before, and `stoker deploy` does not install."""
    needs = _Needs(plan, objects)
    found = list(_definitions(needs))
    if needs.has("kubeflow.org"):
        url = f"{_GITHUB}/kubeflow/trainer.git/manifests/overlays/standalone?ref=v1.9.4"
        command = f"kubectl apply --server-side -k '{url}'"
        why = "training.operator asks for PyTorchJobs, whose operator is published as manifests only"
        found.append(Manual("Kubeflow Training Operator 1.9.4", why, command, needs.kinds("kubeflow.org")))
    if needs.has("monitoring.coreos.com") and not _is_own_prometheus(plan):
        why = "global.observability.prometheusUrl names a Prometheus of yours, which has to read ServiceMonitors"
        command = "install the Prometheus Operator that runs it, or kube-prometheus-stack's definitions (crds)"
        found.append(Manual("Prometheus Operator", why, command, needs.kinds("monitoring.coreos.com")))
    return found + list(_ack(plan, needs))


class _Needs:
    """What the objects ask for."""

    def __init__(self, plan: Plan, objects: Sequence[Tree]) -> None:
        self._kinds = {(str(obj["apiVersion"]), str(obj["kind"])) for obj in objects}
        self._groups = {version.partition("/")[0] for version, _ in self._kinds}
        bearers = [obj for obj in objects if obj["kind"] in ("Ingress", "Service")]
        specs = [obj.get("spec", {}) for obj in bearers]
        asked = {spec.get("ingressClassName") or spec.get("loadBalancerClass") for spec in specs}
        own = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "IngressClass"}
        self.load_balancers = bool(({"alb", "service.k8s.aws/nlb"} & asked) - own) or self.has("elbv2.k8s.aws")
        self.karpenter = self.has("karpenter.k8s.aws")
        self.gateway_classes = {obj["spec"]["gatewayClassName"] for obj in objects if obj["kind"] == "Gateway"}
        # EKS runs kro as a capability, which Terraform makes, or ACK by an object of kind Capability.
        by_eks = plan.aws == "terraform" or any(kind == "Capability" for _, kind in self._kinds)
        self.kro = self.has("kro.run") and not by_eks

    def has(self, *groups: str) -> bool:
        return not self._groups.isdisjoint(groups)

    def has_kind(self, group: str, *kinds: str) -> bool:
        return any(kind in kinds for _, kind in self.kinds(group))

    def kinds(self, group: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(each for each in self._kinds if each[0].partition("/")[0] == group))

    def groups_under(self, domain: str) -> list[str]:
        return sorted(group for group in self._groups if group.endswith(f".{domain}"))


# --- charts -----------------------------------------------------------------------------------------------------------


def _requests(cpu: str, memory: str) -> dict[str, Any]:
    """Small, since all controllers start on two nodes of two processors each, before there is any other node."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _karpenter(plan: Plan, facts: Facts) -> Iterator[Controller]:
    """Two releases where Karpenter is alone, so that its definitions are upgraded, too: Helm never changes what lies in
    a chart's crds/. Beside Auto Mode the definitions of karpenter.sh are EKS' own, which Helm may not take over; the
    chart then adds only EC2NodeClass, since it leaves alone what is there."""
    groups = ("karpenter.sh", "karpenter.k8s.aws")
    beside_auto_mode = plan.mode != "karpenter"
    if not beside_auto_mode:
        why = "definitions of NodePool, NodeClaim and EC2NodeClass, upgraded with Karpenter"
        chart = f"{_KARPENTER}/karpenter-crd"
        yield Controller("karpenter-crd", chart, None, "1.14.1", "kube-system", groups, why)
    settings = {
        "clusterName": plan.cluster,
        "clusterEndpoint": facts.cluster_endpoint,
        "interruptionQueue": facts.interruption_queue or plan.spec.karpenter.interruption_queue,
    }
    values: dict[str, Any] = {
        "replicas": 2,
        "serviceAccount": {"name": "karpenter"},
        "settings": {key: value for key, value in settings.items() if value is not None},
        "controller": {"resources": _requests("250m", "1Gi")},
    }
    if beside_auto_mode:
        values["affinity"] = {"nodeAffinity": _ON_AUTO_MODE}
    why = "makes the nodes that EC2NodeClasses describe"
    chart = f"{_KARPENTER}/karpenter"
    yield Controller("karpenter", chart, None, "1.14.1", "kube-system", groups, why, values)


_ON_AUTO_MODE = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "eks.amazonaws.com/compute-type", "operator": "In", "values": ["auto"]}]}
        ]
    }
}
"""The chart's own rule keeps Karpenter off every node with the label karpenter.sh/nodepool, which all of Auto Mode's
have, and there are no others to start on. On Auto Mode's it is safe from ending its own node."""


def _load_balancers(plan: Plan, facts: Facts) -> Controller:
    values: dict[str, Any] = {
        "clusterName": plan.cluster,
        "region": plan.region,
        "serviceAccount": {"name": "aws-load-balancer-controller"},
        "replicaCount": 2,
        "resources": _requests("50m", "256Mi"),
        "enableServiceMutatorWebhook": False,
    }
    if facts.vpc_id is not None:  # pods cannot ask the metadata service, one hop further than nodes may
        values["vpcId"] = facts.vpc_id
    why = "makes the load balancers of Ingresses and Services; Auto Mode has its own"
    name, groups = "aws-load-balancer-controller", ("elbv2.k8s.aws", "gateway.k8s.aws")
    return Controller(name, name, "https://aws.github.io/eks-charts", "3.5.0", "kube-system", groups, why, values)


def _external_secrets() -> Controller:
    namespace, account = iam.EXTERNAL_SECRETS
    values = {
        "installCRDs": True,
        "serviceAccount": {"name": account},
        "replicaCount": 2,
        "leaderElect": True,
        "resources": _requests("50m", "256Mi"),
    }
    why = "copies secrets of Secrets Manager into the cluster"
    repository, groups = "https://charts.external-secrets.io", ("external-secrets.io",)
    return Controller("external-secrets", "external-secrets", repository, "2.9.0", namespace, groups, why, values)


def _keda() -> Controller:
    namespace, account = iam.KEDA
    values = {"serviceAccount": {"operator": {"name": account}}, "operator": {"replicaCount": 2}}
    why = "scales workers by their queues"
    repository = "https://kedacore.github.io/charts"
    return Controller("keda", "keda", repository, "2.20.2", namespace, ("keda.sh",), why, values)


def _is_own_prometheus(plan: Plan) -> bool:
    """Whether `prometheusUrl` is the Service that the Prometheus Operator makes for each Prometheus in its namespace,
    so that a chart of ours can be what is there."""
    host = (urlsplit(plan.spec.global_.observability.prometheus_url).hostname or "").split(".")
    return host[0] == "prometheus-operated" and (len(host) == 2 or (len(host) > 2 and host[2] == "svc"))


def _prometheus(plan: Plan) -> Controller:
    """No Alertmanager (who is told is the user's to say) and nothing of the control plane, which EKS does not show.
    Without a volume: the platform's StorageClass comes after the controllers."""
    url = urlsplit(plan.spec.global_.observability.prometheus_url)
    namespace = (url.hostname or "").split(".")[1]
    of_all = ("serviceMonitor", "podMonitor", "rule")
    values = {
        "alertmanager": {"enabled": False},
        "nodeExporter": {"enabled": False},
        **{each: {"enabled": False} for each in ("kubeControllerManager", "kubeEtcd", "kubeProxy", "kubeScheduler")},
        "prometheus": {
            "prometheusSpec": {
                **{f"{each}SelectorNilUsesHelmValues": False for each in of_all},
                "retention": "7d",
                "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}},
            }
        },
        "prometheusOperator": {"resources": _requests("50m", "256Mi")},
        "grafana": {
            "enabled": plan.spec.global_.observability.grafana,
            "adminPassword": None,  # not the chart's own, which all the world knows: one is made up in the cluster
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            "sidecar": {
                "dashboards": {
                    "enabled": True,
                    "label": "grafana_dashboard",
                    "labelValue": "1",
                    "searchNamespace": "ALL",
                }
            },
        },
    }
    name, repository = "kube-prometheus-stack", "https://prometheus-community.github.io/helm-charts"
    why = "Prometheus reads metrics, which scalers and alerts ask for; Grafana shows them"
    return Controller(name, name, repository, "88.2.0", namespace, ("monitoring.coreos.com",), why, values)


def _leader_worker_sets() -> Controller:
    values = {"replicaCount": 2, "resources": _requests("50m", "256Mi")}
    why = "runs replicas of a model that span nodes"
    chart, group = "oci://registry.k8s.io/lws/charts/lws", "leaderworkerset.x-k8s.io"
    return Controller("lws", chart, None, "0.10.0", "lws-system", (group,), why, values)


def _trainer() -> Controller:
    """Brings JobSet."""
    values = {"jobset": {"install": True}, "manager": {"replicas": 2, "resources": _requests("50m", "256Mi")}}
    groups = ("trainer.kubeflow.org", "jobset.x-k8s.io")
    chart, why = "oci://ghcr.io/kubeflow/charts/kubeflow-trainer", "runs TrainJobs, with JobSet"
    return Controller("kubeflow-trainer", chart, None, "2.3.0", "kubeflow-system", groups, why, values)


def _kueue() -> Controller:
    """After those whose jobs it lets in."""
    values = {"controllerManager": {"replicas": 2, "manager": {"resources": _requests("100m", "512Mi")}}}
    chart, why = "oci://registry.k8s.io/kueue/charts/kueue", "lets training in by its quota and priority"
    return Controller("kueue", chart, None, "0.19.2", "kueue-system", ("kueue.x-k8s.io",), why, values)


def _kro() -> Controller:
    chart, why = "oci://registry.k8s.io/kro/charts/kro", "makes what an AIInferenceStack stands for"
    return Controller("kro", chart, None, "0.9.3", "kro-system", ("kro.run",), why, {"rbac": {"mode": "aggregation"}})


def _argo(needs: _Needs) -> Iterator[Controller]:
    group = ("argoproj.io",)
    small = {"resources": _requests("50m", "256Mi")}
    if needs.has_kind("argoproj.io", "Workflow", "WorkflowTemplate", "CronWorkflow"):
        values: dict[str, Any] = {"controller": small, "server": {"enabled": False}}
        why = "runs the pipeline of training"
        yield Controller("argo-workflows", "argo-workflows", _ARGO, "2.0.5", "argo", group, why, values)
    if needs.has_kind("argoproj.io", "Rollout", "AnalysisTemplate"):
        values = {"controller": {"replicas": 2, **small}}
        why = "rolls the gateway out step by step"
        yield Controller("argo-rollouts", "argo-rollouts", _ARGO, "2.41.1", "argo-rollouts", group, why, values)
    if needs.has_kind("argoproj.io", "Application", "ApplicationSet", "AppProject"):
        values = {"dex": {"enabled": False}, "notifications": {"enabled": False}, "controller": small}
        why = "keeps the cluster as the repository says"
        yield Controller("argo-cd", "argo-cd", _ARGO, "10.3.3", "argocd", group, why, values)


def _agentgateway() -> Iterator[Controller]:
    group, namespace = ("agentgateway.dev",), "agentgateway-system"
    why = "definitions of agentgateway"
    yield Controller("agentgateway-crds", f"{_AGENTGATEWAY}/agentgateway-crds", None, "v1.5.0", namespace, group, why)
    values = {"inferenceExtension": {"enabled": True}}
    why = "runs the Gateway, and asks pickers for the replica"
    yield Controller("agentgateway", f"{_AGENTGATEWAY}/agentgateway", None, "v1.5.0", namespace, group, why, values)


# --- what has no chart ------------------------------------------------------------------------------------------------


def _definitions(needs: _Needs) -> Iterator[Manual]:
    if needs.has("gateway.networking.k8s.io"):
        url = f"{_GITHUB}/kubernetes-sigs/gateway-api/releases/download/v1.6.1/standard-install.yaml"
        why, kinds = "edge.gatewayApi.enabled; its definitions are manifests", needs.kinds("gateway.networking.k8s.io")
        yield Manual("Gateway API 1.6.1", why, f"kubectl apply --server-side -f {url}", kinds)
    pools = ("inference.networking.k8s.io", "inference.networking.x-k8s.io")
    if needs.has(*pools):
        of = f"{_GITHUB}/kubernetes-sigs/gateway-api-inference-extension/releases/download/v1.5.0/manifests.yaml"
        why = "edge.gatewayApi.enabled; later releases lack InferenceObjective, which the picker watches"
        kinds = needs.kinds(pools[1]) or needs.kinds(pools[0])
        yield Manual("Gateway API inference extension 1.5.0", why, f"kubectl apply --server-side -f {of}", kinds)


def _ack(plan: Plan, needs: _Needs) -> Iterator[Manual]:
    """A controller of ACK needs a role that may do much in the account, which is a person's to give."""
    for group in needs.groups_under("services.k8s.aws"):
        service = group.partition(".")[0]
        version = _ACK_VERSIONS.get(service)
        chart = f"oci://public.ecr.aws/aws-controllers-k8s/{service}-chart"
        command = f"helm install ack-{service} {chart} --version {version} -n ack-system --create-namespace"
        why = "composition.ack; give its ServiceAccount a role before"
        name = f"ACK's controller of {service} {version}"
        yield Manual(name, why, f"{command} --set aws.region={plan.region}", needs.kinds(group))
