"""Which taints keep a pod off."""

import pytest

from stoker.policy.taints import Taint, Toleration, tolerates, untolerated

GPU = Taint("nvidia.com/gpu", "true", "NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "is_tolerated"),
    [
        (Toleration("nvidia.com/gpu", "Exists"), True),
        (Toleration("nvidia.com/gpu", "Exists", effect="NoSchedule"), True),
        (Toleration("nvidia.com/gpu", "Exists", effect="NoExecute"), False),
        (Toleration("nvidia.com/gpu", "Equal", "true"), True),
        (Toleration("nvidia.com/gpu", "", "true"), True),
        (Toleration("nvidia.com/gpu", "Equal", "false"), False),
        (Toleration("nvidia.com/gpu"), False),
        (Toleration("nvidia.com/gpus", "Exists"), False),
        (Toleration("", "Exists"), True),
        (Toleration("", "Exists", effect="NoExecute"), False),
        (Toleration("nvidia.com/gpu", "exists"), False),
    ],
)
def test_one_toleration_and_one_taint(toleration: Toleration, is_tolerated: bool) -> None:
    assert tolerates([toleration], GPU) is is_tolerated


def test_a_taint_without_a_value_is_met_by_an_empty_one() -> None:
    assert tolerates([Toleration("dedicated")], Taint("dedicated"))


def test_what_is_left_keeps_the_pod_off() -> None:
    taints = [GPU, Taint("workload-type", "ml-training"), Taint("old", effect="NoExecute")]
    assert untolerated(taints, [Toleration("nvidia.com/gpu", "Exists")]) == (taints[1], taints[2])
    assert untolerated(taints, [Toleration(operator="Exists")]) == ()


def test_a_preference_never_keeps_a_pod_off() -> None:
    assert untolerated([Taint("slow", effect="PreferNoSchedule")], []) == ()


def test_written_as_kubectl_does() -> None:
    assert str(GPU) == "nvidia.com/gpu=true:NoSchedule"
    assert str(Taint("dedicated", effect="NoExecute")) == "dedicated:NoExecute"
