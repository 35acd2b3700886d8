"""Whether a pod fits a pool, and what stands in the way. Allocatable is that of the catalogue."""

from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.catalog.ec2 import instance_types
from stoker.catalog.labels import AUTO_MODE
from stoker.policy.placement import (
    Blocker,
    NodePoolView,
    PodView,
    Reach,
    _fill,
    allocatable_of,
    daemon_overhead,
    how_many,
    most_pods,
    place,
    pool_types,
    reachable,
    runs_on,
)
from stoker.policy.requirements import Requirement, Requirements, all_of, of_labels, requirement
from stoker.policy.taints import Taint, Toleration

TYPES = instance_types().values()
MI, GI = 1024**2, 1024**3
INSTANCE = "karpenter.k8s.aws/instance-"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
GPU_TAINT = Taint("nvidia.com/gpu", "true")
TOLERATES_GPU = (Toleration("nvidia.com/gpu", "Exists"),)


def asked(**wanted: list[str]) -> Requirements:
    """`family=["g5"]` as a pool writes it."""
    return all_of(requirement(INSTANCE + key.replace("_", "-"), "In", values) for key, values in wanted.items())


def pool(requirements: Requirements, **rest: object) -> NodePoolView:
    return NodePoolView("gpu", requirements, **rest)  # type: ignore[arg-type]


def pod(cpu: float, memory_gi: float, gpus: int = 0, **rest: object) -> PodView:
    requests = {"cpu": int(cpu * 1000), "memory": int(memory_gi * GI)}
    return PodView("llm", requests=requests | ({"nvidia.com/gpu": gpus} if gpus else {}), **rest)  # type: ignore[arg-type]


# -- size --


def test_allocatable_decides_and_not_the_nominal_size() -> None:
    """8 CPUs and 32Gi are what a g5.2xlarge is sold with, and more than pods can have of it."""
    found = place(pod(8, 32, 1), pool(asked(family=["g5"], size=["2xlarge"])), TYPES)
    assert not found.is_possible
    assert found.against_pool == ()
    assert found.against_type == {
        "g5.2xlarge": (
            Blocker("cpu", "cpu", 8000, 7910),
            Blocker("memory", "memory", 32 * GI, 29317 * MI),
        )
    }
    assert found.closest == ("g5.2xlarge", found.against_type["g5.2xlarge"])
    assert found.nearest_in_families is instance_types()["g5.4xlarge"]
    assert found.nearest is instance_types()["g4dn.4xlarge"]


def test_it_fits_to_the_last_thousandth() -> None:
    only = pool(asked(family=["g5"], size=["2xlarge"]))
    full = PodView(requests={"cpu": 7910, "memory": 29317 * MI, "nvidia.com/gpu": 1})
    assert place(full, only, TYPES).types == ("g5.2xlarge",)
    assert not place(PodView(requests={"cpu": 7911}), only, TYPES).is_possible
    assert not place(PodView(requests={"memory": 29317 * MI + 1}), only, TYPES).is_possible


def test_a_training_pod_fits_only_the_largest() -> None:
    """96 CPUs are more than the 95.69 of a p4d.24xlarge; a g5.48xlarge lacks memory."""
    training = pool(asked(family=["p4d", "p5", "g5"], size=["12xlarge", "24xlarge", "48xlarge"]))
    found = place(pod(96, 1000, 8), training, TYPES)
    assert found.types == ("p5.48xlarge",)
    assert found.against_type["p4d.24xlarge"] == (Blocker("cpu", "cpu", 96000, 95690),)
    assert found.against_type["g5.48xlarge"] == (Blocker("memory", "memory", 1000 * GI, 723299 * MI),)
    assert found.against_type["g5.24xlarge"][-1] == Blocker("gpu", "nvidia.com/gpu", 8, 4)
    assert place(pod(90, 1000, 8), training, TYPES).types == ("p4d.24xlarge", "p5.48xlarge")
    assert found.closest is None


def test_types_are_in_the_order_of_their_price() -> None:
    """xlarge is too small for 6 CPUs and 24Gi, whatever a comment says of it."""
    found = place(pod(6, 24, 1), pool(asked(family=["g5", "g6"], size=["xlarge", "2xlarge"])), TYPES)
    assert found.types == ("g6.2xlarge", "g5.2xlarge")
    assert found.counted == (("cpu", "cpu", 2), ("memory", "memory", 2))


