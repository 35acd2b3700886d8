"""Pods are to be spread over zones, and their pools have one.

With one zone there is nothing to spread over: all pods are in it, and go with it. With minDomains above 1 the pods
beyond the first wait for ever.

Symptom: all replicas in one zone, although a spread constraint says otherwise

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: topology.kubernetes.io/zone
            whenUnsatisfiable: DoNotSchedule
            labelSelector: {matchLabels: {app: chat}}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: topology.kubernetes.io/zone
            whenUnsatisfiable: DoNotSchedule
            labelSelector: {matchLabels: {app: chat}}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Source: Kubernetes documentation, Pod Topology Spread Constraints (minDomains, eligible domains)
"""

from collections.abc import Iterator

from stoker.catalog.labels import ZONE
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet, zones_of
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if pod.most == 1:
            continue
        pools = known.allowing(pod)
        there = zones_of(pod, pools) if pools else None
        if there is None or len(there) != 1:
            continue
        for i, each in sections(pod.workload.spec.get("topologySpreadConstraints")):
            if each.get("topologyKey") != ZONE or each.get("whenUnsatisfiable") != "DoNotSchedule":
                continue
            least = each.get("minDomains")
            waits = isinstance(least, int) and not isinstance(least, bool) and least > 1
            yield Problem(
                pod.workload.manifest,
                (*pod.workload.path, "topologySpreadConstraints", i, "minDomains" if waits else "topologyKey"),
                f"{pod.workload}: its pools have the zone {next(iter(there))} only, so "
                + (f"with minDomains {least} pods beyond maxSkew wait for ever" if waits else "nothing is spread"),
                hint="more zones in the pool, or no such constraint",
                severity=Severity.ERROR if waits else None,
            )


RULE = Rule("STK-FIT-016", Severity.WARNING, "Pods are spread over zones, and their pools have one", check, __name__)
