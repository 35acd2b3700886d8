"""A pool names instance types that no pod in sight fits.

They are a choice on paper. What is left may be a single size, with its price and its scarcity.

Symptom: the pool never launches some of the sizes or families that it lists

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [large, xlarge, 2xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md (allocatable of each type)
"""

from collections.abc import Iterator

from stoker.catalog.labels import INSTANCE_TYPE, labels_of
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import REQUIREMENTS, fleet
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections
from stoker.spec.faults import Path


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pool in known.pools:
        named = list(_named(pool))
        pods = [pod for pod in known.pods if named and pool in known.allowing(pod)]
        if not any(pool in known.tied(pod) for pod in pods):
            continue
        placed = [known.placement(pod, pool) for pod in pods]
        if not any(each.is_possible for each in placed):
            continue
        used = {name for each in placed for name in each.types}
        for path, key, value in named:
            types = [each.name for each in pool.types if labels_of(each, pool.view.domain).get(key) == value]
            if types and not used.intersection(types):
                yield Problem(
                    pool.manifest,
                    path,
                    f"{value}: no workload in sight that {pool} takes (of {len(pods)}) fits "
                    f"{types[0] if len(types) == 1 else f'one of these {len(types)} types'}",
                    hint=f"leave it out, or request less; used are {', '.join(sorted(used)[:4])}",
                )


def _named(pool: Pool) -> Iterator[tuple[Path, str, str]]:
    """The sizes, families and types that the pool lists, with the place of each."""
    sizes = {INSTANCE_TYPE, *(f"{pool.view.domain}/instance-{each}" for each in ("size", "family"))}
    for i, line in sections(pool.manifest.get(*REQUIREMENTS)):
        key, values = line.get("key"), line.get("values")
        if isinstance(key, str) and key in sizes and line.get("operator") == "In" and isinstance(values, list):
            for j, value in enumerate(values):
                if isinstance(value, str):
                    yield (*REQUIREMENTS, i, "values", j), key, value


RULE = Rule(
    "STK-FIT-008", Severity.INFO, "A pool names instance types that no pod fits", check, __name__, guide=("F01",)
)