def test_daemons_take_their_part() -> None:
    only = pool(asked(family=["g5"], size=["2xlarge"]))
    taken = {"cpu": 200, "memory": 512 * MI, "pods": 3}
    assert place(pod(7.71, 28, 1), only, TYPES, taken).types == ("g5.2xlarge",)
    found = place(pod(7.711, 28, 1), only, TYPES, taken)
    assert found.against_type["g5.2xlarge"] == (Blocker("cpu", "cpu", 7711, 7710),)


def test_pods_are_counted_too() -> None:
    only = pool(asked(family=["g5"], size=["2xlarge"]), max_pods=4)
    assert place(pod(1, 1), only, TYPES, {"pods": 3}).is_possible
    assert place(pod(1, 1), only, TYPES, {"pods": 4}).against_type["g5.2xlarge"] == (Blocker("pods", "pods", 1, 0),)


def test_devices_that_a_type_does_not_have() -> None:
    efa = PodView(requests={"vpc.amazonaws.com/efa": 4})
    found = place(efa, pool(asked(family=["g5", "p4d"], size=["2xlarge", "24xlarge"])), TYPES)
    assert found.types == ("p4d.24xlarge",)
    assert found.against_type["g5.24xlarge"] == (Blocker("efa", "vpc.amazonaws.com/efa", 4, 1),)
    slices = place(PodView(requests={"nvidia.com/mig-1g.5gb": 1}), pool(asked(family=["p4d"])), TYPES)
    assert slices.against_type["p4d.24xlarge"] == (Blocker("resource", "nvidia.com/mig-1g.5gb", 1, 0),)
    assert slices.nearest is None


def test_a_request_for_none_of_a_device_fits_where_there_is_none() -> None:
    assert place(PodView(requests={"nvidia.com/gpu": 0}), pool(asked(family=["m5"], size=["large"])), TYPES).is_possible


def test_what_cannot_be_known_is_taken_to_be_there() -> None:
    wants = PodView(requests={"hugepages-2Mi": 5 * GI, "ephemeral-storage": 200 * GI, "cpu": 1000})
    found = place(wants, pool(asked(family=["p4d"])), TYPES)
    assert found.is_possible
    assert found.unjudged == ("hugepages-2Mi", "ephemeral-storage")
    known = place(wants, pool(asked(family=["p4d"]), storage_bytes=100 * GI), TYPES)
    assert known.unjudged == ("hugepages-2Mi",)
    assert known.against_type["p4d.24xlarge"] == (Blocker("storage", "ephemeral-storage", 200 * GI, 100 * GI),)


# -- labels --


def test_a_template_label_leaves_only_its_value() -> None:
    both_kinds = {CAPACITY_TYPE: requirement(CAPACITY_TYPE, "In", ["spot", "on-demand"])}
    labelled = pool(both_kinds, labels={CAPACITY_TYPE: "spot"})
    assert labelled.capacity_types == ("spot",)
    assert pool(both_kinds).capacity_types == ("on-demand", "spot")
    on_demand = PodView(requirements=(of_labels({CAPACITY_TYPE: "on-demand"}),))
    assert place(on_demand, labelled, TYPES).against_pool == (
        Blocker("capacity-type", CAPACITY_TYPE, "on-demand", "spot"),
    )
    assert place(on_demand, pool(both_kinds), TYPES).is_possible


def test_a_label_that_contradicts_the_requirement_leaves_nothing() -> None:
    broken = pool({CAPACITY_TYPE: requirement(CAPACITY_TYPE, "In", ["on-demand"])}, labels={CAPACITY_TYPE: "spot"})
    assert broken.contradictions == (CAPACITY_TYPE,)
    found = place(pod(1, 1), broken, TYPES)
    assert found.against_pool == (Blocker("pool", CAPACITY_TYPE, "on-demand", "spot"),)
    assert found.counted == (("pool", CAPACITY_TYPE, 1),)


