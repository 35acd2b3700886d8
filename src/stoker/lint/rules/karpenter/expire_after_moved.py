"""expireAfter stands where v1 does not know it.

v1 moved `expireAfter` from `spec.disruption` to `spec.template.spec`, where it is a property of each node. In the old
place it is an unknown field: a strict apply refuses the pool, any other drops it, and nodes expire after 720h.

Symptom: strict decoding error: unknown field "spec.disruption.expireAfter"
Symptom: nodes are replaced after 30 days although expireAfter says Never

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      disruption:
        consolidateAfter: 30s
        expireAfter: 240h

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
          expireAfter: 240h
      disruption:
        consolidateAfter: 30s

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: Karpenter documentation, v1 migration
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import DISRUPTION, NODE, pools, seconds, section
from stoker.manifests.edits import Add, Edit, Remove
from stoker.manifests.objects import Manifest

_OLD = (*DISRUPTION, "expireAfter")
_NEW = (*NODE, "expireAfter")


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        if "expireAfter" not in section(pool, *DISRUPTION):
            continue
        after = pool.get(*_OLD)
        yield Problem(
            pool,
            _OLD,
            f"v1 has no disruption.expireAfter: {after} is refused, or dropped for the default of 720h",
            hint=f"spec.template.spec.expireAfter: {after}",
            key=True,
            edits=_edits(pool),
        )


def _edits(pool: Manifest) -> tuple[Edit, ...]:
    """Moves the value. Not where there is nowhere to move it to, nor where two places say two things."""
    old, new, node = pool.get(*_OLD), pool.get(*_NEW), section(pool, *NODE)
    if (old != "Never" and seconds(old) is None) or not node or new not in (None, old):
        return ()
    alone = len(section(pool, *DISRUPTION)) == 1
    removed = Remove(DISRUPTION if alone else _OLD)
    return (removed,) if "expireAfter" in node else (removed, Add(_NEW, old, *_comments(pool)))


def _comments(pool: Manifest) -> tuple[str, tuple[str, ...]]:
    """The comments beside the old place and directly above it, which go along."""
    comments, line = pool.document.comments, pool.where(_OLD, key=True).line
    taken = {position.line for places in (pool.document.keys, pool.document.values) for position in places.values()}
    first = line
    while first - 1 in comments and first - 1 not in taken:
        first -= 1
    return comments.get(line, ""), tuple(comments[each] for each in range(first, line))


RULE = Rule("STK-KARPENTER-005", Severity.ERROR, "expireAfter in its old place", check, __name__, guide=("E03",))
