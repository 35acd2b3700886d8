"""The facts of instance types that ship."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from stoker.catalog.ec2 import families, find, instance_types, regions

ROOT = Path(__file__).parents[2]
MI = 1024**2


def test_every_type_is_there_with_what_pods_can_have_of_it() -> None:
    types = instance_types()
    assert len(types) == 266
    assert list(types) == sorted(types)
    assert all({"cpu", "memory", "pods", "ephemeral-storage"} <= set(each.allocatable) for each in types.values())
    assert {"g5", "g6e", "p4d", "p5", "p6-b200", "trn2", "m5", "c7g"} <= families()


@pytest.mark.parametrize(
    ("name", "cpu_milli", "memory_mi", "pods", "usd"),
    [
        ("g5.xlarge", 3920, 14162, 58, 1.006),
        ("g5.2xlarge", 7910, 29317, 58, 1.212),
        ("g5.4xlarge", 15890, 57691, 234, 1.624),
        ("g5.12xlarge", 47810, 173400, 737, 5.672),
        ("g6e.2xlarge", 7910, 59627, 58, 2.24208),
        ("p4d.24xlarge", 95690, 1082712, 737, 21.957642),
        ("p5.48xlarge", 191450, 1938410, 100, 55.04),
    ],
)
def test_allocatable_and_price(name: str, cpu_milli: int, memory_mi: int, pods: int, usd: float) -> None:
    found = instance_types()[name]
    assert (found.allocatable["cpu"], found.allocatable["memory"]) == (cpu_milli, memory_mi * MI)
    assert (found.allocatable["pods"], found.max_pods) == (pods, pods)
    assert found.usd_per_hour() == usd


def test_devices_are_what_pods_ask_for() -> None:
    p5, trn1, g4ad = (instance_types()[name] for name in ("p5.48xlarge", "trn1.32xlarge", "g4ad.xlarge"))
    assert p5.allocatable["nvidia.com/gpu"] == 8
    assert p5.allocatable["vpc.amazonaws.com/efa"] == 32
    assert (p5.gpu_name, p5.gpu_manufacturer, p5.gpu_memory_mib) == ("h100", "nvidia", 81920)
    assert trn1.allocatable["aws.amazon.com/neuron"] == 16
    assert trn1.allocatable["aws.amazon.com/neuroncore"] == 32
    assert (trn1.accelerator_count, trn1.accelerator_name, trn1.accelerator_manufacturer) == (16, "trainium", "aws")
    assert g4ad.allocatable["amd.com/gpu"] == 1
    assert "nvidia.com/gpu" not in instance_types()["m5.large"].allocatable
    assert "vpc.amazonaws.com/efa" not in instance_types()["g5.4xlarge"].allocatable


def test_what_does_not_apply_is_empty_or_nothing() -> None:
    metal, plain = instance_types()["m5.metal"], instance_types()["m5.large"]
    assert (metal.hypervisor, metal.bare_metal) == ("", True)
    assert (plain.gpu_name, plain.gpu_count, plain.gpu_memory_mib, plain.local_nvme_gb) == ("", 0, 0, 0)
    assert find("trn2.48xlarge").usd_per_hour() is None  # type: ignore[union-attr]
    assert find("g5.3xlarge") is None


def test_prices_are_of_regions_whose_source_has_a_licence() -> None:
    assert regions() == ("us-east-1", "us-gov-east-1", "us-gov-west-1")
    assert instance_types()["m5.large"].usd_per_hour("us-gov-west-1") == 0.121
    assert instance_types()["m5.large"].usd_per_hour("eu-west-1") is None


def test_types_are_read_once() -> None:
    assert instance_types() is instance_types()


def test_what_ships_is_what_the_script_writes(tmp_path: Path) -> None:
    shared = Path(os.environ.get("STOKER_SHARED", ROOT.parent / "shared"))
    if not (shared / "data" / "ec2" / "instances.json").exists():
        pytest.skip("the collected facts are not at hand: set STOKER_SHARED to their folder")
    spec = importlib.util.spec_from_file_location("build_ec2", ROOT / "scripts" / "build_ec2.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    source = json.loads((shared / "data" / "ec2" / "instances.json").read_text())
    script.write(tmp_path / "instances.json.gz", script.instances(source))
    shipped = ROOT / "src" / "stoker" / "catalog" / "data" / "ec2" / "instances.json.gz"
    assert (tmp_path / "instances.json.gz").read_bytes() == shipped.read_bytes()
