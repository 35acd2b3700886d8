"""An object of KEDA 1.

Since version 2 KEDA's objects are of the group `keda.sh`, and the target is named by `name` and no longer by
`deploymentName`. Objects of `keda.k8s.io` are refused where only version 2 is installed, and read by nobody where the
old definitions are left over.

Symptom: no matches for kind "ScaledObject" in version "keda.k8s.io/v1alpha1"

Wrong:

    apiVersion: keda.k8s.io/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {deploymentName: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/migration.md (migrating from v1 to v2)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Edit, Rename, Replace

OLD, NEW = "keda.k8s.io", "keda.sh/v1alpha1"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ScaledObject", "ScaledJob", "TriggerAuthentication", group=OLD):
        edits: list[Edit] = [Replace(("apiVersion",), NEW)]
        ref = manifest.get("spec", "scaleTargetRef")
        if isinstance(ref, dict) and "deploymentName" in ref and "name" not in ref:
            edits.append(Rename(("spec", "scaleTargetRef", "deploymentName"), "name"))
        told = f"{OLD} is of KEDA 1: version 2 does not read it"
        yield Problem(manifest, ("apiVersion",), told, hint=f"apiVersion: {NEW}", edits=edits, instead_of=("kind",))


RULE = Rule("STK-KEDA-047", Severity.ERROR, "An object of KEDA 1", check, __name__)
