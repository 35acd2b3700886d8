"""kro and an autoscaler both set the replicas.

kro compares its resources with the graph and puts back what differs. A Deployment with `replicas` in the graph that an
HPA or KEDA scales is set back each time: two owners of one number.

Symptom: replicas jump between the minimum and what the load needs

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: integer | default=1}}
      resources:
      - id: server
        template:
          apiVersion: apps/v1
          kind: Deployment
          metadata: {name: "${schema.spec.name}"}
          spec:
            replicas: ${schema.spec.least}
            selector: {matchLabels: {app: "${schema.spec.name}"}}
            template:
              metadata: {labels: {app: "${schema.spec.name}"}}
              spec: {containers: [{name: server, image: "registry.example.com/server:1.0"}]}
      - id: scaler
        template:
          apiVersion: autoscaling/v2
          kind: HorizontalPodAutoscaler
          metadata: {name: "${schema.spec.name}"}
          spec:
            scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: "${server.metadata.name}"}
            minReplicas: ${schema.spec.least}
            maxReplicas: 10

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: integer | default=1}}
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
      - id: scaler
        template:
          apiVersion: autoscaling/v2
          kind: HorizontalPodAutoscaler
          metadata: {name: "${schema.spec.name}"}
          spec:
            scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: "${server.metadata.name}"}
            minReplicas: ${schema.spec.least}
            maxReplicas: 10

Source: guide-errors S22
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import Resource, graphs, target_name
from stoker.manifests.objects import look

_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        scalers = [each for each in graph.resources if each.template.get("kind") in _SCALERS]
        for resource in graph.resources:
            replicas = look(resource.template, "spec", "replicas")
            if replicas is None or resource in scalers:
                continue
            scaler = next((each for each in scalers if _scales(each, resource)), None)
            if scaler is not None:
                inside = resource.manifest is not graph.manifest
                yield Problem(
                    resource.manifest,
                    ("spec", "replicas") if inside else (*resource.path, "template", "spec", "replicas"),
                    f"kro sets replicas to {replicas} each time that {scaler.id} has scaled it",
                    hint="no replicas here: the autoscaler has minReplicas",
                    key=True,
                )


def _scales(scaler: Resource, resource: Resource) -> bool:
    reference = look(scaler.template, "spec", "scaleTargetRef")
    kind = look(reference, "kind")
    return kind in (None, resource.template.get("kind")) and target_name(look(reference, "name"), resource)


RULE = Rule(
    "STK-KRO-009", Severity.WARNING, "kro and an autoscaler both set the replicas", check, __name__, guide=("S22",)
)
