"""ResourceGroup is called ResourceGraphDefinition.

Only v0.1.0 had a ResourceGroup. Since v0.2.0 the kind is ResourceGraphDefinition, and it has no namespace; `schema`,
`resources`, `id` and `template` kept their names.

Symptom: no matches for kind "ResourceGroup" in version "kro.run/v1alpha1"

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGroup
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

Source: kubernetes-sigs/kro@v0.9.3 config/crd; awslabs/kro@v0.1.0
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import GROUP, WRONG_GROUP
from stoker.manifests.edits import Replace

_RIGHT = "ResourceGraphDefinition"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("ResourceGroup"):
        if manifest.group in (GROUP, WRONG_GROUP):
            yield Problem(
                manifest,
                ("kind",),
                "ResourceGroup was in kro v0.1.0 only: no later release knows it",
                hint=f"kind: {_RIGHT}",
                edits=(Replace(("kind",), _RIGHT),),
            )


RULE = Rule(
    "STK-KRO-002",
    Severity.ERROR,
    "ResourceGroup is called ResourceGraphDefinition",
    check,
    __name__,
    guide=("E21",),
)
