"""A ClusterRole that may read every Secret.

In every namespace, and list is as good as get: it returns the contents. Whoever holds it has the tokens of all
ServiceAccounts that are stored and every password. A controller that needs some Secrets gets Roles in their namespaces,
or resourceNames.

Symptom: a metrics agent that was broken into gives away the passwords of all databases

Wrong:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRole
    metadata: {name: agent}
    rules:
    - {apiGroups: [""], resources: [pods, secrets], verbs: [get, list, watch]}

Right:

    apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRole
    metadata: {name: agent}
    rules:
    - {apiGroups: [""], resources: [pods], verbs: [get, list, watch]}

Source: Kubernetes documentation, Role Based Access Control Good Practices: listing secrets
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections

_READS = ("get", "list", "watch", "*")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ClusterRole", group="rbac.authorization.k8s.io"):
        for i, rule in sections(manifest.get("rules")):
            resources, verbs = rule.get("resources"), rule.get("verbs")
            if not isinstance(resources, list) or not isinstance(verbs, list) or rule.get("resourceNames"):
                continue
            reads = [verb for verb in verbs if verb in _READS]
            if "secrets" in resources and reads:
                yield Problem(
                    manifest,
                    ("rules", i, "resources", resources.index("secrets")),
                    f"it may {', '.join(reads)} the Secrets of every namespace that it is bound for",
                    hint="resourceNames, or a Role in the namespaces where it needs them",
                )


RULE = Rule("STK-SECURITY-017", Severity.WARNING, "A ClusterRole that may read every Secret", check, __name__)
