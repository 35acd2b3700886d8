"""The destination of an Application is ambiguous, or none.

A cluster is named by `name` or by its address in `server`. With both, or neither, Argo CD refuses the Application.

Symptom: InvalidSpecError: application destination can't have both name and server defined

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, server: "https://prod.example.com", namespace: ai}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, namespace: ai}

Source: Argo CD documentation, declarative setup: Applications
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import applications


def check(cluster: Cluster) -> Iterator[Problem]:
    for application in applications(cluster):
        destination = application.destination
        if not destination:
            continue  # the schema says that it is missing
        path = (*application.base, "destination")
        if destination.get("name") and destination.get("server"):
            yield Problem(
                application.manifest,
                (*path, "name"),
                "both name and server: the Application is refused",
                hint="name or server",
            )
        elif not destination.get("name") and not destination.get("server"):
            yield Problem(
                application.manifest,
                (*path, "server"),
                "neither name nor server: nothing says which cluster is meant",
                hint="name: in-cluster, or the server of a registered cluster",
            )


RULE = Rule("STK-ARGO-019", Severity.ERROR, "The destination of an Application is ambiguous, or none", check, __name__)
