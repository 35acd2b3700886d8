"""What is served, as clients ask for it: `/version`, `/api`, `/apis`, the resources of a group, aggregated or not."""

from typing import Any

from stoker.testing.kubernetes.resources import Registry, Resource

Tree = dict[str, Any]

AGGREGATED = "apidiscovery.k8s.io"
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_STATUS_VERBS = ["get", "patch", "update"]


def version(minor: str) -> Tree:
    number = minor.rpartition(".")[2]
    return {
        "major": "1",
        "minor": number,
        "gitVersion": f"v1.{number}.0-stand-in",
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "go1.24",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def core_versions(url: str) -> Tree:
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": url.partition("://")[2]}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def group_list(registry: Registry) -> Tree:
    groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Tree | None:
    versions = registry.groups().get(name)
    return None if not name or versions is None else {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def resource_list(registry: Registry, group: str, version: str) -> Tree | None:
    """Of one version of a group; None where that is not served."""
    if version not in registry.groups().get(group, []):
        return None
    found: list[Tree] = []
    for each in _of(registry, group, version):
        found.append(
            {
                "name": each.plural,
                "singularName": each.kind.lower(),
                "namespaced": each.namespaced,
                "kind": each.kind,
                "verbs": _VERBS,
                **({"shortNames": list(each.short)} if each.short else {}),
            }
        )
        if each.status:
            found.append(
                {
                    "name": f"{each.plural}/status",
                    "singularName": "",
                    "namespaced": each.namespaced,
                    "kind": each.kind,
                    "verbs": _STATUS_VERBS,
                }
            )
    listed = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": listed, "resources": found}


def aggregated(registry: Registry, *, core: bool) -> Tree:
    """`APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`: the core group, or all others."""
    items = []
    for name, versions in registry.groups().items():
        if core == (name == ""):
            listed = [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": [_discovered(each, version) for each in _of(registry, name, version)],
                }
                for version in versions
            ]
            items.append({"metadata": {"name": name} if name else {}, "versions": listed})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": f"{AGGREGATED}/v2", "metadata": {}, "items": items}


def _discovered(resource: Resource, version: str) -> Tree:
    kind = {"group": resource.group, "version": version, "kind": resource.kind}
    found: Tree = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": _VERBS,
    }
    if resource.short:
        found["shortNames"] = list(resource.short)
    if resource.status:
        found["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": _STATUS_VERBS}]
    return found


def _group(name: str, versions: list[str]) -> Tree:
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _of(registry: Registry, group: str, version: str) -> list[Resource]:
    found = [each for each in registry if each.group == group and version in each.versions]
    return sorted(found, key=lambda each: each.plural)
