"""Karpenter's arithmetic of what a node has (reference 4.4)."""

import pytest

from stoker.catalog.ec2 import InstanceType, instance_types
from stoker.policy.allocatable import Family, Kubelet, allocatable, capacity, cpu_reserved, eni_limited_pods, pods

TYPES = instance_types()
MI, GI = 1024**2, 1024**3


@pytest.mark.parametrize("instance", TYPES.values(), ids=str)
def test_it_is_what_the_page_of_karpenter_says(instance: InstanceType) -> None:
    """Every type of the catalogue, every resource: the catalogue holds what Karpenter's own page prints."""
    assert allocatable(instance) == dict(instance.allocatable)


@pytest.mark.parametrize(
    ("name", "cpu", "memory_mi", "count"),
    [
        ("g5.xlarge", 3920, 14162, 58),
        ("g5.2xlarge", 7910, 29317, None),
        ("g5.12xlarge", 47810, 173400, 737),
        ("g6.xlarge", 3920, 14162, None),
        ("g6.12xlarge", 47810, 178933, 234),
        ("g6e.xlarge", 3920, 29317, None),
        ("g6e.2xlarge", 7910, 59627, None),
        ("p4d.24xlarge", 95690, 1082712, None),
        ("p5.4xlarge", 15890, 240830, None),
        ("p5.48xlarge", 191450, 1938410, 100),
    ],
)
def test_the_sample_of_the_reference(name: str, cpu: int, memory_mi: int, count: int | None) -> None:
    found = allocatable(TYPES[name])
    assert (found["cpu"], found["memory"]) == (cpu, memory_mi * MI)
    assert count is None or found["pods"] == count


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        *(("g4dn.xlarge", 0.526), ("g5.xlarge", 1.006), ("g5.2xlarge", 1.212), ("g5.12xlarge", 5.672)),
        *(("g6.xlarge", 0.8048), ("g6.2xlarge", 0.9776), ("g6.12xlarge", 4.6016), ("g6e.xlarge", 1.861)),
        *(("g6e.2xlarge", 2.24208), ("g6e.12xlarge", 10.49264), ("g6e.48xlarge", 30.13118), ("m5.large", 0.096)),
        *(("p4d.24xlarge", 21.957642), ("p4de.24xlarge", 27.44705), ("p5.4xlarge", 6.88), ("p5.48xlarge", 55.04)),
        *(("p5en.48xlarge", 63.296), ("p6-b200.48xlarge", 113.9328)),
    ],
)
def test_the_prices_of_the_reference(name: str, usd: float) -> None:
    assert TYPES[name].usd_per_hour() == usd


@pytest.mark.parametrize(
    ("cores", "kept"),
    [(1, 60), (2, 70), (3, 75), (4, 80), (8, 90), (16, 110), (48, 190), (96, 310), (192, 550), (5, 82)],
)
def test_processors_that_the_kubelet_keeps(cores: int, kept: int) -> None:
    """6 % of the first, 1 % of the second, 0.5 % of two more, 0.25 % of the rest, in whole thousandths."""
    assert cpu_reserved(cores * 1000) == kept


def test_memory_step_by_step() -> None:
    """g5.xlarge: 16384 MiB sold, 7.5 % of it rounded up kept by the machine, 255 + 11 x 58 by the kubelet, 100 free."""
    g5 = TYPES["g5.xlarge"]
    assert capacity(g5)["memory"] == (16384 - 1229) * MI
    assert allocatable(g5)["memory"] == (16384 - 1229 - (255 + 11 * 58) - 100) * MI


def test_arm_machines_keep_64_mib_more() -> None:
    c7g = TYPES["c7g.large"]
    assert capacity(c7g)["memory"] == (4096 - 64 - 303) * MI


@pytest.mark.parametrize(
    ("kubelet", "count", "memory_mi"),
    [
        pytest.param(Kubelet(), 58, 14162, id="AL2023"),
        pytest.param(Kubelet("AL2"), 58, 14162, id="AL2"),
        pytest.param(Kubelet("Bottlerocket"), 58, 14162, id="Bottlerocket"),
        pytest.param(Kubelet(max_pods=110), 110, 14162, id="maxPods-AL2023-reserves-by-interfaces"),
        pytest.param(Kubelet("Bottlerocket", max_pods=110), 110, 14800 - 11 * 110, id="maxPods-Bottlerocket"),
        pytest.param(Kubelet(pods_per_core=4), 16, 14162, id="podsPerCore"),
        pytest.param(Kubelet(max_pods=10, pods_per_core=4), 10, 14162, id="the-smaller-of-both"),
        pytest.param(Kubelet("Bottlerocket", pods_per_core=4), 58, 14162, id="podsPerCore-Bottlerocket-does-not-heed"),
        pytest.param(Kubelet("Windows"), 110, 14800 - 11 * 110, id="Windows"),
        pytest.param(Kubelet("Custom"), 110, 14162, id="Custom"),
        pytest.param(Kubelet(reserved_enis=1), 44, 14162, id="an-interface-kept"),
        pytest.param(
            Kubelet("Bottlerocket", reserved_enis=1), 44, 14800 - 11 * 44, id="an-interface-kept-Bottlerocket"
        ),
    ],
)
def test_pods_and_the_memory_that_they_cost(kubelet: Kubelet, count: int, memory_mi: int) -> None:
    """g5.xlarge has 4 interfaces of 15 addresses: 4 x 14 + 2 pods. 14800 MiB are left before pods are counted."""
    found = allocatable(TYPES["g5.xlarge"], kubelet)
    assert (found["pods"], found["memory"]) == (count, memory_mi * MI)


@pytest.mark.parametrize("family", ["AL2", "AL2023", "Bottlerocket", "Windows", "Custom"])
def test_every_family_has_as_much_cpu(family: Family) -> None:
    assert allocatable(TYPES["g5.xlarge"], Kubelet(family))["cpu"] == 3920


def test_interfaces_of_the_default_card_count() -> None:
    assert (TYPES["p4d.24xlarge"].enis, eni_limited_pods(TYPES["p4d.24xlarge"])) == (15, 737)
    assert eni_limited_pods(TYPES["g5.xlarge"], reserved_enis=9) == 0
    unknown = TYPES["trn2.48xlarge"]
    assert (unknown.enis, pods(unknown)) == (0, unknown.max_pods)


def test_amounts_that_a_node_class_sets_replace_the_computed_ones() -> None:
    g5 = TYPES["g5.xlarge"]
    kubelet = Kubelet(
        kube_reserved={"cpu": 200}, system_reserved={"cpu": 100, "memory": GI}, eviction_hard={"memory": 0}
    )
    found = allocatable(g5, kubelet)
    assert found["cpu"] == 4000 - 200 - 100
    assert found["memory"] == (14162 + 100 - 1024) * MI


def test_local_storage_is_the_volume_less_a_gibibyte_and_a_tenth() -> None:
    g5 = TYPES["g5.xlarge"]
    assert allocatable(g5)["ephemeral-storage"] == 17 * GI
    assert allocatable(g5, Kubelet(root_bytes=100 * GI))["ephemeral-storage"] == 89 * GI


def test_what_is_kept_may_be_all() -> None:
    assert allocatable(TYPES["g5.xlarge"], Kubelet(system_reserved={"cpu": 5000}))["cpu"] == 0
