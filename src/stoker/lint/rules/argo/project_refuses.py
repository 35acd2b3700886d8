"""The project of an Application does not allow its source or its destination.

An AppProject lists the repositories and the clusters and namespaces that its Applications may use. What is not in it
is refused: the Application stays Unknown and never syncs.

Symptom: InvalidSpecError: the destination does not match any of the allowed destinations in project 'ai-platform'

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: AppProject
    metadata: {name: ai-platform, namespace: argocd}
    spec:
      sourceRepos: ["https://github.com/example/configs"]
      destinations: [{server: "https://kubernetes.default.svc", namespace: ai}]
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: ai-platform
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {server: "https://kubernetes.default.svc", namespace: training}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: AppProject
    metadata: {name: ai-platform, namespace: argocd}
    spec:
      sourceRepos: ["https://github.com/example/configs"]
      destinations: [{server: "https://kubernetes.default.svc", namespace: ai}]
    ---
    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: ai-platform
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {server: "https://kubernetes.default.svc", namespace: ai}

Source: Argo CD documentation, Projects
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import Application, applications, matches
from stoker.manifests.objects import Manifest, filled_in_later, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for application in applications(cluster):
        project = cluster.find("AppProject", application.project) if application.project else None
        if project is not None and not project.templated:
            yield from _sources(application, project)
            yield from _destination(application, project)


def _sources(application: Application, project: Manifest) -> Iterator[Problem]:
    allowed = project.get("spec", "sourceRepos")
    if not isinstance(allowed, list):
        allowed = []
    for path, source in application.sources:
        repository = source.get("repoURL")
        if not isinstance(repository, str) or not repository or filled_in_later(repository):
            continue
        denied = any(isinstance(each, str) and each[:1] == "!" and matches(each[1:], repository) for each in allowed)
        if denied or not any(matches(each, repository) for each in allowed):
            yield Problem(
                application.manifest,
                (*path, "repoURL"),
                f"the project {project.name} does not allow the repository {repository}: it never syncs",
                hint=f"add it to sourceRepos of {project.name}",
            )


def _destination(application: Application, project: Manifest) -> Iterator[Problem]:
    wanted = application.destination
    if not wanted or any(filled_in_later(value) for value in wanted.values()):
        return
    allowed = sections(project.get("spec", "destinations"))
    denied = [each for _i, each in allowed if _is_denial(each)]
    permitted = [each for _i, each in allowed if not _is_denial(each)]
    if denied or any(_fits(each, wanted) for each in permitted):
        return  # what a denial takes out again is not judged
    where = wanted.get("server") or wanted.get("name") or "?"
    yield Problem(
        application.manifest,
        (*application.base, "destination"),
        f"the project {project.name} does not allow {where}, namespace {wanted.get('namespace') or '(none)'}:"
        " it never syncs",
        hint=f"add it to destinations of {project.name}",
    )


def _is_denial(destination: dict[str, Any]) -> bool:
    return any(isinstance(value, str) and value.startswith("!") for value in destination.values())


def _fits(permitted: dict[str, Any], wanted: dict[str, Any]) -> bool:
    namespace = wanted.get("namespace")
    if isinstance(namespace, str) and namespace and not matches(permitted.get("namespace", ""), namespace):
        return False
    for key in ("server", "name"):
        value = wanted.get(key)
        if isinstance(value, str) and value:
            # A cluster that is listed by its other name may be the same one.
            return not permitted.get(key) or matches(permitted[key], value)
    return True


RULE = Rule(
    "STK-ARGO-017",
    Severity.ERROR,
    "The project of an Application does not allow its source or its destination",
    check,
    __name__,
)
