"""Pod templates as shapes, pools as pools, and where they are."""

from dataclasses import asdict
from typing import Any

import pytest

from stoker.catalog.ec2 import instance_types
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.reading import read_text
from stoker.manifests.workloads import workloads_of
from stoker.policy.cluster import NodeTerm, PodShape, PodTerm, Spread
from stoker.policy.placement import pool_types
from stoker.policy.requirements import of_labels, requirement
from stoker.policy.volumes import Volume
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_platform import Platform, platform
from stoker.simulate.reading_pods import priorities, selector_of, shape_of
from stoker.simulate.reading_pools import places, read_pools
from stoker.simulate.scenario import Pool

CHAT = of_labels({"app": "chat"})
SELECTOR = {"matchLabels": {"app": "chat"}}
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def manifest(kind: str, **data: Any) -> Manifest:
    tree = {"kind": kind, "metadata": {"name": kind.lower()}, **data}
    return Manifest(tree, Document("a.yaml", 0, tree))


def shape(*others: Manifest, annotations: dict[str, str] | None = None, **spec: Any) -> PodShape:
    template = {"metadata": {"labels": {"app": "chat"}, "annotations": annotations or {}}, "spec": spec}
    one = manifest("Deployment", spec={"template": template})
    one.data["metadata"]["namespace"] = "ai"
    (workload,) = workloads_of(one)
    return shape_of(workload, priorities(others), ("ai", "other"))


def test_what_a_bare_pod_says() -> None:
    found = shape(containers=[{"name": "a", "resources": {"requests": {"cpu": "500m"}}}])
    assert (found.namespace, found.labels, found.owner) == ("ai", {"app": "chat"}, "Deployment ai/deployment")
    assert found.replica_set == found.owner
    assert (found.grace_s, found.do_not_disrupt, found.deletion_cost, found.may_preempt) == (30.0, False, 0, True)
    assert (dict(found.requests), found.priority) == ({"cpu": 500}, 0)
    assert (found.spread, found.affinity, found.anti_affinity, found.preferred) == ((), (), (), ())


def test_spread() -> None:
    lines = [
        {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": SELECTOR},
        {
            "maxSkew": 3, "topologyKey": HOST, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": SELECTOR,
            "minDomains": 2, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["app"],
        },
        {"maxSkew": 1, "topologyKey": ZONE},  # selects no pod, and so keeps none away
    ]  # fmt: skip
    assert shape(topologySpreadConstraints=lines).spread == (
        Spread(ZONE, 1, CHAT),
        Spread(HOST, 3, CHAT, False, 2, False, True),
    )


def test_affinity_to_pods_and_against_them() -> None:
    required = {"topologyKey": HOST, "labelSelector": SELECTOR}
    preferred = {"weight": 50, "podAffinityTerm": {**required, "namespaces": ["other"]}}
    every = {"topologyKey": ZONE, "labelSelector": {}, "namespaceSelector": {}}
    found = shape(
        affinity={
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [required, every]},
        }
    )
    assert found.affinity == (PodTerm(HOST, CHAT, ("other",), False, 50),)
    assert found.anti_affinity == (PodTerm(HOST, CHAT, ("ai",)), PodTerm(ZONE, {}, ("ai", "other")))


def test_preferred_nodes() -> None:
    line = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
    term = {"weight": 80, "preference": {"matchExpressions": [line]}}
    found = shape(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}})
    spot = requirement("karpenter.sh/capacity-type", "In", ["spot"])
    assert found.preferred == (NodeTerm({spot.key: spot}, 80),)


def test_selectors() -> None:
    lines = [{"key": "tier", "operator": "NotIn", "values": ["x"]}, {"key": "odd", "operator": "Like"}]
    assert selector_of({**SELECTOR, "matchExpressions": lines}) == {
        **CHAT,
        "tier": requirement("tier", "NotIn", ["x"]),
    }
    assert (selector_of({}), selector_of(None)) == ({}, None)


