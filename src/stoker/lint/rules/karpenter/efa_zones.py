"""A pool for EFA that spreads over zones.

EFA traffic stays within a zone, and a cluster placement group is within one, too. Workers that land in two zones reach
one another over plain TCP at best. The pool, or the pods by their affinity, must name one zone.

Symptom: NCCL hangs or falls back to sockets when the workers are in different zones

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}
    ---
    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      networkInterfaces:
      - {networkCardIndex: 0, deviceIndex: 0, interfaceType: interface}
      - {networkCardIndex: 0, deviceIndex: 1, interfaceType: efa-only}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2b]}
    ---
    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: training}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      networkInterfaces:
      - {networkCardIndex: 0, deviceIndex: 0, interfaceType: interface}
      - {networkCardIndex: 0, deviceIndex: 1, interfaceType: efa-only}

Source: EC2 documentation, Elastic Fabric Adapter: limitations
Source: Karpenter documentation, NodeClasses: networkInterfaces, placementGroupSelector
"""

import re
from collections.abc import Iterator

from stoker.catalog.labels import ZONE, ZONE_ID
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import (
    REQUIREMENTS,
    commands,
    lines_of,
    node_class_of,
    pools,
    types_of,
    user_data,
    view_of,
)
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import Manifest, look, sections
from stoker.manifests.workloads import Workload
from stoker.policy.placement import runs_on
from stoker.policy.pod_resources import EFA

_EFA = re.compile(r"(?<![a-z])efa(?![a-z])", re.IGNORECASE)
_AFFINITY = ("affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution")


def check(cluster: Cluster) -> Iterator[Problem]:
    with_efa = [(each, pod_view(each)) for each in cluster.workloads if _uses_efa(each)]
    for pool in pools(cluster):
        if pool.templated or not any(each.efa_count for each in types_of(pool)) or _is_in_one_zone(pool):
            continue
        users = [each for each, pod in with_efa if runs_on(pod, view_of(pool))]
        if users and all(_keeps_together(each) for each in users):
            continue
        node_class = node_class_of(cluster, pool)
        if users or (node_class is not None and _sets_up_efa(node_class)):
            named = [line for line in lines_of(pool) if line.key in (ZONE, ZONE_ID)]
            zones = (
                f"the zones {', '.join(view_of(pool).zones)}"
                if view_of(pool).zones
                else "every zone it has a subnet in"
            )
            yield Problem(
                pool,
                (*named[0].path, "values") if named else REQUIREMENTS,
                f"the pool is meant for EFA and launches in {zones}: EFA does not cross zones",
                hint=f"{{key: {ZONE}, operator: In, values: [<one zone>]}}, or pod affinity by zone",
            )


def _is_in_one_zone(pool: Manifest) -> bool:
    asked = [view_of(pool).offered.get(key) for key in (ZONE, ZONE_ID)]
    return any(each is not None and not each.complement and len(each.values) == 1 for each in asked)


def _uses_efa(workload: Workload) -> bool:
    return pod_view(workload).requests.get(EFA, 0) > 0


def _keeps_together(workload: Workload) -> bool:
    terms = sections(look(workload.spec, *_AFFINITY))
    return any(term.get("topologyKey") == ZONE for _, term in terms)


def _sets_up_efa(node_class: Manifest) -> bool:
    interfaces = sections(node_class.get("spec", "networkInterfaces"))
    if any(each.get("interfaceType") == "efa-only" for _, each in interfaces):
        return True
    return any(_EFA.search(line) for line in commands(user_data(node_class)))


RULE = Rule("STK-KARPENTER-038", Severity.WARNING, "EFA over several zones", check, __name__, guide=("S17",))
