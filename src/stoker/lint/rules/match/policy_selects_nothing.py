"""A NetworkPolicy selects no pods.

It is accepted and protects nobody: the pods that were meant stay open to all. The pods that a controller makes for a
Gateway of the Gateway API are in no manifest; they have its name as a label.

Symptom: traffic that a policy should stop goes through

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: chat, namespace: ai}
    spec:
      podSelector: {matchLabels: {app: chta}}
      policyTypes: [Ingress]

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
          containers:
          - name: server
            image: chat:v1
    ---
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata: {name: chat, namespace: ai}
    spec:
      podSelector: {matchLabels: {app: chat}}
      policyTypes: [Ingress]

Source: Kubernetes documentation, Network Policies
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._pods import pods_in
from stoker.lint.selectors import selects
from stoker.manifests.objects import Manifest, look

_GATEWAY = "gateway.networking.k8s.io/gateway-name"
"""On the pods of a Gateway. Source: Gateway API, GEP-1762."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for policy in cluster.of("NetworkPolicy", group="networking.k8s.io"):
        selector = policy.get("spec", "podSelector")
        pods = list(pods_in(cluster, policy.namespace))
        if not isinstance(selector, dict) or not selector or holds_open(policy, selector) or not pods:
            continue
        if _is_of_gateway(cluster, policy):
            continue
        if not any(holds_open(each.manifest, each.labels) or selects(selector, each.labels) for each in pods):
            yield Problem(
                policy,
                ("spec", "podSelector"),
                f"selects none of the {len(pods)} workloads in sight of its namespace: it protects nobody",
                hint="labels of the pod template",
            )


def _is_of_gateway(cluster: Cluster, policy: Manifest) -> bool:
    name = look(policy.get("spec", "podSelector"), "matchLabels", _GATEWAY)
    return isinstance(name, str) and cluster.exists("Gateway", name, policy.namespace)


RULE = Rule("STK-MATCH-029", Severity.INFO, "A NetworkPolicy selects no pods", check, __name__)