def test_annotations_and_grace() -> None:
    annotations = {"karpenter.sh/do-not-disrupt": "true", "controller.kubernetes.io/pod-deletion-cost": "-5"}
    found = shape(annotations=annotations, terminationGracePeriodSeconds=110)
    assert (found.do_not_disrupt, found.deletion_cost, found.grace_s) == (True, -5, 110.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"priorityClassName": "high"}, (1000, True)),
        ({"priorityClassName": "meek"}, (10, False)),
        ({"priorityClassName": "system-node-critical"}, (2_000_001_000, True)),
        ({"priorityClassName": "unknown"}, (0, True)),
        ({}, (7, True)),  # the default of the cluster
        ({"priority": 3, "priorityClassName": "high", "preemptionPolicy": "Never"}, (3, False)),
    ],
)
def test_priority_is_what_the_class_gives(spec: dict[str, Any], expected: tuple[int, bool]) -> None:
    classes = [
        manifest("PriorityClass", metadata={"name": "high"}, value=1000),
        manifest("PriorityClass", metadata={"name": "meek"}, value=10, preemptionPolicy="Never"),
        manifest("PriorityClass", metadata={"name": "usual"}, value=7, globalDefault=True),
    ]
    found = shape(*classes, **spec)
    assert (found.priority, found.may_preempt) == expected


# --- pools ------------------------------------------------------------------------------------------------------------


def pools(text: str, said: Platform | None = None) -> tuple[tuple[Pool, ...], Notes]:
    notes = Notes()
    return read_pools(read_text(text).manifests, said or Platform(), notes), notes


