"""An object is put in a namespace that is not among those in sight.

Other namespaces are made here, this one is not: applied to a new cluster, the object is refused. Argo CD's own objects
are in the namespace where it runs, which was made with it.

Symptom: namespaces "ai" not found

Wrong:

    apiVersion: v1
    kind: Namespace
    metadata: {name: watch}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}

Right:

    apiVersion: v1
    kind: Namespace
    metadata: {name: ai}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}

Source: Kubernetes documentation, Namespaces
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity

_BUILT_IN = ("default", "kube-system", "kube-public", "kube-node-lease")
_ARGO_CD = ("Application", "ApplicationSet", "AppProject")


def check(cluster: Cluster) -> Iterator[Problem]:
    if not any(cluster.of("Namespace", group="")):
        return
    said = set(_BUILT_IN)
    for manifest in cluster.manifests:
        name = manifest.namespace
        if not name or name in said or holds_open(manifest, name) or cluster.exists("Namespace", name):
            continue
        if manifest.group == "argoproj.io" and manifest.kind in _ARGO_CD:
            continue
        said.add(name)
        yield Problem(
            manifest,
            ("metadata", "namespace"),
            f"the namespace {name} is not among those that are made here; where it is not there, this is refused",
            hint="a Namespace of this name, or exists: [Namespace ...] in the config",
        )


RULE = Rule("STK-MATCH-021", Severity.INFO, "An object is put in a namespace that is not in sight", check, __name__)
