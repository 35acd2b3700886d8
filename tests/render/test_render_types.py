"""Which types a pool allows, how far it may grow, and what that can cost."""

import re
from decimal import Decimal

import pytest

from stoker.base.errors import InvalidInput
from stoker.catalog.labels import AUTO_MODE
from stoker.policy.pod_resources import fits
from stoker.render.facts import Pool
from stoker.render.plan import Plan
from stoker.render.types import worst_usd_per_hour
from stoker.spec import Mode, loads


def plan(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def pool(text: str, name: str, mode: Mode = "karpenter") -> Pool:
    return next(each for each in plan(text, mode).pools if each.name == name)


def names(found: Pool) -> list[str]:
    return [each.name for each in found.types]


def refused(text: str, mode: Mode = "karpenter") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        _ = plan(text, mode).pools
    return caught.value


def with_pool(pool: str, models: str = "a: {replicas: {max: 3}}", more: str = "") -> str:
    return f"karpenter: {{nodePools: {{gpu: {{{pool}}}}}}}\nllm: {{models: {{{models}}}}}\n{more}"


def test_the_default_pools() -> None:
    found = {
        each.name: (len(each.types), each.capacity, dict(each.limits), each.weight, each.node_class)
        for each in plan().pools
    }

    on_demand = (13, ("on-demand",), {"nvidia.com/gpu": "51"}, 0, "gpu")
    assert found == {
        "gpu": (16, ("spot",), {"nvidia.com/gpu": "153"}, 10, "gpu"),
        "gpu.general": on_demand,
        "gpu.code": on_demand,
        "gpu.vision": on_demand,
        "general": (16, ("on-demand",), {"cpu": "256", "memory": "1024Gi"}, 0, "general"),
    }


def test_without_spot_each_model_has_its_own_pool_alone() -> None:
    found = plan(with_pool("spotEnabled: false")).pools

    assert [(each.name, each.capacity) for each in found] == [("gpu.a", ("on-demand",)), ("general", ("on-demand",))]


def test_pools_for_general_use_are_the_specs_unless_they_are_switched_off() -> None:
    text = "karpenter: {nodePools: {gpu: {}, cpu: {use: general, instanceFamilies: [c7i], %s}}}"

    found = pool(text % "spotEnabled: true", "cpu")
    assert ({each.family for each in found.types}, found.capacity) == ({"c7i"}, ("spot", "on-demand"))
    assert [each.name for each in plan(text % "enabled: false").pools if each.use == "general"] == ["general"]


def test_each_type_that_is_left_out_has_a_reason() -> None:
    found = pool(with_pool("instanceFamilies: [g4dn, g5, g4ad]", "a: {serving: {memory: 15Gi}}"), "gpu.a")

    reasons = dict(each.split(": ", 1) for each in found.left_out)
    assert names(found)[0] == "g5.2xlarge"
    assert reasons["g4dn.xlarge"] == "16 GiB of GPU memory, 24Gi asked for"
    assert reasons["g4ad.xlarge"] == "no NVIDIA GPU"
    assert reasons["g5.xlarge"] == "too small for 2 CPU and 15Gi beside its GPUs"
    assert reasons["g5.16xlarge"] == "4.10 USD an hour for a replica, more than 3 times the cheapest"
    assert not set(reasons) & set(names(found))


def test_the_reasons_of_the_shared_pool_are_those_of_types_that_no_model_takes() -> None:
    small, large = "small: {serving: {gpu: {memory: 12Gi}}}", "large: {serving: {gpu: {memory: 20Gi}}}"
    found = pool(with_pool("instanceFamilies: [g4dn, g6, g4ad]", f"{small}, {large}"), "gpu")

    assert "g4dn.xlarge" in names(found)
    assert "g4ad.xlarge: no NVIDIA GPU" in found.left_out
    assert not {each.partition(":")[0] for each in found.left_out} & set(names(found))


def test_a_ceiling_leaves_out_what_costs_more() -> None:
    found = pool(with_pool("instanceFamilies: [g6], maxUsdPerHourPerNode: 0.99"), "gpu.a")

    assert names(found) == ["g6.xlarge", "g6.2xlarge"]
    assert "g6.4xlarge: 1.3232 USD an hour, above the ceiling of 0.99" in found.left_out


def test_a_ceiling_below_every_type_says_what_the_cheapest_costs() -> None:
    error = refused(with_pool("instanceFamilies: [g6], maxUsdPerHourPerNode: 0.5"))

    assert error.param == "karpenter.nodePools.gpu.maxUsdPerHourPerNode"
    assert "(g6.xlarge) costs 0.8048 an hour" in str(error)


def test_a_cap_leaves_out_dear_types_until_all_pods_together_cost_no_more() -> None:
    models = "a: {replicas: {max: 3}}, b: {replicas: {max: 1}}"
    made = plan(with_pool("instanceFamilies: [g5, g6], maxUsdPerHour: 7", models))

    pools = [each for each in made.pools if each.use == "inference"]
    assert [each.name for each in pools] == ["gpu.a", "gpu.b"]
    assert [each.capacity for each in pools] == [("spot", "on-demand")] * 2
    assert [dict(each.limits) for each in pools] == [{"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": "2"}]
    assert sum(worst_usd_per_hour(made, each) for each in pools) == Decimal("6.6136")
    assert "g5.4xlarge: 1.62 USD an hour for a GPU, too much for the cap of 7" in pools[0].left_out


def test_a_cap_that_does_not_reach_the_most_replicas_is_refused() -> None:
    error = refused(with_pool("instanceFamilies: [g6], maxUsdPerHour: 3"))

    assert error.param == "karpenter.nodePools.gpu.maxUsdPerHour"
    assert "4 GPUs, which a may ask for, cost 3.22 USD an hour at most" in str(error)


def test_a_cap_on_training_leaves_out_dear_types() -> None:
    text = "training: {enabled: true, nodes: 1}\nkarpenter: {nodePools: {gpu: {}, t: {use: training, %s}}}"
    two = "instanceFamilies: [p4d, p4de]"

    assert names(pool(text % two, "t")) == ["p4d.24xlarge", "p4de.24xlarge"]
    capped = pool(text % f"{two}, maxUsdPerHour: 25", "t")
    assert names(capped) == ["p4d.24xlarge"]
    assert refused(text % f"{two}, maxUsdPerHour: 10").param == "karpenter.nodePools.t.maxUsdPerHour"


def test_a_cap_on_general_use_limits_cores() -> None:
    text = "karpenter: {nodePools: {gpu: {}, cpu: {use: general, spotEnabled: false, instanceFamilies: [m7i], %s}}}"

    assert pool(text % "volume: 50Gi", "cpu").limits["cpu"] == "256"
    assert pool(text % "maxUsdPerHour: 2", "cpu").limits == {"cpu": "39", "memory": "156Gi"}
    assert refused(text % "maxUsdPerHour: 0.1").param == "karpenter.nodePools.cpu.maxUsdPerHour"


def test_the_price_of_a_cap_is_that_of_the_region_where_it_is_known() -> None:
    text = with_pool("instanceFamilies: [g6], maxUsdPerHourPerNode: 0.9, maxUsdPerHour: 9", "a: {replicas: {max: 1}}")

    for region, usd in (("us-east-1", "1.6096"), ("us-gov-west-1", "2.0288"), ("eu-west-1", "1.6096")):
        made = plan(f"{text}global: {{cluster: {{region: {region}}}}}")
        assert worst_usd_per_hour(made, next(each for each in made.pools if each.name == "gpu.a")) == Decimal(usd)


def test_types_that_the_region_does_not_sell_are_left_out() -> None:
    far = "global: {cluster: {region: us-gov-east-1}}"
    found = pool(with_pool("instanceFamilies: [g5, g6]", more=far), "gpu.a")

    assert {each.partition(".")[0] for each in names(found)} == {"g6"}
    assert "g5.xlarge: not sold in us-gov-east-1" in found.left_out
    assert "(g5, in us-gov-east-1)" in str(refused(with_pool("instanceFamilies: [g5]", more=far)))


def test_limits_let_every_replica_run_on_nodes_that_it_cannot_fill() -> None:
    # 2 GPUs of 4: two pods on a node of 4. Three pods and one more need 2 nodes, 2 pods and one more do, too.
    found = {
        most: pool(
            with_pool("instanceFamilies: [g5], spotEnabled: false",
                      f"a: {{replicas: {{max: {most}}}, serving: {{gpu: {{count: 2, memory: 40Gi}}}}}}"),
            "gpu.a",
        ).limits["nvidia.com/gpu"]
        for most in (2, 3)
    }  # fmt: skip

    assert found == {2: "8", 3: "10"}


def test_types_of_which_one_node_is_above_the_limit_are_left_out() -> None:
    found = pool(with_pool("instanceFamilies: [g6]", "a: {replicas: {max: 1}}"), "gpu.a")

    assert {each.gpu_count for each in found.types} == {1}
    assert "g6.12xlarge: 4 GPUs at once, more than the replicas of the pool can use" in found.left_out


def test_a_replica_over_several_nodes_has_no_pod_beyond_its_most_and_no_spot() -> None:
    found = pool(with_pool("instanceFamilies: [g6]", "a: {replicas: {max: 2}, serving: {nodes: 3}}"), "gpu.a")

    assert found.limits == {"nvidia.com/gpu": "6"}
    assert found.capacity == ("on-demand",)


def test_shares_are_what_a_limit_counts() -> None:
    shared = "a: {replicas: {max: 7}, serving: {gpu: {sharing: mps, share: 4, memory: 5Gi}, cpu: 500m, memory: 2Gi}}"

    assert pool(with_pool("instanceFamilies: [g6], spotEnabled: false", shared), "gpu.a").limits == {
        "nvidia.com/gpu": "11"
    }


def test_memory_is_that_of_each_share() -> None:
    models = "a: {serving: {gpu: {sharing: time-slicing, share: 2, memory: %s}}}"

    assert "g6.xlarge" in names(pool(with_pool("instanceFamilies: [g6]", models % "12Gi"), "gpu.a"))
    assert "24Gi for each of 2 that share it" in str(refused(with_pool("instanceFamilies: [g6]", models % "24Gi")))


MIG = "a: {serving: {gpu: {sharing: mig, migProfile: %s, memory: %s}}}"


@pytest.mark.parametrize(
    ("profile", "memory", "types"),
    [
        ("3g.20gb", "20Gi", ["p4d.24xlarge"]),
        ("3g.40gb", "40Gi", ["p5.4xlarge", "p4de.24xlarge", "p5.48xlarge"]),
        ("3g.71gb", "60Gi", ["p5en.48xlarge"]),
    ],
)
def test_mig_takes_the_types_whose_gpus_have_the_slice(profile: str, memory: str, types: list[str]) -> None:
    text = with_pool("instanceFamilies: [g6, p4d, p4de, p5, p5en], spotEnabled: false", MIG % (profile, memory))

    found = pool(text, "gpu.a")
    assert set(names(found)) <= set(types)
    assert types[0] in names(found)
    assert "g6.xlarge: its GPU cannot be cut into " + profile in found.left_out


def test_a_slice_that_is_too_small_is_no_place() -> None:
    error = refused(with_pool("instanceFamilies: [p5]", MIG % ("1g.10gb", "24Gi")))

    assert "cut into 1g.10gb" in str(error)
    assert error.hint == "no instance type has that; ask for less, or serve it over several nodes (serving.nodes)"


def test_a_model_that_fits_nothing_is_told_what_would_do() -> None:
    error = refused(with_pool("instanceFamilies: [g6]", "a: {serving: {gpu: {memory: 40Gi}}}"))

    assert error.param == "llm.models.a.serving"
    assert error.hint == "g6e.xlarge would do: add g6e to instanceFamilies"


@pytest.mark.parametrize("families", ["g5", "g5g", "trn1"])
def test_a_pool_for_general_use_without_types_is_said_plainly(families: str) -> None:
    error = refused(f"karpenter: {{nodePools: {{gpu: {{}}, cpu: {{use: general, instanceFamilies: [{families}]}}}}}}")

    assert error.param == "karpenter.nodePools.cpu.instanceFamilies"
    assert "4 to 32 vCPUs" in str(error)


def test_a_model_on_the_cpu_has_room_on_nodes_for_general_use() -> None:
    text = "llm: {models: {a: {replicas: {max: 49}, serving: {gpu: {count: 0}, cpu: '2', memory: %s}}}}"

    assert [each.name for each in plan(text % "4Gi").pools] == ["general"]
    assert int(pool(text % "4Gi", "general").limits["cpu"]) == 256 + 200
    assert refused(text % "200Gi").param == "llm.models.a.serving"


TRAINING = """\
training: {enabled: true, nodes: 3, gpus: %d, efa: %s}
karpenter: {nodePools: {gpu: {}, t: {use: training, instanceFamilies: [%s]}}}
"""


def test_training_pods_are_alike() -> None:
    found = pool(TRAINING % (8, "true", "p4d, p4de, p5"), "t")

    assert names(found) == ["p4d.24xlarge", "p4de.24xlarge"]
    assert found.left_out == ("p5.48xlarge: 8 h100 and 32 EFA, not 8 a100 and 4 as the cheapest",)
    assert found.limits == {"nvidia.com/gpu": "24"}


def test_without_efa_training_pods_share_a_node() -> None:
    made = plan(TRAINING % (2, "false", "g6"))

    found = next(each for each in made.pools if each.name == "t")
    assert names(found) == ["g6.12xlarge", "g6.24xlarge"][: len(names(found))]
    assert found.limits == {"nvidia.com/gpu": "8"}
    assert made.training_pods.efa == 0


@pytest.mark.parametrize("mode", ["karpenter", "auto"])
def test_a_training_pod_has_every_network_card_and_all_memory_but_a_fiftieth(mode: Mode) -> None:
    pods = plan(TRAINING % (8, "true", "p4d"), mode).training_pods

    assert (pods.efa, pods.memory) == (4, "1035Gi")


def test_training_with_gpus_that_no_type_has_is_refused() -> None:
    assert refused(TRAINING % (16, "true", "p5")).param == "training.gpus"


def test_zones_are_the_pools_own_or_the_clusters_and_one_for_training() -> None:
    text = "training: {enabled: true}\nkarpenter: {nodePools: {gpu: {zones: [us-west-2c]}}}"

    zones = {each.use: each.zones for each in plan(text).pools}
    assert zones == {
        "inference": ("us-west-2c",),
        "training": ("us-west-2a",),
        "general": ("us-west-2a", "us-west-2b", "us-west-2c"),
    }


def test_two_pools_for_inference_have_classes_of_their_own() -> None:
    text = """\
karpenter: {nodePools: {small: {instanceFamilies: [g6]}, big: {instanceFamilies: [p5], volume: 500Gi}}}
llm: {models: {a: {}, b: {serving: {nodePool: big, gpu: {memory: 80Gi}}}}}
"""
    found = {each.name: each.node_class for each in plan(text).pools}

    assert {each.name: each.serves for each in plan(text).pools if each.weight} == {
        "small": "models.small",
        "big": "models.big",
    }
    assert found == {"small": "small", "small.a": "small", "big": "big", "big.b": "big", "general": "general"}


def test_the_pool_of_a_model_that_is_switched_off_is_named() -> None:
    text = "karpenter: {nodePools: {gpu: {}, big: {enabled: false}}}\nllm: {models: {a: {serving: {nodePool: big}}}}"

    said = re.escape('"big" is no node pool for inference; those of karpenter.nodePools are: gpu')
    with pytest.raises(InvalidInput, match=said):
        loads(text)


def test_names_of_the_spec_are_not_given_twice() -> None:
    text = "training: {enabled: true}\nkarpenter: {nodePools: {general: {}, training: {enabled: false}}}"

    assert [each.name for each in plan(text).pools if each.use != "inference"] == ["training-nodes", "general-nodes"]


def test_a_reservation_comes_first_on_whichever_pool_is_tried_first() -> None:
    text = with_pool("instanceFamilies: [g6], capacityReservation: cr-0123abcd")

    assert [each.capacity for each in plan(text).pools][:2] == [("reserved", "spot"), ("reserved", "on-demand")]


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (with_pool("", "a: {serving: {gpu: {sharing: mps, memory: 10Gi}}}"), "llm.models.a.serving.gpu.sharing"),
        ("karpenter: {nodePools: {system: {}}}", "karpenter.nodePools.system"),
    ],
)
def test_what_auto_mode_cannot_do_is_refused_with_what_to_write(text: str, param: str) -> None:
    error = refused(text, "auto")

    assert error.param == param
    assert error.hint is not None
    assert plan(text, "karpenter").pools


def test_auto_mode_has_a_class_of_the_name_default() -> None:
    text = "karpenter: {nodePools: {default: {}}}"

    assert {each.node_class for each in plan(text, "auto").pools} == {"default-nodes", "general"}
    assert {each.node_class for each in plan(text, "karpenter").pools} == {"default", "general"}


def test_each_replica_fits_each_type_of_its_pools() -> None:
    made = plan("llm: {inference: {cpu: '6', memory: 20Gi}}")

    for served in made.served:
        for each in made.pools:
            if each.serves == served.serves:
                assert all(fits(served.requests, one.allocatable) for one in each.types)


def test_without_karpenter_there_is_no_pool() -> None:
    assert plan("karpenter: {enabled: false}\ntraining: {enabled: true}").pools == ()
    assert {each.domain for each in plan(mode="auto").pools} == {AUTO_MODE}
