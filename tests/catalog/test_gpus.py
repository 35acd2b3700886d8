from fractions import Fraction

import pytest

from stoker.catalog import ec2, gpus
from stoker.catalog.gpus import Share


def test_every_nvidia_gpu_that_ec2_sells_is_known() -> None:
    for instance in ec2.instance_types().values():
        if instance.gpu_manufacturer == "nvidia":
            assert gpus.find(instance.gpu_name, instance.gpu_memory_mib) is not None, instance.name


def test_a_name_that_two_gpus_have_is_told_apart_by_memory() -> None:
    forty, eighty = gpus.find("a100", 40960), gpus.find("a100", 81920)

    assert forty is not None
    assert eighty is not None
    assert (forty.key, forty.bandwidth) == ("a100-40", 1555e9)
    assert (eighty.key, eighty.bandwidth) == ("a100-80", 2039e9)


def test_what_is_not_known() -> None:
    assert gpus.find("radeon-pro-v520", 8192) is None


def test_rates_are_as_measured_for_the_nearest_size() -> None:
    l40s = gpus.gpus()["l40s"]

    assert [l40s.weights_rate(size) for size in (1, 8, 12, 30, 72)] == [735e9, 735e9, 718e9, 689e9, 677e9]
    assert (l40s.kv_rate, l40s.prefill_flops) == (630e9, 235e12)


def test_rates_that_nobody_measured_are_shares_of_the_data_sheet() -> None:
    l4 = gpus.gpus()["l4"]

    assert l4.weights_rate(8) == pytest.approx(0.78 * 300e9)
    assert l4.kv_rate == pytest.approx(0.72 * 300e9)
    assert l4.prefill_flops == pytest.approx(0.65 * 121e12)
    assert not l4.is_measured


def test_nobody_measured_more_than_the_data_sheet_promises() -> None:
    for gpu in gpus.gpus().values():
        assert all(rate <= gpu.bandwidth for rate in gpu.weights_rates.values()), gpu.key
        assert gpu.kv_rate <= gpu.bandwidth, gpu.key
        assert gpu.prefill_flops <= gpu.flops, gpu.key


def test_pods_that_take_turns_have_a_part_of_the_time_and_see_all_of_the_memory() -> None:
    assert gpus.time_sliced(4) == Share(compute=Fraction(1, 4), bandwidth=Fraction(1, 4), memory=Fraction(1))


@pytest.mark.parametrize(
    ("resource", "key", "share"),
    [
        ("nvidia.com/mig-1g.10gb", "a100-80", Share(Fraction(1, 7), Fraction(1, 8), Fraction(1, 8))),
        ("nvidia.com/mig-3g.40gb", "a100-80", Share(Fraction(3, 7), Fraction(1, 2), Fraction(1, 2))),
        ("mig-7g.40gb", "a100-40", Share(Fraction(1), Fraction(1), Fraction(1))),
        ("nvidia.com/mig-1g.18gb", "h200", Share(Fraction(1, 7), Fraction(1, 8), Fraction(1, 8))),
        ("nvidia.com/gpu", "a100-80", None),
    ],
)
def test_a_mig_device_has_slices(resource: str, key: str, share: Share | None) -> None:
    assert gpus.mig_share(resource, gpus.gpus()[key]) == share
