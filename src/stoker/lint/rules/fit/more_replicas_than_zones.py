"""Pods refuse to share a zone, and there are more of them than zones.

A required anti-affinity by zone among a workload's own pods allows one of them in each zone. The others wait for ever;
a rolling update that adds a pod first waits, too, when every zone is taken.

Symptom: Pending with "didn't match pod anti-affinity rules", one pod short of the number asked for

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
          affinity:
            podAntiAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
              - {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: chat}}}
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
      replicas: 2
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          affinity:
            podAntiAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
              - {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: chat}}}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Source: Kubernetes documentation, Assigning Pods to Nodes (inter-pod affinity and anti-affinity)
"""

from collections.abc import Iterator

from stoker.catalog.labels import ZONE
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import REQUIRED, fleet, zones_of
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.selectors import selects
from stoker.manifests.objects import look, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        pools = known.allowing(pod)
        there = zones_of(pod, pools) if pools else None
        if not there or not pod.most or pod.most <= len(there):
            continue
        path = ("affinity", "podAntiAffinity", REQUIRED)
        for i, term in sections(look(pod.workload.spec, *path)):
            if term.get("topologyKey") == ZONE and selects(term.get("labelSelector"), pod.workload.labels):
                yield Problem(
                    pod.workload.manifest,
                    (*pod.workload.path, *path, i, "topologyKey"),
                    f"{pod.workload}: one pod a zone, {pod.most} pods and the {len(there)} zones "
                    f"{', '.join(sorted(there))}: {pod.most - len(there)} wait for ever",
                    hint="prefer it (preferredDuringScheduling...), or spread with maxSkew 1",
                )


RULE = Rule("STK-FIT-017", Severity.WARNING, "More pods than zones refuse to share a zone", check, __name__)
