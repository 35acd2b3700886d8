"""A binding that gives a workload the whole cluster, or everybody a role.

A ServiceAccount with cluster-admin makes each of its pods an administrator. A role bound to all authenticated users, or
to anonymous ones, is held by whoever reaches the API server.

Symptom: a pod that should read one queue lists the Secrets of kube-system

Wrong:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: {name: workflow}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
    subjects:
    - {kind: ServiceAccount, name: workflow, namespace: ai}

Right:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: {name: workflow, namespace: ai}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: workflow}
    subjects:
    - {kind: ServiceAccount, name: workflow, namespace: ai}

Source: Kubernetes documentation, Role Based Access Control Good Practices: least privilege
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections

_EVERYBODY = ("system:anonymous", "system:unauthenticated", "system:authenticated", "system:serviceaccounts")
_HARMLESS = ("system:discovery", "system:basic-user", "system:public-info-viewer")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ClusterRoleBinding", "RoleBinding", group="rbac.authorization.k8s.io"):
        role = manifest.get("roleRef", "name")
        if not isinstance(role, str) or role in _HARMLESS:
            continue
        subjects = sections(manifest.get("subjects"))
        accounts = [str(each.get("name")) for _i, each in subjects if each.get("kind") == "ServiceAccount"]
        if role == "cluster-admin" and accounts:
            what = "the cluster" if manifest.kind == "ClusterRoleBinding" else "its namespace"
            yield Problem(
                manifest,
                ("roleRef", "name"),
                f"every pod with the ServiceAccount {', '.join(accounts)} is an administrator of {what}",
                hint="a Role with the resources and verbs that it uses",
            )
        for i, subject in subjects:
            if subject.get("name") in _EVERYBODY:
                yield Problem(
                    manifest,
                    ("subjects", i, "name"),
                    f"{role} is given to all of {subject['name']}",
                    hint="the ServiceAccounts and groups that need it",
                )


RULE = Rule(
    "STK-SECURITY-016",
    Severity.WARNING,
    "A binding that gives a workload the whole cluster, or everybody a role",
    check,
    __name__,
)
