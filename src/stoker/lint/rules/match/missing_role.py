"""A binding gives a role that is not there, or gives it to an account that is not.

A RoleBinding to a Role that does not exist is accepted and grants nothing; so is one whose ServiceAccount is misspelt
or in another namespace.

Symptom: "is forbidden: User system:serviceaccount:ai:workflow cannot create resource", though a binding is there

Wrong:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: {name: workflow, namespace: ai}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: workflow}
    subjects: [{kind: ServiceAccount, name: workflow, namespace: ai}]

Right:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: {name: workflow, namespace: ai}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: workflow}
    subjects: [{kind: ServiceAccount, name: workflow, namespace: ai}]
    ---
    apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata: {name: workflow, namespace: ai}
    rules: [{apiGroups: [argoproj.io], resources: [workflowtaskresults], verbs: [create]}]
    ---
    apiVersion: v1
    kind: ServiceAccount
    metadata: {name: workflow, namespace: ai}

Source: Kubernetes documentation, Using RBAC Authorization (RoleBinding and ClusterRoleBinding)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing
from stoker.manifests.objects import Manifest, sections

_BUILT_IN = ("cluster-admin", "admin", "edit", "view")


def check(cluster: Cluster) -> Iterator[Problem]:
    for binding in cluster.of("RoleBinding", "ClusterRoleBinding", group="rbac.authorization.k8s.io"):
        kind, name = binding.get("roleRef", "kind"), binding.get("roleRef", "name")
        if kind in ("Role", "ClusterRole") and isinstance(name, str) and not name.startswith("system:"):
            namespace = binding.namespace if kind == "Role" else ""
            reference = Reference(binding, ("roleRef", "name"), name, str(binding), namespace)
            known = _BUILT_IN if kind == "ClusterRole" else ()
            like = ("ClusterRole",) if kind == "ClusterRole" else ()
            hint = f"a {kind} of this name, or exists: [{kind} ...] in the config"
            yield from missing(cluster, kind, [reference], "it grants nothing", hint, known=known, like=like)
        hint = "a ServiceAccount of this name in this namespace, or exists: [ServiceAccount ...] in the config"
        accounts = _accounts(binding)
        yield from missing(cluster, "ServiceAccount", accounts, "the right is nobody's", hint, known=("default",))


def _accounts(binding: Manifest) -> Iterator[Reference]:
    for i, each in sections(binding.get("subjects")):
        name, namespace = each.get("name"), each.get("namespace")
        if each.get("kind") == "ServiceAccount" and isinstance(name, str) and isinstance(namespace, str):
            yield Reference(binding, ("subjects", i, "name"), name, str(binding), namespace)


RULE = Rule("STK-MATCH-019", Severity.WARNING, "A binding gives a role that is not there", check, __name__)
