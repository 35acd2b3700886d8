"""A Deployment in a graph lacks its selector or the labels of its pods.

apps/v1 has no default for them. kro checks the templates against the schemas of Kubernetes: the graph stays Inactive,
and if it did not, the API server would refuse the Deployment.

Symptom: ResourceGraphDefinition is Inactive: spec.selector: Required value

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: server
        template:
          apiVersion: apps/v1
          kind: Deployment
          metadata: {name: "${schema.spec.name}"}
          spec:
            template:
              spec: {containers: [{name: server, image: "registry.example.com/server:1.0"}]}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: server
        template:
          apiVersion: apps/v1
          kind: Deployment
          metadata: {name: "${schema.spec.name}"}
          spec:
            selector: {matchLabels: {app: "${schema.spec.name}"}}
            template:
              metadata: {labels: {app: "${schema.spec.name}"}}
              spec: {containers: [{name: server, image: "registry.example.com/server:1.0"}]}

Source: Kubernetes API reference, apps/v1 DeploymentSpec
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs
from stoker.manifests.objects import filled_in_later

_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        for resource in graph.resources:
            manifest = resource.manifest
            if manifest is graph.manifest or manifest.kind not in _KINDS or not isinstance(manifest.get("spec"), dict):
                continue
            if manifest.get("spec", "selector") is None:
                yield Problem(
                    manifest,
                    ("spec", "selector"),
                    f"{resource.id} has no selector: the graph stays Inactive",
                    hint="selector: {matchLabels: {app: ...}}, and the same labels for its pods",
                )
            template = manifest.get("spec", "template")
            if not filled_in_later(template) and not manifest.get("spec", "template", "metadata", "labels"):
                yield Problem(
                    manifest,
                    ("spec", "template", "metadata", "labels"),
                    f"the pods of {resource.id} have no labels for its selector to find",
                    hint="template: {metadata: {labels: {app: ...}}}",
                )


RULE = Rule(
    "STK-KRO-009",
    Severity.ERROR,
    "A Deployment in a graph lacks its selector or the labels of its pods",
    check,
    __name__,
    guide=("E23",),
)