@pytest.mark.parametrize(
    ("wanted", "blocker"),
    [
        (requirement("workload-type", "In", ["llm"]), None),
        (requirement("workload-type", "Exists"), None),
        (requirement("workload-type", "In", ["x"]), Blocker("label", "workload-type", "x", "llm")),
        (requirement("workload-type", "DoesNotExist"), Blocker("label", "workload-type", "no such label", "llm")),
        (requirement("team", "In", ["a"]), Blocker("label", "team", "a", "")),
        (requirement("team", "Exists"), Blocker("label", "team", "any value", "")),
        (requirement("team", "NotIn", ["a"]), None),
        (requirement("team", "DoesNotExist"), None),
        (requirement("karpenter.sh/nodepool", "In", ["gpu"]), None),
        (requirement("karpenter.sh/nodepool", "In", ["cpu"]), Blocker("label", "karpenter.sh/nodepool", "cpu", "gpu")),
        (requirement("topology.kubernetes.io/zone", "In", ["us-west-2a"]), None),
        (
            requirement("topology.kubernetes.io/zone", "In", ["us-west-2c"]),
            Blocker("zone", "topology.kubernetes.io/zone", "us-west-2c", "us-west-2a or us-west-2b"),
        ),
        (requirement("kubernetes.io/hostname", "In", ["ip-1"]), Blocker("label", "kubernetes.io/hostname", "ip-1", "")),
        (requirement(INSTANCE + "tenancy", "In", ["default"]), None),
    ],
)
def test_a_label_that_the_pod_wants(wanted: Requirement, blocker: Blocker | None) -> None:
    zone = requirement("topology.kubernetes.io/zone", "In", ["us-west-2a", "us-west-2b"])
    labelled = pool({**asked(family=["g5"]), zone.key: zone}, labels={"workload-type": "llm"})
    found = place(pod(1, 1, requirements=({wanted.key: wanted},)), labelled, TYPES)
    assert found.against_pool == ((blocker,) if blocker else ())
    assert found.is_possible is (blocker is None)


def test_labels_of_types_are_told_type_by_type() -> None:
    arm = pod(1, 1, requirements=(of_labels({"kubernetes.io/arch": "arm64"}),))
    found = place(arm, pool(asked(family=["g5", "g5g"], size=["xlarge"])), TYPES)
    assert found.types == ("g5g.xlarge",)
    assert found.against_type["g5.xlarge"] == (Blocker("arch", "kubernetes.io/arch", "arm64", "amd64"),)
    wide = pod(1, 1, requirements=({INSTANCE + "gpu-memory": requirement(INSTANCE + "gpu-memory", "Gt", ["40000"])},))
    found = place(wide, pool(asked(family=["g5", "g6e", "m5"], size=["xlarge"])), TYPES)
    assert found.types == ("g6e.xlarge",)
    assert found.against_type["m5.xlarge"] == (Blocker("label", INSTANCE + "gpu-memory", "above 40000", ""),)


def test_one_alternative_is_enough() -> None:
    either = pod(1, 1, requirements=(of_labels({"team": "a"}), of_labels({"team": "b"})))
    assert place(either, pool({}, labels={"team": "b"}), TYPES).is_possible
    assert place(either, pool({}, labels={"team": "c"}), TYPES).against_pool == (Blocker("label", "team", "a", "c"),)
    nowhere = place(pod(1, 1, requirements=()), pool({}), TYPES)
    assert [each.kind for each in nowhere.against_pool] == ["affinity"]


def test_a_pool_of_no_type() -> None:
    """No type of g5 has two GPUs."""
    found = place(pod(1, 1), pool(asked(family=["g5"], gpu_count=["2"])), TYPES)
    assert [(each.kind, each.key) for each in found.against_pool] == [("pool", "")]
    assert found.against_type == {}
    assert found.closest is None


def test_auto_mode_has_labels_of_its_own() -> None:
    key = "eks.amazonaws.com/instance-family"
    auto = pool({key: requirement(key, "In", ["g6"])}, domain=AUTO_MODE)
    assert {each.family for each in pool_types(auto, TYPES)} == {"g6"}
    assert place(pod(1, 1, requirements=(of_labels({key: "g6"}),)), auto, TYPES).is_possible
    karpenters = place(pod(1, 1, requirements=(of_labels({INSTANCE + "family": "g6"}),)), auto, TYPES)
    assert karpenters.against_pool == (Blocker("label", INSTANCE + "family", "g6", ""),)


