"""A volume that EC2 does not make.

A gp3 volume has 3000 IOPS and 125 MiB/s at any size, and at most 500 IOPS for each GiB, 80000 in all, and a quarter
MiB/s for each IOPS, 2000 in all. io1 goes to 50 IOPS for each GiB, io2 to 1000. The other kinds take no IOPS. EC2
refuses more, and no node is launched.

Symptom: InvalidParameterCombination: Iops to volume size ratio is too high
Symptom: NodeClaims are made and deleted again without a node

Wrong:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      blockDeviceMappings:
      - deviceName: /dev/xvda
        ebs: {volumeSize: 20Gi, volumeType: gp3, iops: 16000, encrypted: true}

Right:

    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: serving}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: nodes
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      blockDeviceMappings:
      - deviceName: /dev/xvda
        ebs: {volumeSize: 500Gi, volumeType: gp3, iops: 16000, throughput: 1000, encrypted: true}

Source: EBS documentation, general purpose and provisioned IOPS volumes
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import node_classes
from stoker.manifests.objects import sections, whole
from stoker.manifests.quantities import bytes_of

_MAPPINGS = ("spec", "blockDeviceMappings")
_PER_GIB = {"gp3": 500, "io1": 50, "io2": 1000}
_MOST = {"gp3": 80_000, "io1": 64_000, "io2": 256_000}
_BASE_IOPS, _BASE_MIBPS, _MOST_MIBPS = 3000, 125, 2000  # of gp3


def check(cluster: Cluster) -> Iterator[Problem]:
    for each in node_classes(cluster):
        for i, mapping in sections(each.get(*_MAPPINGS)):
            ebs = mapping.get("ebs")
            kind = ebs.get("volumeType") if isinstance(ebs, dict) else None
            if isinstance(ebs, dict) and isinstance(kind, str):
                for field, message, hint in _faults(ebs, kind):
                    yield Problem(each, (*_MAPPINGS, i, "ebs", field), f"{message}: no node is launched", hint=hint)


def _faults(ebs: dict[str, Any], kind: str) -> Iterator[tuple[str, str, str]]:
    """Field, what is wrong with it, what would be right."""
    iops, throughput, gib = whole(ebs.get("iops")), whole(ebs.get("throughput")), _gib(ebs.get("volumeSize"))
    if iops is not None and kind not in _PER_GIB:
        yield "iops", f"{kind} takes no iops", "volumeType: gp3"
    elif iops is not None:
        least = _BASE_IOPS if kind == "gp3" else 100
        most = min(_MOST[kind], max(least, _PER_GIB[kind] * gib)) if gib is not None else _MOST[kind]
        if iops > most:
            of = f" of {gib} GiB" if gib is not None else ""
            yield "iops", f"{iops} iops are more than a {kind} volume{of} can have ({most})", f"iops: {most} at most"
        elif iops < least:
            yield "iops", f"{iops} iops are fewer than a {kind} volume has ({least})", f"iops: {least} at least"
    if throughput is not None and kind != "gp3":
        yield "throughput", f"{kind} takes no throughput", "volumeType: gp3"
    elif throughput is not None:
        most = max(_BASE_MIBPS, min(_MOST_MIBPS, (iops if iops is not None else _BASE_IOPS) // 4))
        if throughput > most:
            yield (
                "throughput",
                f"{throughput} MiB/s need {throughput * 4} iops of gp3, and {iops or _BASE_IOPS} allow {most} MiB/s",
                f"throughput: {most} at most",
            )
        elif throughput < _BASE_MIBPS:
            yield "throughput", f"{throughput} MiB/s are fewer than gp3 has (125)", "throughput: 125 at least"


def _gib(size: Any) -> int | None:
    try:
        return bytes_of(size) // 2**30
    except ValueError:
        return None


RULE = Rule("STK-KARPENTER-049", Severity.ERROR, "A volume that EC2 does not make", check, __name__, guide=("W10",))
