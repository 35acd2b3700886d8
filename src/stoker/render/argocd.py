"""Delivery by Git: Argo CD keeps the cluster as the rendered folder in a repository says.

The objects of this component are applied by hand, once, where Argo CD runs. They are left out of what it delivers, so
that nobody who may write to the repository can widen the project.
"""

import re
from collections.abc import Iterator
from typing import Any

from stoker.catalog.labels import AUTO_MODE
from stoker.policy.scaled import scales_agents
from stoker.render.facts import AGENT_WORKER, GATEWAY, short
from stoker.render.items import ON_DEMAND, Item, Resource
from stoker.render.objects import metadata
from stoker.render.plan import Plan

_API = "argoproj.io/v1alpha1"
_NAMESPACE = "argocd"
_SELF = "https://kubernetes.default.svc"
_LEFT_OUT = f"{{argocd/*,{ON_DEMAND}*,kustomization.yaml}}"
"""Of a directory: said as one, it is read as one, though there is a kustomization in it. Source: argoproj/argo-cd
types.go (ExplicitType), reposerver/repository (findManifests)."""
CLUSTER_KINDS = (
    ("", "Namespace"),
    ("", "PersistentVolume"),
    ("eks.amazonaws.com", "NodeClass"),
    ("karpenter.k8s.aws", "EC2NodeClass"),
    ("karpenter.sh", "NodeOverlay"),
    ("karpenter.sh", "NodePool"),
    ("kueue.x-k8s.io", "ClusterQueue"),
    ("kueue.x-k8s.io", "ResourceFlavor"),
    ("kueue.x-k8s.io", "WorkloadPriorityClass"),
    ("networking.k8s.io", "IngressClass"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
)
"""What is rendered outside of namespaces, and so what the project may make there. A test compares."""
_KRO_S = (("kro.run", "ResourceGraphDefinition"), ("rbac.authorization.k8s.io", "ClusterRole"))
"""The same, where there is a graph of kro. Who may make a ClusterRole has none by it; no binding is allowed."""


def render(plan: Plan) -> Iterator[Item]:
    said = plan.spec.composition.argocd
    if not said.enabled:
        return
    yield Resource(
        "argocd/project.yaml",
        _project(plan),
        "What the repository may change: no other namespace, nothing else outside of namespaces.",
    )
    if said.clusters:
        yield Resource("argocd/applications.yaml", _application_set(plan), _WHY_FOLDERS)
    else:
        yield Resource("argocd/application.yaml", _application(plan), _why(plan))


_WHY_FOLDERS = (
    "One folder for each cluster: what is rendered names the cluster's own subnets, roles and buckets.\n"
    "Without the finalizer of Argo CD, so that a cluster taken off the list keeps running."
)


def _why(plan: Plan) -> str:
    where = (
        "Argo CD as an EKS capability: it knows clusters by their ARN, its own one too, and each is registered first."
        if plan.spec.composition.argocd.capability
        else "stoker:ignore STK-ARGO-016 an Argo CD of your own, in the cluster that it delivers to"
    )
    return f"{where}\nWithout the finalizer of Argo CD, so that deleting the Application deletes nothing that it made."


def _name(plan: Plan) -> str:
    """Of the project and of the Application; one Argo CD may serve several clusters."""
    return short("stoker", _dns(plan.cluster))


def _dns(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _server(plan: Plan) -> str:
    """Source: Amazon EKS user guide, argocd-register-clusters: the capability takes ARNs, and not the address of the
    API server. The spec sees to the account."""
    if not plan.spec.composition.argocd.capability:
        return _SELF
    return f"arn:{plan.partition}:eks:{plan.region}:{plan.account}:cluster/{plan.cluster}"


def _targets(plan: Plan) -> list[dict[str, str]]:
    """The clusters, as destinations name them."""
    clusters = plan.spec.composition.argocd.clusters
    return [{"name": cluster} for cluster in clusters] if clusters else [{"server": _server(plan)}]


def _namespaces(plan: Plan) -> list[str]:
    """The platform's own, and that of the plugins of GPU nodes which EKS does not make itself."""
    own = [plan.namespace, plan.training_namespace, plan.monitoring_namespace]
    has_plugins = any(pool.has_gpus and pool.domain != AUTO_MODE for pool in plan.pools)
    return [*own, "kube-system"] if has_plugins else own


def _project(plan: Plan) -> dict[str, Any]:
    kinds = sorted((*CLUSTER_KINDS, *_KRO_S)) if plan.spec.composition.kro else CLUSTER_KINDS
    return {
        "apiVersion": _API,
        "kind": "AppProject",
        "metadata": metadata(plan, _name(plan), "argocd", namespace=_NAMESPACE),
        "spec": {
            "description": f"Stoker on {plan.cluster}",
            "sourceRepos": [plan.spec.composition.argocd.repository],
            "destinations": [
                {**target, "namespace": namespace} for target in _targets(plan) for namespace in _namespaces(plan)
            ],
            "clusterResourceWhitelist": [{"group": group, "kind": kind} for group, kind in kinds],
        },
    }


def _application(plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "Application",
        "metadata": metadata(plan, _name(plan), "argocd", namespace=_NAMESPACE, annotations=_COMPARED),
        "spec": _spec(plan, plan.spec.composition.argocd.path, _targets(plan)[0]),
    }


# The API server itself says what would change, so that its defaults are no difference.
_COMPARED = {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}


def _application_set(plan: Plan) -> dict[str, Any]:
    said = plan.spec.composition.argocd
    elements = [{"cluster": cluster, "name": short("stoker", _dns(cluster))} for cluster in said.clusters]
    path = f"{said.path.rstrip('/')}/{{{{.cluster}}}}"
    return {
        "apiVersion": _API,
        "kind": "ApplicationSet",
        "metadata": metadata(plan, _name(plan), "argocd", namespace=_NAMESPACE),
        "spec": {
            "goTemplate": True,
            "goTemplateOptions": ["missingkey=error"],
            "generators": [{"list": {"elements": elements}}],
            "syncPolicy": {"preserveResourcesOnDeletion": True},
            "template": {
                "metadata": {"name": "{{.name}}", "annotations": _COMPARED},
                "spec": _spec(plan, path, {"name": "{{.cluster}}"}),
            },
        },
    }


def _spec(plan: Plan, path: str, target: dict[str, str]) -> dict[str, Any]:
    """No sync waves: Argo CD applies namespaces first, then by kind; definitions of kinds and their controllers are
    there before."""
    said = plan.spec.composition.argocd
    return {
        "project": _name(plan),
        "source": {
            "repoURL": said.repository,
            "targetRevision": said.revision,
            "path": path,
            "directory": {"recurse": True, "include": "*.yaml", "exclude": _LEFT_OUT},
        },
        "destination": {**target, "namespace": plan.namespace},
        "syncPolicy": {
            "automated": {"prune": True, "selfHeal": True},
            "syncOptions": [
                "ServerSideApply=true",
                "CreateNamespace=false",
                "PruneLast=true",
                "RespectIgnoreDifferences=true",
            ],
            "retry": {"limit": 5, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "5m"}},
        },
        "ignoreDifferences": _set_by_others(plan),
    }


def _set_by_others(plan: Plan) -> list[dict[str, Any]]:
    """What KEDA scales, and the gateway's HPA. No replicas are rendered for it; this holds even where somebody writes
    them into the files."""
    deployment, rollout = ("apps", "Deployment"), ("argoproj.io", "Rollout")
    several = ("leaderworkerset.x-k8s.io", "LeaderWorkerSet")
    scaled = [(GATEWAY, rollout if plan.spec.composition.canary else deployment)]
    scaled += [(each.workload, several if each.spans_nodes else deployment) for each in plan.served if each.is_scaled]
    if plan.has_agents and scales_agents(plan.spec):
        scaled.append((AGENT_WORKER, deployment))
    return [
        {
            "group": group,
            "kind": kind,
            "name": name,
            "namespace": plan.namespace,
            "jsonPointers": ["/spec/replicas"],
        }
        for name, (group, kind) in scaled
    ]
