"""The project of an Application is not among the manifests.

Argo CD makes only `default` by itself. An Application of a project that is not there is not deployed; if the project is
in the cluster already, or somewhere else, all is well.

Symptom: InvalidSpecError: Application referencing project ai-platform which does not exist

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: ai-platform
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, namespace: ai}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: AppProject
    metadata: {name: ai-platform, namespace: argocd}
    spec:
      sourceRepos: ["https://github.com/example/configs"]
      destinations: [{name: prod, namespace: ai}]
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: ai-platform
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, namespace: ai}

Source: Argo CD documentation, Projects
Source: guide-errors R03
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import applications


def check(cluster: Cluster) -> Iterator[Problem]:
    for application in applications(cluster):
        name = application.project
        if not name or name == "default" or cluster.exists("AppProject", name):
            continue
        yield Problem(
            application.manifest,
            (*application.base, "project"),
            f"no AppProject {name} among these manifests: without it the Application is not deployed",
            hint=f'an AppProject {name}, or "AppProject {name}" under exists in the config',
        )


RULE = Rule(
    "STK-ARGO-018",
    Severity.INFO,
    "The project of an Application is not among the manifests",
    check,
    __name__,
    guide=("R03",),
)