def test_linux_unless_the_pool_asks_for_another_system() -> None:
    windows = pod(1, 1, requirements=(of_labels({"kubernetes.io/os": "windows"}),))
    found = place(windows, pool(asked(family=["m5"], size=["large"])), TYPES)
    assert found.against_type["m5.large"] == (Blocker("label", "kubernetes.io/os", "windows", "linux"),)
    of_windows = {**asked(family=["m5"]), **of_labels({"kubernetes.io/os": "windows"})}
    assert place(windows, pool(of_windows), TYPES).is_possible


def test_min_values_need_that_many_among_the_types_that_fit() -> None:
    key = INSTANCE + "family"
    insists = pool(asked(family=["g5", "g6", "m5"]), min_values={key: 3})
    assert place(pod(1, 1), insists, TYPES).is_possible
    assert place(pod(1, 1, 1), insists, TYPES).against_pool == (Blocker("min-values", key, 3, 2),)


def test_a_pod_that_contradicts_itself_fits_nowhere() -> None:
    zone = "topology.kubernetes.io/zone"
    nowhere = requirement(zone, "In", ["us-west-2a"]).intersect(requirement(zone, "In", ["us-west-2b"]))
    found = place(pod(1, 1, requirements=({zone: nowhere},)), pool({}), TYPES)
    assert found.against_pool == (Blocker("zone", zone, "nothing", ""),)


# -- taints --


def test_a_taint_keeps_the_pod_off_every_type() -> None:
    tainted = pool(asked(family=["g5"], size=["xlarge", "2xlarge"]), taints=(GPU_TAINT, Taint("workload-type", "llm")))
    found = place(pod(1, 1, 1, tolerations=TOLERATES_GPU), tainted, TYPES)
    assert found.against_pool == (Blocker("taint", "workload-type", "", "workload-type=llm:NoSchedule"),)
    assert found.counted == (("taint", "workload-type", 2),)
    assert set(found.against_type.values()) == {()}
    assert not found.is_possible


# -- the type that would do --


def test_the_nearest_type_keeps_what_the_software_needs() -> None:
    """An arm64 type is cheaper, and another GPU would be; the pool asks for amd64 and A10G."""
    of_a10g = {**asked(gpu_name=["a10g"], size=["2xlarge"]), **of_labels({"kubernetes.io/arch": "amd64"})}
    found = place(pod(8, 32, 1), pool(of_a10g), TYPES)
    assert found.nearest is instance_types()["g5.4xlarge"]


@pytest.mark.parametrize(
    ("family", "name"), [(["m7g"], "c7g.xlarge"), (["m5"], "t3.xlarge"), (["m5", "m7g"], "c7g.xlarge")]
)
def test_the_nearest_type_is_of_an_arch_that_the_pool_has(family: list[str], name: str) -> None:
    found = place(pod(3, 4), pool(asked(family=family, size=["large"])), TYPES)
    assert found.nearest is instance_types()[name]


def test_the_nearest_type_is_of_the_arch_that_an_empty_pool_asks_for() -> None:
    of_amd64 = {**asked(family=["m99"]), **of_labels({"kubernetes.io/arch": "amd64"})}
    assert place(pod(3, 4), pool(of_amd64), TYPES).nearest is instance_types()["t3.xlarge"]


def test_the_nearest_type_has_room_for_the_daemons_too() -> None:
    found = place(pod(7.9, 20, 1), pool(asked(family=["g5"], size=["2xlarge"])), TYPES, {"cpu": 8000})
    assert found.nearest_in_families is instance_types()["g5.8xlarge"]


def test_the_closest_type_is_the_one_with_the_fewest_things_against_it() -> None:
    """Among equally many, the one that lacks the smallest part; a p4d.24xlarge lacks half the CPUs, and only those."""
    found = place(pod(194, 100, 9), pool(asked(family=["g5"], size=["24xlarge", "48xlarge"])), TYPES)
    assert found.closest is not None
    assert found.closest[0] == "g5.48xlarge"
    by_count = place(pod(192, 1000, 8), pool(asked(family=["g5", "p4d"], size=["48xlarge", "24xlarge"])), TYPES)
    assert by_count.closest == ("p4d.24xlarge", (Blocker("cpu", "cpu", 192_000, 95_690),))


