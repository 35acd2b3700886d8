import math
import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

import pytest

from stoker.base.errors import InvalidInput
from stoker.catalog import ec2
from stoker.catalog.ec2 import InstanceType
from stoker.policy.volumes import Volume
from stoker.simulate import latencies
from stoker.simulate.latencies import PRIORS, NodeTimes, Priors, node_times, overridden, pod_times
from stoker.simulate.scenario import Image, Load

GB = 10**9
VLLM = Image("vllm", size_bytes=9 * GB, unpacked_bytes=20 * GB)
SIDECAR = Image("sidecar", size_bytes=GB // 10, unpacked_bytes=GB // 4)
LLAMA_8B = Load(images=(VLLM,), weights_bytes=16 * GB, weights_from="hub")
NO_SPREAD = {name: 0.0 for name in Priors.sources() if name.endswith("_spread")}
CERTAIN = overridden(NO_SPREAD)


def type_of(name: str) -> InstanceType:
    found = ec2.find(name)
    assert found is not None
    return found


def pods(load: Load, volume: Volume, instance: str = "g6e.xlarge", **priors: float) -> latencies.PodTimes:
    return pod_times(load, type_of(instance), volume, frozenset(), random.Random(1), overridden(NO_SPREAD | priors))


def nodes(instance: str, priors: Mapping[str, float] = NO_SPREAD) -> NodeTimes:
    return node_times(type_of(instance), random.Random(1), overridden(priors))


# Machines


def test_a_machine_without_gpus_has_no_device_plugin_to_wait_for() -> None:
    assert nodes("m7i.xlarge") == pytest.approx(NodeTimes(fleet_s=2.0, boot_s=52.5, devices_s=0.0))


def test_gpus_are_told_of_later() -> None:
    assert nodes("g5.xlarge") == pytest.approx(NodeTimes(fleet_s=2.0, boot_s=52.5, devices_s=40.0))


def test_neuron_devices_have_a_plugin_as_well() -> None:
    assert nodes("inf2.xlarge").devices_s == pytest.approx(40.0)


def test_bare_metal_takes_minutes() -> None:
    assert nodes("g4dn.metal").boot_s == pytest.approx(420.0)


def test_machines_with_gpus_may_be_said_to_boot_more_slowly() -> None:
    more = NO_SPREAD | {"boot_s": 60.0, "boot_gpu_more_s": 30.0}

    assert nodes("g5.xlarge", more).boot_s == pytest.approx(90.0)
    assert nodes("m7i.xlarge", more).boot_s == pytest.approx(60.0)


# Images


def test_a_pull_is_the_download_and_the_unpacking_onto_the_volume() -> None:
    """9 GB at the registry's 100 MB/s, 20 GB onto a gp3 volume of 125 MiB/s, and a second for the manifest."""
    assert pods(LLAMA_8B, Volume()).pull_s == pytest.approx(1 + 90 + 20e9 / (125 * 2**20))


def test_a_wider_volume_shortens_the_pull_by_what_it_unpacks_faster() -> None:
    narrow, wide = pods(LLAMA_8B, Volume()), pods(LLAMA_8B, Volume(throughput_mibs=250))

    assert narrow.pull_s - wide.pull_s == pytest.approx(20e9 / 2**20 / 125 - 20e9 / 2**20 / 250)


def test_no_volume_is_wider_than_the_type_lets_it_be_nor_unpacking_faster_than_a_core() -> None:
    """A core unpacks 300 MB/s; a type with 800 Mbps for its volumes writes 100 MB/s."""
    assert pods(LLAMA_8B, Volume(throughput_mibs=1000)).pull_s == pytest.approx(1 + 90 + 20e9 / 300e6)
    narrow = replace(type_of("g6e.xlarge"), ebs_mbps=800)
    found = pod_times(LLAMA_8B, narrow, Volume(throughput_mibs=1000), frozenset(), random.Random(1), CERTAIN)
    assert found.pull_s == pytest.approx(1 + 90 + 20e9 / 100e6)


def test_instance_store_is_used_where_the_type_has_it() -> None:
    store = Volume(uses_instance_store=True)

    assert pods(LLAMA_8B, store, unpack_bytes_per_s=2e9).pull_s == pytest.approx(1 + 90 + 20)
    assert pods(LLAMA_8B, store, "m7i.4xlarge").pull_s == pods(LLAMA_8B, Volume(), "m7i.4xlarge").pull_s


def test_a_slow_network_is_the_limit_where_it_is_slower_than_the_registry() -> None:
    """g6e.xlarge has 2,500 Mbps, 281 MB/s at 90 %: more than the registry gives, less than one nearby would."""
    assert pods(LLAMA_8B, Volume(), registry_bytes_per_s=1e9).pull_s == pytest.approx(
        1 + 9e9 / (2.5e9 / 8 * 0.9) + 20e9 / (125 * 2**20)
    )


def test_a_snapshot_with_the_images_shortens_the_pull_to_what_is_read_as_needed() -> None:
    without, with_snapshot = pods(LLAMA_8B, Volume()), pods(LLAMA_8B, Volume(has_images=True))

    assert with_snapshot.pull_s == pytest.approx(20 * 3.1)
    assert without.pull_s - with_snapshot.pull_s == pytest.approx(1 + 90 + 20e9 / (125 * 2**20) - 62)


def test_a_lazy_image_is_read_as_it_is_needed_and_the_others_are_pulled() -> None:
    load = Load(images=(replace(VLLM, is_lazy=True), SIDECAR))

    assert pods(load, Volume()).pull_s == pytest.approx(20 * 3.1 + 1 + 1 + 0.25e9 / (125 * 2**20))


def test_images_that_the_node_has_cost_nothing_and_one_that_is_named_twice_is_pulled_once() -> None:
    load = Load(images=(VLLM, SIDECAR, SIDECAR))
    there = frozenset({"vllm"})

    found = pod_times(load, type_of("g6e.xlarge"), Volume(), there, random.Random(1), CERTAIN)

    assert found.pull_s == pytest.approx(1 + 1 + 0.25e9 / (125 * 2**20))
    assert pod_times(LLAMA_8B, type_of("g6e.xlarge"), Volume(), there, random.Random(1), CERTAIN).pull_s == 0.0


def test_the_chain_is_as_long_as_it_was_seen_to_be() -> None:
    """A vLLM pod on a new GPU node: 6 to 9 minutes; 2.5 to 4 with a snapshot and weights from S3."""
    machine = nodes("g6e.xlarge")
    before_s = 3 + machine.fleet_s + machine.boot_s + machine.devices_s
    usual = pods(LLAMA_8B, Volume())
    best = pods(replace(LLAMA_8B, weights_from="s3"), Volume(throughput_mibs=1000, has_images=True), "g6e.4xlarge")

    assert 360 < before_s + usual.pull_s + usual.load_s + usual.start_s < 600
    assert 150 < before_s + best.pull_s + best.load_s + best.start_s < 250


# Weights


@pytest.mark.parametrize(
    ("source", "instance", "volume", "rate"),
    [
        ("hub", "g6e.xlarge", Volume(), 125 * 2**20),  # written to the disk
        ("hub", "g6e.xlarge", Volume(throughput_mibs=1000), 200e6),  # the hub
        ("hub", "m7i.large", Volume(throughput_mibs=1000), 0.9 * 781e6 / 8),  # the network
        ("s3", "g6e.xlarge", Volume(), 0.9 * 2500e6 / 8),  # the network; the disk does not matter
        ("s3", "g6e.12xlarge", Volume(), 1e9),  # S3
        ("volume", "g6e.12xlarge", Volume(), 335e6),  # the volume
        ("volume", "m7i.large", Volume(), 335e6),  # EBS of the type is wider than its network
        ("node", "g6e.xlarge", Volume(), 125 * 2**20),
        ("node", "g6e.xlarge", Volume(uses_instance_store=True), 1e9),
    ],
)
def test_weights_come_as_fast_as_the_narrowest_place_lets_them(
    source: Any, instance: str, volume: Volume, rate: float
) -> None:
    load = replace(LLAMA_8B, weights_from=source)

    assert pods(load, volume, instance).load_s == pytest.approx(16e9 / rate)


def test_no_weights_take_no_time() -> None:
    assert pods(Load(images=(SIDECAR,)), Volume()).load_s == 0.0


# The process


def test_a_small_server_starts_in_seconds_and_an_engine_by_the_size_of_its_weights() -> None:
    assert pods(Load(), Volume()).start_s == pytest.approx(5.0)
    assert pods(LLAMA_8B, Volume()).start_s == pytest.approx(65.0)
    assert pods(replace(LLAMA_8B, weights_bytes=128 * GB), Volume()).start_s == pytest.approx(65.0 * 8**0.33)


# Chance


@pytest.mark.parametrize("instance", ["m7i.xlarge", "g5.xlarge", "g4dn.metal"])
def test_the_mean_of_many_machines_is_the_prior(instance: str) -> None:
    chance = random.Random(7)
    drawn = [node_times(type_of(instance), chance) for _ in range(10_000)]
    certain = nodes(instance)

    assert fmean(each.fleet_s for each in drawn) == pytest.approx(certain.fleet_s, rel=0.02)
    assert fmean(each.boot_s for each in drawn) == pytest.approx(certain.boot_s, rel=0.02)
    assert fmean(each.devices_s for each in drawn) == pytest.approx(certain.devices_s, rel=0.02)


def test_the_mean_of_many_pods_is_the_prior() -> None:
    chance = random.Random(7)
    drawn = [pod_times(LLAMA_8B, type_of("g6e.xlarge"), Volume(), frozenset(), chance) for _ in range(10_000)]
    certain = pods(LLAMA_8B, Volume())

    assert fmean(each.pull_s for each in drawn) == pytest.approx(certain.pull_s, rel=0.02)
    assert fmean(each.load_s for each in drawn) == pytest.approx(certain.load_s, rel=0.02)
    assert fmean(each.start_s for each in drawn) == pytest.approx(certain.start_s, rel=0.02)


def test_most_boots_take_as_long_as_was_reported() -> None:
    chance = random.Random(7)
    boots = sorted(node_times(type_of("g5.xlarge"), chance).boot_s for _ in range(1000))

    assert 40 < boots[50] < boots[950] < 65


def test_the_same_seed_gives_the_same_times_and_a_certain_prior_shifts_no_other() -> None:
    def drawn(**priors: float) -> NodeTimes:
        return node_times(type_of("g5.xlarge"), random.Random(3), overridden(priors))

    assert drawn() == drawn()
    assert drawn(boot_spread=0.0).devices_s == drawn().devices_s
    assert drawn(boot_s=60.0).boot_s == pytest.approx(drawn().boot_s * 60 / 52.5)


def test_a_machine_with_and_one_without_gpus_take_as_many_numbers() -> None:
    first, second = random.Random(3), random.Random(3)
    node_times(type_of("m7i.xlarge"), first)
    node_times(type_of("g5.xlarge"), second)

    assert first.random() == second.random()


# Overriding


def test_priors_are_overridden_by_name() -> None:
    assert Priors.from_text("boot_s=60", "hub_bytes_per_s=4e8, boot_spread=0") == replace(
        PRIORS, boot_s=60.0, hub_bytes_per_s=4e8, boot_spread=0.0
    )
    assert overridden({}) == PRIORS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boots_s=60", "there is no prior 'boots_s': boot_s?"),
        ("weather=3", "there is no prior 'weather'"),
        ("boot_s=soon", "prior 'boot_s=soon': 'soon' is not a number"),
        ("boot_s", "prior 'boot_s': a value is missing"),
        ("boot_s=-1", "prior boot_s is -1, and must be 0 or more"),
        ("boot_s=nan", "prior boot_s is nan, and must be 0 or more"),
        ("hub_bytes_per_s=0", "prior hub_bytes_per_s is 0, and must be above 0"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Priors.from_text(text)

    assert caught.value.message == message
    assert caught.value.param


def test_the_hint_lists_the_priors_that_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        Priors.from_text("weather=3")

    assert caught.value.hint is not None
    assert all(name in caught.value.hint for name in asdict(PRIORS))


def test_every_prior_says_where_it_comes_from() -> None:
    assert all(Priors.sources().values())
    assert list(Priors.sources()) == list(asdict(PRIORS))
    assert all(math.isfinite(value) for value in asdict(PRIORS).values())
