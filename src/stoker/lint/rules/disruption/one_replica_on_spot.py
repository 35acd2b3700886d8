"""The only replica behind a Service is on a spot node.

Spot nodes are taken with two minutes' notice, and a model server needs longer than that to be scheduled, pulled and
loaded. With one replica each interruption is an outage; with two, in different zones, it is not.

Symptom: the service is away for minutes, some times a week, without a deployment

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 1
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: server, image: "example.com/chat:v1"}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {karpenter.sh/capacity-type: spot}
          containers: [{name: server, image: "example.com/chat:v1"}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]

Source: Amazon EC2 user guide, Spot Instance interruption notices
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import is_served


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "Rollout")):
        if workload.replicas == 1 and is_served(cluster, workload) and pools(cluster).spot(workload) != "never":
            yield Problem(
                workload.manifest,
                ("spec", "replicas"),
                "the only replica behind its Service can be on a spot node: each interruption is an outage",
                hint="replicas: 2 with a spread over zones, or on-demand nodes",
            )


RULE = Rule("STK-DISRUPTION-020", Severity.INFO, "The only replica behind a Service is on a spot node", check, __name__)