POOL = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu}
spec: {template: {spec: {nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}, requirements: []}}}
---
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: {name: gpu}
"""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("{}", Volume(), id="none is written"),
        pytest.param(
            "{blockDeviceMappings: [{ebs: {volumeSize: 500Gi, volumeType: gp3, iops: 16000, throughput: 1000}}]}",
            Volume(500, 1000, 16000),
            id="as written",
        ),
        pytest.param(
            "{blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 4Gi}}, {deviceName: /dev/xvdb, ebs: "
            "{volumeSize: 200Gi, snapshotID: snap-0123}}]}",
            Volume(200, has_images=True),
            id="Bottlerocket's second, of a snapshot",
        ),
        pytest.param(
            "{blockDeviceMappings: [{rootVolume: true, ebs: {volumeSize: 50Gi}}, {ebs: {volumeSize: 900Gi}}]}",
            Volume(50),
            id="the root",
        ),
        pytest.param("{instanceStorePolicy: RAID0}", Volume(uses_instance_store=True), id="local disks"),
        pytest.param("{userData: 'snapshotter: soci'}", Volume(has_images=True), id="images that are read lazily"),
    ],
)
def test_the_volume_that_images_are_unpacked_onto(spec: str, expected: Volume) -> None:
    (found,), _ = pools(f"{POOL}spec: {spec}\n")
    assert asdict(found.volume) == asdict(expected)


def test_a_class_that_is_not_in_sight_is_said() -> None:
    (found,), notes = pools(POOL.partition("---")[0])
    assert asdict(found.volume) == asdict(Volume())
    assert notes.lines() == ("NodePool gpu: its node class gpu is not in sight; defaults are taken",)


def test_auto_mode_by_its_pools_or_by_the_platform() -> None:
    auto = POOL.replace("karpenter.k8s.aws, kind: EC2NodeClass", "eks.amazonaws.com, kind: NodeClass").replace(
        "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass", "apiVersion: eks.amazonaws.com/v1\nkind: NodeClass"
    )
    found, _ = pools(auto + "spec: {ephemeralStorage: {size: 300Gi, iops: 4000, throughput: 500}}\n")
    assert [(each.view.name, each.is_auto_mode) for each in found] == [
        ("gpu", True),
        ("general-purpose", True),
        ("system", True),
    ]
    assert asdict(found[0].volume) == asdict(Volume(300, 500, 4000, uses_instance_store=True))
    assert asdict(found[1].volume) == asdict(Volume(80, uses_instance_store=True))
    assert found[1].view.capacity_types == ("on-demand",)
    assert found[1].disruption.expire_after_s == 336 * 3600
    assert [str(each) for each in found[2].view.taints] == ["CriticalAddonsOnly:NoSchedule"]
    assert len(pools(POOL, Platform(mode="hybrid"))[0]) == 3
    assert len(pools(POOL)[0]) == 1


def test_the_built_in_pools_have_types() -> None:
    found, _ = pools(POOL, Platform(mode="auto"))
    for pool in found[1:]:
        types = pool_types(pool.view, instance_types().values())
        assert {each.category for each in types} == {"c", "m", "r"}
        assert all(each.generation > 4 for each in types)


def in_zones(*zones: str) -> str:
    line = f"[{{key: topology.kubernetes.io/zone, operator: In, values: [{', '.join(zones)}]}}]"
    return POOL.replace("requirements: []", f"requirements: {line}")


@pytest.mark.parametrize(
    ("text", "said", "asked", "expected"),
    [
        (in_zones("eu-west-1b", "eu-west-1a"), Platform(), None, ("eu-west-1", ("eu-west-1a", "eu-west-1b"))),
        (POOL, Platform(region="eu-west-1", zones=("eu-west-1c",)), None, ("eu-west-1", ("eu-west-1c",))),
        (POOL, Platform(), None, ("us-east-1", ("us-east-1a", "us-east-1b", "us-east-1c"))),
        (in_zones("eu-west-1a"), Platform(), "us-east-2", ("us-east-2", ("us-east-2a", "us-east-2b", "us-east-2c"))),
    ],
)
def test_where_it_is(text: str, said: Platform, asked: str | None, expected: tuple[str, tuple[str, ...]]) -> None:
    found, notes = pools(text)
    assert places(found, read_text(text).manifests, said, asked, notes) == expected
    if asked:
        assert "the pools name zones of eu-west-1, and us-east-2 is simulated: they start no node" in notes.lines()


AS_DEAR = "of which nearly all are its own, too"
OF_OTHERS = "prices on demand of us-east-1 are taken for %s, commonly 5 to 35 %% less than its own"


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        (in_zones("us-east-1a"), None, []),
        (in_zones("eu-west-1a"), None, [OF_OTHERS % "eu-west-1"]),
        (POOL, "eu-west-1", [OF_OTHERS % "eu-west-1"]),
        (POOL, "us-west-2", [f"prices on demand of us-east-1 are taken for us-west-2, {AS_DEAR}"]),
        (in_zones("us-north-7a"), None, ["us-north-7 is no region that is known here", OF_OTHERS % "us-north-7"]),
        (in_zones("us-north-7a"), "us-east-1", ["us-north-7 is no region that is known here"]),
        (in_zones("us-east-1a", "us-north-7a"), "us-east-1", ["us-north-7 is no region that is known here"]),
        (in_zones("somewhere"), "us-east-1", ["somewhere is no name of a zone: nothing starts there"]),
    ],
)
def test_a_region_that_the_catalogue_does_not_have_is_said(text: str, asked: str | None, expected: list[str]) -> None:
    found, notes = pools(text)
    places(found, [], Platform(), asked, notes)
    told = [each for each in notes.lines() if "prices" in each or "known here" in each or "no name of" in each]
    assert told == expected


def test_the_types_without_a_price_of_their_region_are_counted() -> None:
    line = "[{key: node.kubernetes.io/instance-type, operator: In, values: [%s]}]"
    for types, some in (("m5.large", ""), ("m5.large, p5.48xlarge", " (1 of 2 types that its pools allow)")):
        found, notes = pools(POOL.replace("requirements: []", f"requirements: {line % types}"))
        places(found, [], Platform(), "us-gov-east-1", notes)
        told = [each for each in notes.lines() if "prices" in each]
        assert told == ([OF_OTHERS % f"us-gov-east-1{some}"] if some else [])


def test_stokers_own_config_map() -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: platform}
data:
  platform.yaml: |
    global: {cluster: {region: eu-west-1, zones: [eu-west-1a], mode: hybrid}}
    llm: {models: {chat: {limits: {concurrency: 6, contextTokens: 4096}}, code: {limits: {concurrency: null}}}}
    gateway: {defaultModel: general, routes: {general: chat}}
"""
    assert platform(read_text(text).manifests) == Platform(
        "eu-west-1", ("eu-west-1a",), "hybrid", "chat", {"chat": 6}, {"chat": 4096}
    )
    assert platform(read_text(text.replace("global:", "global: {")).manifests) == Platform()
    assert platform([]) == Platform()
