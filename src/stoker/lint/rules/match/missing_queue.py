"""A workload or a queue of Kueue refers to a queue or a flavor that is not there.

A job whose LocalQueue does not exist stays suspended; a LocalQueue without its ClusterQueue and a ClusterQueue without
its ResourceFlavors are inactive, and admit nothing.

Symptom: the job stays suspended; "LocalQueue training doesn't exist" or "ClusterQueue is inactive: FlavorNotFound"

Wrong:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: finetune, namespace: ai, labels: {kueue.x-k8s.io/queue-name: training}}
    spec:
      suspend: true
      template:
        spec:
          restartPolicy: Never
          containers: [{name: train, image: "train:v1"}]

Right:

    apiVersion: batch/v1
    kind: Job
    metadata: {name: finetune, namespace: ai, labels: {kueue.x-k8s.io/queue-name: training}}
    spec:
      suspend: true
      template:
        spec:
          restartPolicy: Never
          containers: [{name: train, image: "train:v1"}]
    ---
    apiVersion: kueue.x-k8s.io/v1beta1
    kind: LocalQueue
    metadata: {name: training, namespace: ai}
    spec: {clusterQueue: gpus}
    ---
    apiVersion: kueue.x-k8s.io/v1beta1
    kind: ClusterQueue
    metadata: {name: gpus}
    spec:
      namespaceSelector: {}
      resourceGroups:
      - coveredResources: [nvidia.com/gpu]
        flavors: [{name: p5, resources: [{name: nvidia.com/gpu, nominalQuota: 16}]}]
    ---
    apiVersion: kueue.x-k8s.io/v1beta1
    kind: ResourceFlavor
    metadata: {name: p5}

Source: kubernetes-sigs/kueue site/content/en/docs/concepts/local_queue.md and cluster_queue.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing, named
from stoker.manifests.objects import sections

_QUEUE = "kueue.x-k8s.io/queue-name"
_GROUP = "kueue.x-k8s.io"


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.manifests:
        if _QUEUE in manifest.labels:
            name = manifest.labels[_QUEUE]
            reference = Reference(manifest, ("metadata", "labels", _QUEUE), name, str(manifest), manifest.namespace)
            yield from _missing(cluster, "LocalQueue", reference, "the job stays suspended")
    for queue in cluster.of("LocalQueue", group=_GROUP):
        for each in named(queue, ("spec", "clusterQueue")):
            yield from _missing(cluster, "ClusterQueue", each, "the queue is inactive")
    for queue in cluster.of("ClusterQueue", group=_GROUP):
        for i, group in sections(queue.get("spec", "resourceGroups")):
            for j, _ in sections(group.get("flavors")):
                for each in named(queue, ("spec", "resourceGroups", i, "flavors", j, "name")):
                    yield from _missing(cluster, "ResourceFlavor", each, "the queue is inactive")


def _missing(cluster: Cluster, kind: str, reference: Reference, consequence: str) -> Iterator[Problem]:
    hint = f"a {kind} of this name, or exists: [{kind} ...] in the config"
    like = ("LocalQueue", "ClusterQueue", "ResourceFlavor")
    yield from missing(cluster, kind, [reference], consequence, hint, like=like)


RULE = Rule("STK-MATCH-023", Severity.WARNING, "A queue or a flavor of Kueue is not there", check, __name__)
