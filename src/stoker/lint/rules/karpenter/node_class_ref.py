"""nodeClassRef does not say which kind of node class it means.

v1 requires `group`, `kind` and `name`. v1beta1 took `name` alone and had an optional `apiVersion`, of which the group
remains.

Symptom: spec.template.spec.nodeClassRef.group: Required value

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: Karpenter documentation, v1 migration
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import AWS, NODE, pools
from stoker.manifests.edits import Add, Remove

_PATH = (*NODE, "nodeClassRef")
_GROUPS = {"EC2NodeClass": AWS, "NodeClass": "eks.amazonaws.com", "AKSNodeClass": "karpenter.azure.com"}
_KINDS = {group: kind for kind, group in _GROUPS.items()}


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        ref = pool.get(*_PATH)
        if not isinstance(ref, dict):
            continue
        group, kind = _meant(ref)
        if "apiVersion" in ref:
            yield Problem(
                pool,
                (*_PATH, "apiVersion"),
                "v1 has no nodeClassRef.apiVersion: the pool is refused",
                hint=f"group: {group}" if group else "group, without the version",
                key=True,
                edits=(Remove((*_PATH, "apiVersion")),) if group else (),
            )
        for name, value in (("group", group), ("kind", kind)):
            if name not in ref:
                yield Problem(
                    pool,
                    (*_PATH, name),
                    f"v1 requires nodeClassRef.{name}: the pool is refused",
                    hint=f"{name}: {value}" if value else f"{name} of the node class",
                    edits=(Add((*_PATH, name), value),) if value else (),
                )


def _meant(ref: dict[str, Any]) -> tuple[str, str]:
    """Group and kind; empty where it is not clear what is meant. A name alone is that of an EC2NodeClass."""
    old = ref.get("apiVersion")
    said = ref.get("group", old.partition("/")[0] if isinstance(old, str) and "/" in old else None)
    kind = ref.get("kind")
    if not isinstance(kind, str):
        kind = _KINDS.get(said or AWS, "") if isinstance(said, str | None) else ""
    group = said if isinstance(said, str) and said else _GROUPS.get(kind, "")
    return group, kind


RULE = Rule("STK-KARPENTER-006", Severity.ERROR, "nodeClassRef without group and kind", check, __name__, guide=("E04",))
