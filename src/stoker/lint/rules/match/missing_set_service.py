"""A StatefulSet names a Service that is not there.

Its pods run, and have no names in DNS: chat-0.chat.ai.svc resolves only where the headless Service of serviceName is.

Symptom: could not resolve host chat-0.chat

Wrong:

    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: chat, namespace: ai}
    spec:
      serviceName: chat
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]

Right:

    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: chat, namespace: ai}
    spec:
      serviceName: chat
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      clusterIP: None
      selector: {app: chat}
      ports: [{port: 8080}]

Source: Kubernetes documentation, StatefulSets (stable network ID)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in cluster.of("StatefulSet", group="apps"):
        name = each.get("spec", "serviceName")
        if isinstance(name, str) and name:
            reference = Reference(each, ("spec", "serviceName"), name, str(each), each.namespace)
            hint = "a Service of this name with clusterIP: None"
            yield from missing(cluster, "Service", [reference], "its pods have no names in DNS", hint)


RULE = Rule("STK-MATCH-020", Severity.WARNING, "A StatefulSet names a Service that is not there", check, __name__)
