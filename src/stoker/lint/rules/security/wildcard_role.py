"""A role that may do anything.

`*` takes in what does not exist yet: kinds of operators that are installed later, and verbs such as impersonate, bind
and escalate, by which its holder becomes anybody. A pod with this ServiceAccount is the cluster.

Symptom: none, until its token is stolen

Wrong:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata: {name: worker, namespace: ai}
    rules:
    - {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}

Right:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata: {name: worker, namespace: ai}
    rules:
    - {apiGroups: [batch], resources: [jobs], verbs: [create, get, delete]}

Source: Kubernetes documentation, Role Based Access Control Good Practices: wildcards
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import Manifest, sections

_BECOMES = ("escalate", "bind", "impersonate")
_WRITES = ("*", "create", "update", "patch", "delete")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Role", "ClusterRole", group="rbac.authorization.k8s.io"):
        if manifest.get("aggregationRule") is not None:
            continue  # its rules are written by the controller
        for i, rule in sections(manifest.get("rules")):
            yield from _of_rule(manifest, i, rule)


def _of_rule(manifest: Manifest, i: int, rule: dict[str, Any]) -> Iterator[Problem]:
    verbs, resources = _texts(rule.get("verbs")), _texts(rule.get("resources"))
    where = "of the cluster" if manifest.kind == "ClusterRole" else "of its namespace"
    if "*" in resources and any(verb in verbs for verb in _WRITES):
        yield Problem(
            manifest,
            ("rules", i, "resources", resources.index("*")),
            f"it may {'do anything with' if '*' in verbs else 'change'} every resource {where}, roles and Secrets too",
            hint="the resources that it works with, by name",
        )
    elif "*" in verbs and resources:
        yield Problem(
            manifest,
            ("rules", i, "verbs", verbs.index("*")),
            f"every verb on {', '.join(resources)}: verbs that are added later are in it, too",
            hint="[get, list, watch, create, update, patch, delete], less what it does not do",
            severity=None if set(resources) & {"secrets", "pods", "roles", "clusterroles"} else Severity.INFO,
        )
    for verb in _BECOMES:
        if verb in verbs:
            yield Problem(
                manifest,
                ("rules", i, "verbs", verbs.index(verb)),
                f"{verb} on {', '.join(resources) or 'nothing'}: with it one can get rights beyond this role",
                hint="only for what manages access",
            )


def _texts(value: Any) -> list[str]:
    return [each if isinstance(each, str) else "" for each in value] if isinstance(value, list) else []


RULE = Rule("STK-SECURITY-015", Severity.WARNING, "A role that may do anything", check, __name__)
