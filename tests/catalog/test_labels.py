"""Which labels Karpenter knows and keeps, and which a type gives."""

import pytest

from stoker.catalog.ec2 import instance_types
from stoker.catalog.labels import (
    AUTO_MODE,
    AWS,
    OF_TYPES,
    WELL_KNOWN,
    is_kept_for_kubernetes,
    labels_of,
    present_name,
    why_restricted,
)


def test_the_labels_of_a_gpu_type() -> None:
    assert dict(labels_of(instance_types()["g5.2xlarge"])) == {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "g5.2xlarge",
        "karpenter.k8s.aws/instance-category": "g",
        "karpenter.k8s.aws/instance-family": "g5",
        "karpenter.k8s.aws/instance-generation": "5",
        "karpenter.k8s.aws/instance-size": "2xlarge",
        "karpenter.k8s.aws/instance-cpu": "8",
        "karpenter.k8s.aws/instance-cpu-manufacturer": "amd",
        "karpenter.k8s.aws/instance-memory": "32768",
        "karpenter.k8s.aws/instance-hypervisor": "nitro",
        "karpenter.k8s.aws/instance-local-nvme": "450",
        "karpenter.k8s.aws/instance-network-bandwidth": "5000",
        "karpenter.k8s.aws/instance-ebs-bandwidth": "3500",
        "karpenter.k8s.aws/instance-gpu-name": "a10g",
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-gpu-count": "1",
        "karpenter.k8s.aws/instance-gpu-memory": "22888",
    }


def test_what_a_type_does_not_have_has_no_label() -> None:
    plain = labels_of(instance_types()["m5.large"])
    assert "karpenter.k8s.aws/instance-gpu-count" not in plain
    assert "karpenter.k8s.aws/instance-local-nvme" not in plain
    assert labels_of(instance_types()["m5.metal"])["karpenter.k8s.aws/instance-hypervisor"] == ""


def test_a_type_with_a_part_of_a_gpu_has_none_to_count() -> None:
    labels = labels_of(instance_types()["g6f.large"])
    assert labels["karpenter.k8s.aws/instance-gpu-name"] == "l4"
    assert labels["karpenter.k8s.aws/instance-gpu-count"] == "0"


def test_accelerators() -> None:
    labels = labels_of(instance_types()["trn1.32xlarge"])
    assert labels["karpenter.k8s.aws/instance-accelerator-name"] == "trainium"
    assert labels["karpenter.k8s.aws/instance-accelerator-count"] == "16"
    assert labels["karpenter.k8s.aws/instance-accelerator-manufacturer"] == "aws"
    assert labels["karpenter.k8s.aws/instance-category"] == "trn"


def test_auto_mode_has_the_same_under_its_own_domain() -> None:
    labels = labels_of(instance_types()["g6.xlarge"], AUTO_MODE)
    assert labels["eks.amazonaws.com/instance-family"] == "g6"
    assert labels["kubernetes.io/arch"] == "amd64"
    assert not any(key.startswith("karpenter.k8s.aws/") for key in labels)


@pytest.mark.parametrize("domain", [AWS, AUTO_MODE])
def test_every_label_of_a_type_is_one_that_types_decide(domain: str) -> None:
    for each in instance_types().values():
        assert set(labels_of(each, domain)) - {"kubernetes.io/os"} <= OF_TYPES[domain] <= WELL_KNOWN[domain]  # type: ignore[arg-type, index]


@pytest.mark.parametrize(
    "key",
    [
        "karpenter.sh/capacity-type",
        "karpenter.k8s.aws/instance-family",
        "karpenter.k8s.aws/instance-cpu-manufacturer",
        "karpenter.k8s.aws/capacity-reservation-id",
        "karpenter.k8s.aws/placement-group-id",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "app.kubernetes.io/part-of",
        "workload-type",
        "example.com/team",
        "nvidia.com/gpu.present",
    ],
)
def test_a_pool_may_ask_for_it(key: str) -> None:
    assert why_restricted(key) is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("karpenter.sh/nodepool", "Karpenter sets it to the name of the pool"),
        ("kubernetes.io/hostname", "a node has it from its own name"),
        ("karpenter.sh/initialized", "the domain karpenter.sh is Karpenter's own, and it knows no such label"),
        (
            "karpenter.k8s.aws/instance-families",
            "the domain karpenter.k8s.aws is Karpenter's own, and it knows no such label",
        ),
        ("team.karpenter.sh/name", "the domain karpenter.sh is Karpenter's own, and it knows no such label"),
    ],
)
def test_a_pool_may_not_ask_for_it(key: str, why: str) -> None:
    assert why_restricted(key) == why


def test_auto_mode_does_not_know_the_labels_of_karpenter() -> None:
    assert why_restricted("eks.amazonaws.com/instance-family", AUTO_MODE) is None
    assert why_restricted("karpenter.k8s.aws/instance-family", AUTO_MODE) is not None


def test_older_karpenters_keep_the_domains_of_kubernetes() -> None:
    assert is_kept_for_kubernetes("app.kubernetes.io/part-of")
    assert is_kept_for_kubernetes("k8s.io/role")
    assert not is_kept_for_kubernetes("topology.kubernetes.io/zone")
    assert not is_kept_for_kubernetes("beta.kubernetes.io/arch")
    assert not is_kept_for_kubernetes("kops.k8s.io/instancegroup")
    assert not is_kept_for_kubernetes("node-restriction.kubernetes.io/team")
    assert not is_kept_for_kubernetes("workload-type")


def test_old_names_are_taken_for_the_present_ones() -> None:
    assert present_name("beta.kubernetes.io/instance-type") == "node.kubernetes.io/instance-type"
    assert present_name("workload-type") == "workload-type"
