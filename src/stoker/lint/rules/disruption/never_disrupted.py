"""do-not-disrupt is left on pods that always run.

The annotation keeps Karpenter from consolidating and from replacing a node for drift while such a pod is on it. On a
Job that is what it is for: the job ends. Pods of a Deployment, a StatefulSet or a DaemonSet never end, so their nodes
stay for good: with an old AMI, and half empty. Expiration and the loss of a spot node are not held up by it.

Symptom: Karpenter's events say "Cannot disrupt Node: pod has karpenter.sh/do-not-disrupt annotation"
Symptom: nodes are not consolidated although they are nearly empty

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata:
          labels: {app: chat}
          annotations: {karpenter.sh/do-not-disrupt: "true"}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "example.com/chat:v1"}]
    ---
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: chat, namespace: ai}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: chat}}

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md (Pod-Level Controls)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import DO_NOT_DISRUPT


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout")):
        if workload.annotations.get(DO_NOT_DISRUPT) == "true":
            nodes = "every node it runs on" if workload.kind == "DaemonSet" else "the nodes of its pods"
            yield Problem(
                workload.manifest,
                (*workload.meta, "annotations", DO_NOT_DISRUPT),
                f"pods of a {workload.kind} never end, so {nodes} can be neither consolidated nor replaced for drift",
                hint="a PodDisruptionBudget with maxUnavailable: 1 and no annotation",
            )


RULE = Rule("STK-DISRUPTION-006", Severity.WARNING, "do-not-disrupt is left on pods that always run", check, __name__)