def test_the_nearest_type_is_looked_for_past_a_pin_of_the_pod() -> None:
    pinned = of_labels({"node.kubernetes.io/instance-type": "g5.2xlarge"})
    found = place(pod(8, 32, 1, requirements=(pinned,)), pool(asked(family=["g5"])), TYPES)
    assert not found.is_possible
    assert found.nearest_in_families is instance_types()["g5.4xlarge"]


def test_nothing_is_near_when_no_machine_is_large_enough() -> None:
    found = place(pod(1000, 1), pool(asked(family=["g5"])), TYPES)
    assert (found.nearest, found.nearest_in_families) == (None, None)


# -- daemons --


def test_daemons_that_run_on_the_pool_are_counted() -> None:
    tainted = pool(asked(family=["g5"]), taints=(GPU_TAINT,), labels={"tier": "gpu"})
    exporter = PodView("exporter", requests={"cpu": 100, "memory": 128 * MI}, tolerations=TOLERATES_GPU)
    agent = PodView("agent", requests={"cpu": 50}, tolerations=(Toleration(operator="Exists"),))
    untolerant = PodView("untolerant", requests={"cpu": 1000})
    elsewhere = PodView("elsewhere", (of_labels({"tier": "web"}),), TOLERATES_GPU, {"cpu": 1000})
    assert daemon_overhead(tainted, [exporter, agent, untolerant, elsewhere]) == {
        "cpu": 150,
        "memory": 128 * MI,
        "pods": 2,
    }
    assert daemon_overhead(tainted, [untolerant]) == {}
    assert [runs_on(each, tainted) for each in (exporter, untolerant, elsewhere)] == [True, False, False]


# -- limits --


def test_one_node_may_be_more_than_the_limit() -> None:
    limited = pool(asked(family=["p5"], size=["48xlarge"]), limits={"nvidia.com/gpu": 4, "cpu": 192_000})
    assert place(pod(1, 1, 1), limited, TYPES).against_type["p5.48xlarge"] == (
        Blocker("limit", "nvidia.com/gpu", 8, 4),
    )


def test_limits_that_contradict_one_another() -> None:
    """128 GPUs are promised; 16000Gi of memory stop a pool of p4d at 104, and one of p5.48xlarge at 56."""
    training = pool(
        asked(family=["p4d", "p5"], size=["24xlarge", "48xlarge"]),
        limits={"cpu": 4_000_000, "memory": 16000 * GI, "nvidia.com/gpu": 128},
    )
    p4d, p5 = reachable(training, TYPES)
    assert p4d == Reach("p4d.24xlarge", {"cpu": 41, "memory": 13, "nvidia.com/gpu": 16}, nodes=13, gpus=104)
    assert p5 == Reach("p5.48xlarge", {"cpu": 20, "memory": 7, "nvidia.com/gpu": 16}, nodes=7, gpus=56)
    assert (p4d.limit, p5.limit) == ("memory", "memory")


def test_accelerators_are_counted_like_gpus() -> None:
    (found,) = reachable(pool(asked(family=["trn1"], size=["32xlarge"]), limits={"nodes": 2}), TYPES)
    assert found.gpus == 32


def test_without_a_limit_there_is_no_end() -> None:
    (found,) = reachable(pool(asked(family=["g5"], size=["xlarge"])), TYPES)
    assert (found.nodes, found.gpus, found.limit) == (None, None, None)


def test_limits_of_nodes_and_static_pools() -> None:
    (limited,) = reachable(pool(asked(family=["g5"], size=["48xlarge"]), limits={"nodes": 3}), TYPES)
    assert (limited.nodes, limited.gpus, limited.limit) == (3, 24, "nodes")
    (static,) = reachable(pool(asked(family=["g5"], size=["48xlarge"]), replicas=2), TYPES)
    assert (static.nodes, static.gpus, static.limit) == (2, 16, "replicas")


