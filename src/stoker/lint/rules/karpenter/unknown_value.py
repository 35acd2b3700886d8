"""A requirement names a value that none of the pool's instance types has.

It does no harm as long as other values are left, but somebody thought that such types exist: no g5, g6, p4d or p5 has
two GPUs, and `x86_64` is called `amd64`. A family that is newer than this catalogue is named here, too.

Symptom: nodes with two GPUs never come
Symptom: no instance type satisfied resources and requirements

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
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["1", "2"]}

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
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["1", "4"]}

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/instance-types.md
"""

import re
from collections.abc import Iterator

from stoker.catalog import ec2
from stoker.catalog.labels import ARCH, CAPACITY_TYPE, CAPACITY_TYPES, INSTANCE_TYPE, OF_TYPES, OS, labels_of
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import Line, is_known, is_on_aws, lines_of, listed, pools, types_of, view_of
from stoker.manifests.objects import Manifest, is_open
from stoker.policy.placement import NodePoolView, pool_types

_WITH_DEVICES = re.compile(r"(?:g|gr|p|inf|trn)\d")
"""Families with GPUs or Neuron devices: of these the catalogue has all."""
_CLOSED = {CAPACITY_TYPE: CAPACITY_TYPES, ARCH: ("amd64", "arm64"), OS: ("linux", "windows")}
"""Labels whose values are all known: another one is a mistake, and no news of AWS."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        lines = [each for each in lines_of(pool) if each.operator == "In" and is_on_aws(pool)]
        for line in lines:
            if any(is_open(pool, value) for value in line.values):
                continue
            if line.key in _CLOSED:
                yield from _closed(pool, line)
            elif line.key in OF_TYPES[view_of(pool).domain]:
                yield from _of_types(pool, line)


def _closed(pool: Manifest, line: Line) -> Iterator[Problem]:
    known = _CLOSED[line.key]
    for value in line.values:
        if value not in known:
            yield Problem(
                pool,
                (*line.path, "values", line.values.index(value)),
                f"no node has {line.key} {value}: the value allows nothing",
                hint=", ".join(known),
                severity=Severity.WARNING,
            )


def _of_types(pool: Manifest, line: Line) -> Iterator[Problem]:
    view = view_of(pool)
    if line.key in (INSTANCE_TYPE, f"{view.domain}/instance-family"):
        known = ec2.instance_types().keys() if line.key == INSTANCE_TYPE else ec2.families()
        for i, value in enumerate(line.values):
            if value not in known and _WITH_DEVICES.match(value):
                yield _problem(pool, line, i, "that is known here", "a newer one may be missing from this catalogue")
    if not is_known(pool) or {labels_of(each, view.domain).get(line.key) for each in types_of(pool)}.issuperset(
        line.values
    ):
        return
    there = _values(line.key, _without(view, line.key))
    if not there.intersection(line.values):
        return  # nothing is left: that is said of the pool as a whole
    right = f"there are {listed(sorted(there, key=_in_order), 8)}"
    for i, value in enumerate(line.values):
        if value not in there:
            yield _problem(pool, line, i, "that the pool's other requirements leave", right)


def _problem(pool: Manifest, line: Line, i: int, which: str, hint: str) -> Problem:
    return Problem(
        pool, (*line.path, "values", i), f"no instance type {which} has {line.key} {line.values[i]}", hint=hint
    )


def _without(view: NodePoolView, key: str) -> NodePoolView:
    asked = {name: each for name, each in view.requirements.items() if name != key}
    labels = {name: each for name, each in view.labels.items() if name != key}
    return NodePoolView(name=view.name, requirements=asked, labels=labels, domain=view.domain)


def _values(key: str, view: NodePoolView) -> set[str]:
    types = pool_types(view, ec2.instance_types().values())
    return {found for each in types if (found := labels_of(each, view.domain).get(key)) is not None}


def _in_order(value: str) -> tuple[int, str]:
    return (int(value) if value.isdecimal() and value.isascii() else 0, value)


RULE = Rule("STK-KARPENTER-020", Severity.INFO, "A value that no type has", check, __name__, guide=("F05",))
