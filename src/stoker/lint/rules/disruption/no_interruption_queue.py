"""Karpenter runs without an interruption queue, and its pools have spot nodes.

Karpenter learns of spot interruptions from an SQS queue that EventBridge fills. Without the name of that queue it
hears nothing: no replacement is launched, no pod is drained, and after two minutes the node is gone with all that ran
on it. Disruption budgets have no part in this.

Symptom: pods on spot nodes end without SIGTERM, and nodes turn NotReady
Symptom: the metric karpenter_interruption_received_messages_total is missing

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: karpenter, namespace: kube-system}
    spec:
      selector: {matchLabels: {app: karpenter}}
      template:
        metadata: {labels: {app: karpenter}}
        spec:
          containers:
          - name: controller
            image: public.ecr.aws/karpenter/controller:1.14.1
            env:
            - {name: CLUSTER_NAME, value: atelier}
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

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: karpenter, namespace: kube-system}
    spec:
      selector: {matchLabels: {app: karpenter}}
      template:
        metadata: {labels: {app: karpenter}}
        spec:
          containers:
          - name: controller
            image: public.ecr.aws/karpenter/controller:1.14.1
            env:
            - {name: CLUSTER_NAME, value: atelier}
            - {name: INTERRUPTION_QUEUE, value: atelier}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: spot}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: spot}
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/disruption.md (Interruption)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/settings.md
"""

from collections.abc import Iterator
from typing import Any

from stoker.catalog.labels import AUTO_MODE
from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment, has_open_environment, image
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import Manifest, look
from stoker.spec.faults import Path

_NAME = "INTERRUPTION_QUEUE"
_FLAG = "--interruption-queue"


def check(cluster: Cluster) -> Iterator[Problem]:
    spot = [each.name for each in pools(cluster).all if each.is_spot and each.view.domain != AUTO_MODE]
    if not spot:
        return
    message = f"no interruption queue, so the spot nodes of {', '.join(spot)} are taken without being drained"
    hint = "settings.interruptionQueue of the chart: the name of an SQS queue that EventBridge fills"
    for workload in cluster.workloads_like(("Deployment",)):
        for path, container in workload.containers():
            if "karpenter/controller" in image(container) and not _has_queue(container):
                yield Problem(workload.manifest, _place(path, container), message, hint=hint)
    for application in cluster.of("Application", group="argoproj.io"):
        path = ("spec", "source", "helm")
        if application.get("spec", "source", "chart") == "karpenter" and not _is_set(application):
            yield Problem(application, path, message, hint=hint)


def _has_queue(container: dict[str, Any]) -> bool:
    if has_open_environment(container):
        return True
    known = environment(container)
    if _NAME in known and known[_NAME][1] != "":
        return True
    words = look(container, "args")
    return any(str(each).startswith(_FLAG) for each in words) if isinstance(words, list) else False


def _place(path: Path, container: dict[str, Any]) -> Path:
    known = environment(container)
    return (*path, "env", known[_NAME][0], "value") if _NAME in known else (*path, "env")


def _is_set(application: Manifest) -> bool:
    """By the chart's values, wherever they are; values in files of another repository may set it, too."""
    helm = application.get("spec", "source", "helm", default={})
    return (
        "interruptionQueue" in str(helm) or bool(look(helm, "valueFiles")) or bool(application.get("spec", "sources"))
    )


RULE = Rule(
    "STK-DISRUPTION-013", Severity.WARNING, "Karpenter runs without an interruption queue", check, __name__, ("S14",)
)
