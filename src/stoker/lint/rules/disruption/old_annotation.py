"""An annotation that Karpenter no longer reads.

`karpenter.sh/do-not-evict` on pods and `karpenter.sh/do-not-consolidate` on nodes were the names of the alpha API.
Since v1beta1 it is `karpenter.sh/do-not-disrupt` for both, and the old ones protect nothing.

Symptom: a training pod is moved although it says that it must not be

Wrong:

    apiVersion: v1
    kind: Pod
    metadata:
      name: train
      annotations: {karpenter.sh/do-not-evict: "true"}
    spec:
      containers: [{name: train, image: "example.com/train:v1"}]

Right:

    apiVersion: v1
    kind: Pod
    metadata:
      name: train
      annotations: {karpenter.sh/do-not-disrupt: "true"}
    spec:
      containers: [{name: train, image: "example.com/train:v1"}]

Source: aws/karpenter-provider-aws@v0.37.8 website/content/en/docs/upgrading/v1beta1-migration.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import DO_NOT_DISRUPT
from stoker.manifests.edits import Edit, Rename
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path

_OLD = ("karpenter.sh/do-not-evict", "karpenter.sh/do-not-consolidate")


def check(cluster: Cluster) -> Iterator[Problem]:
    places: list[tuple[Manifest, Path]] = [(each.manifest, each.meta) for each in cluster.workloads]
    places += [(pool, ("spec", "template", "metadata")) for pool in cluster.of("NodePool", group="karpenter.sh")]
    for manifest, meta in places:
        annotations = manifest.get(*meta, "annotations", default={})
        for old in _OLD if isinstance(annotations, dict) else ():
            if old in annotations:
                path: Path = (*meta, "annotations", old)
                edits: tuple[Edit, ...] = () if DO_NOT_DISRUPT in annotations else (Rename(path, DO_NOT_DISRUPT),)
                yield Problem(
                    manifest,
                    path,
                    f"{old} is not read since Karpenter v1beta1, so it protects nothing",
                    hint=f'{DO_NOT_DISRUPT}: "true"',
                    key=True,
                    edits=edits,
                )


RULE = Rule("STK-DISRUPTION-007", Severity.WARNING, "An annotation that Karpenter no longer reads", check, __name__)
