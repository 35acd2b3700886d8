"""kro.aws.io is no API group.

kro began at AWS, but its group was kro.run from the first release on. No cluster has the other one.

Symptom: no matches for kind "ResourceGroup" in version "kro.aws.io/v1alpha1"

Wrong:

    apiVersion: kro.aws.io/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}

Source: awslabs/kro@v0.1.0 config/crd/bases/kro.run_resourcegroups.yaml
Source: kubernetes-sigs/kro@v0.9.3
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import GROUP, WRONG_GROUP
from stoker.manifests.edits import Replace


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.manifests:
        if manifest.group == WRONG_GROUP:
            right = f"{GROUP}/{manifest.version}"
            yield Problem(
                manifest,
                ("apiVersion",),
                f"no release of kro has the group {WRONG_GROUP}: no cluster knows this kind",
                hint=f"apiVersion: {right}",
                edits=(Replace(("apiVersion",), right),),
            )


RULE = Rule("STK-KRO-001", Severity.ERROR, "kro.aws.io is no API group", check, __name__, guide=("E20",))
