"""An annotation, label or taint of Karpenter that is gone.

v1 dropped `karpenter.sh/do-not-evict` and `do-not-consolidate`, and marks nodes that it removes with another taint.
What is written for the old names has no effect: a pod that is to be left alone is evicted.

Symptom: a pod with do-not-evict is evicted when its node is consolidated
Symptom: a pod with nodeSelector karpenter.sh/provisioner-name stays Pending

Wrong:

    apiVersion: v1
    kind: Pod
    metadata:
      name: train
      annotations: {karpenter.sh/do-not-evict: "true"}
    spec:
      containers:
      - {name: train, image: "example.com/train:1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata:
      name: train
      annotations: {karpenter.sh/do-not-disrupt: "true"}
    spec:
      containers:
      - {name: train, image: "example.com/train:1"}

Source: Karpenter documentation, v1 migration: breaking changes of the API
Source: Karpenter documentation, v1beta1 migration: provisioner-name became nodepool
"""

import re
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import TEMPLATE, pools
from stoker.manifests.edits import Edit, Remove, Rename
from stoker.manifests.objects import Manifest, sections
from stoker.spec.faults import Path

_ANNOTATIONS = ("karpenter.sh/do-not-evict", "karpenter.sh/do-not-consolidate")
_DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
_PROVISIONER, _NODE_POOL = "karpenter.sh/provisioner-name", "karpenter.sh/nodepool"
_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_OLD_TAINT, _TAINT = "karpenter.sh/disruption", "karpenter.sh/disrupted"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        yield from _annotations(workload.manifest, (*workload.meta, "annotations"))
        selector = workload.spec.get("nodeSelector")
        if isinstance(selector, dict) and _PROVISIONER in selector:
            path = (*workload.path, "nodeSelector", _PROVISIONER)
            yield Problem(
                workload.manifest,
                path,
                f"no node has the label {_PROVISIONER}: the pod is never scheduled",
                hint=f"{_NODE_POOL}: {selector[_PROVISIONER]}",
                key=True,
                severity=Severity.ERROR,
                edits=_renamed(selector, path, _NODE_POOL),
            )
        for i, each in sections(workload.spec.get("tolerations")):
            if each.get("key") == _OLD_TAINT:
                yield Problem(
                    workload.manifest,
                    (*workload.path, "tolerations", i, "key"),
                    f"Karpenter marks nodes that it removes with {_TAINT}: this toleration covers nothing",
                    hint=f"{_TAINT}, without a value; a pod that tolerates it is not moved before its node goes",
                )
    for pool in pools(cluster):
        yield from _annotations(pool, (*TEMPLATE, "metadata", "annotations"))


def _annotations(manifest: Manifest, path: Path) -> Iterator[Problem]:
    written = manifest.get(*path)
    for name in _ANNOTATIONS if isinstance(written, dict) else ():
        if name in written:
            yield Problem(
                manifest,
                (*path, name),
                f"Karpenter 1 does not know {name}: it protects nothing",
                hint=f'{_DO_NOT_DISRUPT}: "true"',
                key=True,
                edits=_renamed(written, (*path, name), _DO_NOT_DISRUPT),
            )


def _renamed(written: dict[Any, Any], path: Path, name: str) -> tuple[Edit, ...]:
    value = written.get(path[-1])
    if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
        return ()  # what is no value under the old name is none under the new one
    # Of two old annotations the first is renamed.
    first = next((each for each in _ANNOTATIONS if each in written), None)
    return (Remove(path),) if name in written or path[-1] != (first or path[-1]) else (Rename(path, name),)


RULE = Rule("STK-KARPENTER-014", Severity.WARNING, "Names of Karpenter that are gone", check, __name__)
