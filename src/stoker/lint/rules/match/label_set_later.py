"""A pod selects by a label that nodes get only after they have joined.

nvidia.com/gpu.present and the like are set by feature discovery, which runs on the node. Karpenter has to decide before
there is a node, and does not know the label: it launches none. For a DaemonSet, which follows nodes that others asked
for, such a label is right.

Symptom: Pending with "label \"nvidia.com/gpu.present\" does not have known values" while no GPU node is up
Symptom: the pod runs when another has brought a node, and never alone

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {nvidia.com/gpu.present: "true"}
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      nodeSelector: {karpenter.k8s.aws/instance-family: m6i}
      containers:
      - {name: server, image: "chat:v1"}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/scheduling/requirements.go (labels that a pool must give)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._labels import is_set_later


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if known.allowing(pod) or not known.is_whole or not pod.view.requirements:
            continue
        for key, wanted in pod.view.requirements[0].items():
            given = any(key in pool.view.offered for pool in known.pools)
            if is_set_later(key) and not wanted.absent and not given:
                yield Problem(
                    pod.workload.manifest,
                    pod.path_of_label(key),
                    f"{pod.workload}: selects by {key}, which a node gets after it has joined; Karpenter does not know "
                    "it and launches no node for this pod",
                    hint="a label of Karpenter (karpenter.k8s.aws/instance-gpu-name, -gpu-count, -family), or one in "
                    "the pool's template",
                )


RULE = Rule("STK-MATCH-003", Severity.WARNING, "A pod selects by a label that comes too late", check, __name__)
