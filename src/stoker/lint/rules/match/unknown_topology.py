"""A topologyKey that no node has.

A topology is a label of nodes. Where none has the label, there is no domain to spread over or to share: with
DoNotSchedule, and with required pod affinity, the pods wait for ever; with required anti-affinity nothing is kept
apart. `zone` and `hostname` are short names that nobody sets.

Symptom: 12 node(s) didn't match pod topology spread constraints (missing required label)

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: general}
    spec:
      limits: {cpu: "100"}
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: general}
          requirements:
          - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, namespace: shop}
    spec:
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: zone
            whenUnsatisfiable: DoNotSchedule
            labelSelector: {matchLabels: {app: web}}
          containers:
          - {name: web, image: "web:1.0", resources: {requests: {cpu: 100m, memory: 64Mi}}}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: general}
    spec:
      limits: {cpu: "100"}
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: general}
          requirements:
          - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, namespace: shop}
    spec:
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          topologySpreadConstraints:
          - maxSkew: 1
            topologyKey: topology.kubernetes.io/zone
            whenUnsatisfiable: DoNotSchedule
            labelSelector: {matchLabels: {app: web}}
          containers:
          - {name: web, image: "web:1.0", resources: {requests: {cpu: 100m, memory: 64Mi}}}

Source: Kubernetes documentation, pod topology spread constraints
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import Fleet, fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import filled_in_later, look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_MEANT = {
    "zone": "topology.kubernetes.io/zone",
    "region": "topology.kubernetes.io/region",
    "hostname": "kubernetes.io/hostname",
    "node": "kubernetes.io/hostname",
}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    if not known.pools or not known.is_whole:
        return
    for workload in cluster.workloads:
        for path, key, consequence in _keys(workload):
            # One with a slash may be set by whoever owns that domain: a device plugin, feature discovery, an agent.
            if "/" in key or filled_in_later(key) or _is_given(known, key):
                continue
            yield Problem(
                workload.manifest,
                path,
                f"{workload}: no pool in sight gives its nodes the label {key}, so {consequence}",
                hint=_MEANT.get(key, "topology.kubernetes.io/zone, kubernetes.io/hostname, or a label of a pool"),
            )


def _keys(workload: Workload) -> Iterator[tuple[Path, str, str]]:
    """The topology keys that must hold: where each stands, and what comes of one that nobody has."""
    for i, each in sections(workload.spec.get("topologySpreadConstraints")):
        key = each.get("topologyKey")
        if isinstance(key, str) and each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            yield (*workload.path, "topologySpreadConstraints", i, "topologyKey"), key, "the pods are never scheduled"
    for kind, consequence in (
        ("podAffinity", "the pods are never scheduled"),
        ("podAntiAffinity", "nothing is kept apart"),
    ):
        for i, each in sections(look(workload.spec, "affinity", kind, _REQUIRED)):
            key = each.get("topologyKey")
            if isinstance(key, str):
                yield (*workload.path, "affinity", kind, _REQUIRED, i, "topologyKey"), key, consequence


def _is_given(known: Fleet, key: str) -> bool:
    return any(key in pool.view.labels or key in pool.view.requirements for pool in known.pools)


RULE = Rule("STK-MATCH-039", Severity.WARNING, "A topologyKey that no node has", check, __name__)
