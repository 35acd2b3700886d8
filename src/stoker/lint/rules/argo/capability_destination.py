"""The destination of an Application is not one that the EKS capability knows.

Argo CD that you run yourself calls its own cluster https://kubernetes.default.svc. The managed Argo CD of EKS (the
capability) runs outside of the cluster: it takes the ARN of the EKS cluster in `server`, and the cluster has to be
registered first, its own one too.

Symptom: the Application stays Unknown: its cluster is not found

Wrong:

    # Argo CD as an EKS capability
    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {server: "https://kubernetes.default.svc", namespace: ai}

Right:

    # Argo CD as an EKS capability
    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {server: "arn:aws:eks:us-west-2:111122223333:cluster/prod", namespace: ai}

Source: docs.aws.amazon.com/eks/latest/userguide/argocd-register-clusters.html
Source: guide-errors S23
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import GROUP, applications, is_in_cluster
from stoker.manifests.objects import Manifest, sections

_CAPABILITY = re.compile(r"\bEKS\b.{0,40}\b(?:capabilit|managed|add-?on)|\bmanaged Argo", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    managed = _is_managed(cluster)
    for application in applications(cluster):
        if not is_in_cluster(application.destination.get("server")):
            continue
        sure = managed or _says_so(application.manifest)
        if sure:
            message = "the EKS capability does not know https://kubernetes.default.svc: nothing is deployed"
        else:
            message = "right for an Argo CD of your own; the EKS capability of Argo CD does not know this address"
        yield Problem(
            application.manifest,
            (*application.base, "destination", "server"),
            message,
            hint="the ARN of the cluster (arn:aws:eks:REGION:ACCOUNT:cluster/NAME), registered first",
            severity=None if sure else Severity.INFO,
        )


def _is_managed(cluster: Cluster) -> bool:
    """Whether anything in sight says that Argo CD is the capability: the object that makes it, or another's ARN."""
    if any(each.get("spec", "type") == "ARGOCD" for each in cluster.of("Capability", group="eks.services.k8s.aws")):
        return True
    servers = [application.destination.get("server") for application in applications(cluster)]
    for project in cluster.of("AppProject", group=GROUP):
        servers += [each.get("server") for _i, each in sections(project.get("spec", "destinations"))]
    return any(isinstance(server, str) and server.startswith("arn:aws") and ":eks:" in server for server in servers)


def _says_so(manifest: Manifest) -> bool:
    return any(_CAPABILITY.search(comment) for comment in manifest.document.comments.values())


RULE = Rule(
    "STK-ARGO-016",
    Severity.WARNING,
    "The destination of an Application is not one that the EKS capability knows",
    check,
    __name__,
    guide=("S23",),
)
