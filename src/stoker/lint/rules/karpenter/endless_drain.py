"""Nodes that expire and may wait without end.

A pod with `do-not-disrupt` keeps an expired node: it is tainted, takes no new pods, and is paid for until the pod ends
of itself. With `terminationGracePeriod` the wait has an end, at which the pod is deleted. EKS Auto Mode ends each of
its nodes after 21 days, so there nothing waits without end.

Symptom: nodes older than expireAfter stay, cordoned and nearly empty

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
    ---
    apiVersion: v1
    kind: Pod
    metadata:
      name: session
      annotations: {karpenter.sh/do-not-disrupt: "true"}
    spec:
      containers:
      - {name: session, image: "example.com/session:1"}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          terminationGracePeriod: 24h
    ---
    apiVersion: v1
    kind: Pod
    metadata:
      name: session
      annotations: {karpenter.sh/do-not-disrupt: "true"}
    spec:
      containers:
      - {name: session, image: "example.com/session:1"}

Source: Karpenter documentation, disruption: terminationGracePeriod, pod-level controls; EKS user guide, auto-security
"""

from collections.abc import Iterator

from stoker.catalog.labels import AUTO_MODE
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import NODE, expire_after, listed, pools, section, view_of
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import Manifest
from stoker.policy.placement import runs_on

_ANNOTATION = "karpenter.sh/do-not-disrupt"


def check(cluster: Cluster) -> Iterator[Problem]:
    kept = [(each, pod_view(each)) for each in cluster.workloads if each.annotations.get(_ANNOTATION) == "true"]
    for pool in pools(cluster) if kept else ():
        node = section(pool, *NODE)
        if not node or "terminationGracePeriod" in node or expire_after(pool) == "Never" or pool.templated:
            continue
        staying = [str(each) for each, pod in kept if runs_on(pod, view_of(pool))]
        if staying and not _ends_its_nodes(pool):
            yield Problem(
                pool,
                (*NODE, "terminationGracePeriod"),
                f"an expired node (after {expire_after(pool) or '720h'}) waits without end for {listed(staying, 2)}",
                hint="terminationGracePeriod, the longest that such a pod may need; or expireAfter: Never",
            )


def _ends_its_nodes(pool: Manifest) -> bool:
    return section(pool, *NODE, "nodeClassRef").get("group") == AUTO_MODE


RULE = Rule("STK-KARPENTER-054", Severity.INFO, "Expired nodes may wait without end", check, __name__)
