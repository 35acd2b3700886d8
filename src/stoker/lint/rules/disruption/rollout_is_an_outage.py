"""A rollout ends all pods behind a Service at once.

`strategy.type: Recreate` ends the old pods before the new ones begin, and `maxUnavailable: 100%` may do the same.
Model servers take minutes to load: for that long nobody answers. With a single replica the choice may be meant, where
no second GPU is to be had, and this is a note.

Symptom: 503 from the load balancer for minutes at every deployment

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 3
      strategy: {type: Recreate}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
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
      replicas: 3
      strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 80}]

Source: Kubernetes documentation, concepts/workloads/controllers/deployment (strategy)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import is_served, least_replicas, scaled_share


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment",)):
        strategy = ("spec", "strategy")
        unavailable = workload.manifest.get(*strategy, "rollingUpdate", "maxUnavailable")
        recreate = workload.manifest.get(*strategy, "type") == "Recreate"
        if (not recreate and unavailable is None) or not is_served(cluster, workload):
            continue
        least = least_replicas(cluster, workload) or 1
        gone = scaled_share(unavailable, least, up=False)
        severity = Severity.INFO if least == 1 else None
        if recreate:
            message = "Recreate ends every pod behind the Service before the first new one begins"
            path: tuple[str, ...] = (*strategy, "type")
        elif gone is not None and gone >= least:
            pods = "the only pod" if least == 1 else f"all {least} pods"
            message = f"maxUnavailable: {unavailable} lets a rollout end {pods} behind the Service at once"
            path = (*strategy, "rollingUpdate", "maxUnavailable")
        else:
            continue
        yield Problem(
            workload.manifest, path, message, hint="rollingUpdate: {maxUnavailable: 1, maxSurge: 0}", severity=severity
        )


RULE = Rule("STK-DISRUPTION-017", Severity.WARNING, "A rollout ends all pods behind a Service at once", check, __name__)