def test_how_many_pods_a_node_holds() -> None:
    g5, m5 = instance_types()["g5.12xlarge"], instance_types()["m5.large"]
    assert how_many(pod(8, 32, 1), g5) == 4
    assert how_many(pod(12, 32, 1), g5) == 3
    assert how_many(pod(12, 32, 1), g5, {"cpu": 11_811}) == 2
    assert how_many(pod(0, 0), m5) == 29
    assert how_many(pod(0, 0), m5, {"pods": 4}) == 25
    assert how_many(pod(1, 1, 1), m5) == 0


def test_limits_of_several_pools_together() -> None:
    small = pool(asked(family=["g5"], size=["4xlarge"]), limits={"nvidia.com/gpu": 32})
    large = pool(asked(family=["g5"], size=["48xlarge"]), limits={"nvidia.com/gpu": 12})
    assert most_pods(pod(8, 32, 1), [small], TYPES) == 32
    assert most_pods(pod(8, 32, 1), [small, large], TYPES) == 40
    assert most_pods(pod(8, 32, 1), [small, pool(asked(family=["g5"], size=["4xlarge"]))], TYPES) is None
    assert most_pods(pod(8, 32, 1), [pool(asked(family=["m5"]))], TYPES) == 0
    assert most_pods(pod(8, 32, 1), [pool(asked(family=["g5"], size=["4xlarge"]), replicas=5)], TYPES) == 5


def test_a_limit_that_a_type_does_not_count_for_does_not_hold_it() -> None:
    both_kinds = pool(asked(family=["g5", "m5"], size=["2xlarge"]), limits={"nvidia.com/gpu": 1})
    assert most_pods(pod(7, 16), [both_kinds], TYPES) is None
    assert most_pods(pod(7, 16, 1), [both_kinds], TYPES) == 1


def test_a_limit_too_fine_to_try_every_mix_is_not_understated() -> None:
    sizes = [(1024 * MI, 1), (1536 * MI + 1, 2)]
    assert _fill(10 * GI, sizes) == 10 * GI * 2 // (1536 * MI + 1)


def test_what_pods_can_have_of_a_node() -> None:
    g5 = instance_types()["g5.2xlarge"]
    assert "ephemeral-storage" not in allocatable_of(g5)
    of_pool = allocatable_of(g5, pool({}, storage_bytes=40 * GI, max_pods=20))
    assert (of_pool["ephemeral-storage"], of_pool["pods"], of_pool["cpu"]) == (40 * GI, 20, 7910)


def test_daemons_take_their_part_of_the_limits_too() -> None:
    limited = pool(asked(family=["g5"], size=["12xlarge"]), limits={"nodes": 2})
    agent = PodView(requests={"cpu": 11_811})
    assert most_pods(pod(12, 32, 1), [limited], TYPES) == 6
    assert most_pods(pod(12, 32, 1), [limited], TYPES, [agent]) == 4


@given(
    st.integers(0, 60), st.lists(st.tuples(st.integers(1, 12), st.integers(0, 9)), min_size=1, max_size=3, unique=True)
)
def test_the_best_mix_of_sizes_is_found(limit: int, sizes: list[tuple[int, int]]) -> None:
    mixes = product(*(range(limit // size + 1) for size, _ in sizes))
    counts = (
        sum(n * pods for n, (_, pods) in zip(mix, sizes, strict=True))
        for mix in mixes
        if sum(n * size for n, (size, _) in zip(mix, sizes, strict=True)) <= limit
    )
    assert _fill(limit, sizes) == max(counts)


REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(0, 200_000),
        "memory": st.integers(0, 2048 * GI),
        "nvidia.com/gpu": st.integers(0, 9),
        "ephemeral-storage": st.integers(0, 100 * GI),
        "pods": st.integers(0, 3),
    },
)


@given(REQUESTS, REQUESTS)
def test_a_type_fits_exactly_where_a_node_holds_at_least_one(
    wants: Mapping[str, int], taken: Mapping[str, int]
) -> None:
    wants = {key: amount for key, amount in wants.items() if key != "pods"}
    asks, own = PodView(requests=wants), pool(asked(family=["g5", "p5", "m5"]))
    found = place(asks, own, TYPES, taken)
    holds = {each.name for each in pool_types(own, TYPES) if how_many(asks, each, taken, own) >= 1}
    assert set(found.types) == holds
