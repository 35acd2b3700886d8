"""Several workloads together ask for more than the limits of their only pool.

Each of them alone has room. When all of them are at their largest at once, as on the busiest day, some wait.

Symptom: Pending pods at peak; "all available instance types exceed limits for nodepool"

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      limits: {cpu: "64"}
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 12
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: draw}
    spec:
      replicas: 12
      selector: {matchLabels: {app: draw}}
      template:
        metadata: {labels: {app: draw}}
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
      limits: {cpu: "256"}
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 12
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          nodeSelector: {tier: serving}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: draw}
    spec:
      replicas: 12
      selector: {matchLabels: {app: draw}}
      template:
        metadata: {labels: {app: draw}}
        spec:
          nodeSelector: {tier: serving}
          containers:
          - name: server
            image: chat:v1
            resources:
              requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/nodepools.md (spec.limits)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import LIMITS, Pod, fleet
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.quantities import format_amount


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    only: dict[Pool, list[Pod]] = {}
    for pod in known.pods:
        pools = known.allowing(pod)
        if len(pools) == 1 and pod.most and pools[0].view.limits and known.fits(pod):
            only.setdefault(pools[0], []).append(pod)
    for pool, pods in only.items():
        alone = [pod for pod in pods if known.has_room(pod, pool, pod.most or 0)]
        if len(alone) < 2:
            continue
        for key, limit in pool.view.limits.items():
            asked = sum((pod.most or 0) * pod.view.requests.get(key, 0) for pod in alone)
            if asked > limit:
                yield Problem(
                    pool.manifest,
                    (*LIMITS, key),
                    f"{len(alone)} workloads that only {pool} takes ask for {format_amount(key, asked)} of {key} when "
                    f"all are at their largest, and it is limited to {format_amount(key, limit)}: each alone has room",
                    hint=f"a limit above {format_amount(key, asked)}, if they are ever at their largest together",
                )


RULE = Rule(
    "STK-FIT-007", Severity.INFO, "Several workloads together ask for more than their pool's limits", check, __name__
)
