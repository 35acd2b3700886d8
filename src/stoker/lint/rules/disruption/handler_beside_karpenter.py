"""AWS Node Termination Handler runs beside Karpenter.

Karpenter reads interruption notices from its own queue, launches the replacement and drains the node. The handler
drains the same node on its own account, without a replacement, and with rebalance draining it gives up nodes that are
not being taken at all. Karpenter's documentation advises against having both.

Symptom: nodes are cordoned although no interruption came
Symptom: pods wait for a node after a spot interruption although Karpenter runs

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: aws-node-termination-handler, namespace: kube-system}
    spec:
      selector: {matchLabels: {app: handler}}
      template:
        metadata: {labels: {app: handler}}
        spec:
          tolerations: [{operator: Exists}]
          containers:
          - {name: handler, image: "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.0"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: spot}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: spot}
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: spot}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: spot}
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/faq.md (interruption handling)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/troubleshooting.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import image
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import sections
from stoker.manifests.workloads import Workload

HANDLER = "aws-node-termination-handler"


def handlers(cluster: Cluster) -> Iterator[Workload]:
    """The workloads that run the handler."""
    for workload in cluster.workloads:
        if any(f"{HANDLER}:" in f"{image(each)}:".replace("@", ":") for _, each in workload.containers()):
            yield workload


def check(cluster: Cluster) -> Iterator[Problem]:
    if not pools(cluster).all:
        return
    message = "drains the nodes that Karpenter drains itself: the two get in each other's way"
    hint = "leave it out, and give Karpenter an interruption queue (settings.interruptionQueue)"
    for workload in handlers(cluster):
        yield Problem(workload.manifest, workload.path, message, hint=hint)
    for application in cluster.of("Application", group="argoproj.io"):
        places = [
            ("spec", "source"),
            *(("spec", "sources", i) for i, _ in sections(application.get("spec", "sources"))),
        ]
        for path in places:
            if application.get(*path, "chart") == HANDLER:
                yield Problem(application, (*path, "chart"), f"installs {HANDLER}, which {message}", hint=hint)


RULE = Rule(
    "STK-DISRUPTION-011",
    Severity.WARNING,
    "AWS Node Termination Handler runs beside Karpenter",
    check,
    __name__,
    guide=("W01",),
)
