"""`/openapi/v3`, as far as kubectl and Helm insist: whether each kind's patch takes `fieldValidation`. No schemas, so
that `kubectl explain` says nothing."""

from typing import Any

from stoker.testing.kubernetes.resources import Registry

Tree = dict[str, Any]

_PARAMETERS = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation", "force")]


def index(registry: Registry) -> Tree:
    return {
        "paths": {
            root: {"serverRelativeURL": f"/openapi/v3/{root}"}
            for group, versions in registry.groups().items()
            for root in (_root(group, version) for version in versions)
        }
    }


def document(registry: Registry, group: str, version: str) -> Tree | None:
    """Of one version of a group; None where that is not served."""
    if version not in registry.groups().get(group, []):
        return None
    paths: Tree = {}
    for each in registry:
        if each.group == group and version in each.versions:
            namespace = "/namespaces/{namespace}" if each.namespaced else ""
            patch = {
                "parameters": _PARAMETERS,
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": each.kind},
            }
            paths[f"/{_root(group, version)}{namespace}/{each.plural}/{{name}}"] = {"patch": patch}
    info = {"title": "stand-in", "version": "unversioned"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}


def _root(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"
