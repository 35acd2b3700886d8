"""GPUs that several pods share: what fits a node, how fast it is, who pays; and what Karpenter knows of it."""

from typing import Any

import pytest
import yaml
from worlds import Object, model, pool, run, said, scenario, trace

from stoker.catalog.ec2 import instance_types
from stoker.simulate import engines, gpu_sharing
from stoker.simulate.node_groups import instead_of_pools, parse
from stoker.simulate.result import Result
from stoker.simulate.scenario import Serving, Sharing

SMALL = "Qwen/Qwen3-0.6B"
SERVING = Serving("general", SMALL, 1, "queue", 8, memory_share=0.2)


def small(replicas: int, resource: str = "nvidia.com/gpu", amount: int = 1) -> Object:
    found = model(replicas=replicas)
    (engine,) = found["spec"]["template"]["spec"]["containers"]
    engine["args"] += ["--gpu-memory-utilization", "0.2"]
    engine["args"][1] = SMALL
    engine["resources"] = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {resource: amount}}
    return found


def overlay(capacity: dict[str, int], **spec: Any) -> Object:
    pools = [{"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]}]
    return {
        "apiVersion": "karpenter.sh/v1alpha1",
        "kind": "NodeOverlay",
        "metadata": {"name": spec.pop("name", "shares")},
        "spec": {"requirements": pools, "capacity": capacity, **spec},
    }


def plugin(config: dict[str, Any], key: str = "config.yaml") -> list[Object]:
    """NVIDIA's device plugin on nodes of the pool `gpu`, with its configuration."""
    pod = {
        "nodeSelector": {"pool": "gpu"},
        "containers": [{"name": "plugin", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.19.0"}],
        "volumes": [{"name": "config", "configMap": {"name": "shares"}}],
    }
    labels = {"app": "plugin"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "shares"},
            "data": {key: yaml.safe_dump(config)},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "plugin"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def slicing(places: int, how: str = "timeSlicing", **more: Any) -> dict[str, Any]:
    return {"version": "v1", "sharing": {how: {**more, "resources": [{"name": "nvidia.com/gpu", "replicas": places}]}}}


def nodes_and_places(found: Result) -> tuple[int, set[str | None]]:
    return len(found.nodes), {each.node for each in found.replicas}


def step_s(share: object = None, type_: str = "g6.xlarge") -> float:
    """Of one sequence."""
    whole = engines.rates(SERVING, instance_types()[type_])
    part = whole if share is None else engines.rates(SERVING, instance_types()[type_], share=share)  # type: ignore[arg-type]
    return float(part.step_s[1])


def test_four_pods_that_take_turns_are_on_one_gpu_and_each_has_a_quarter_of_it_and_of_the_bill() -> None:
    story = [pool(), overlay({"nvidia.com/gpu": 4}), *plugin(slicing(4))]
    found = run(*story, small(4), requests=trace(0.0, answer=101), hours=1)
    assert nodes_and_places(found) == (1, {"gpu-g6-xlarge-1"})
    assert found.nodes[0].devices == {"nvidia.com/gpu": 4}
    took_s = float(found.outcomes.done_at[0] - found.outcomes.first_at[0])
    assert took_s == pytest.approx(100 * step_s(gpu_sharing.gpus.time_sliced(4)), rel=0.03)
    assert took_s > 3.0 * 100 * step_s()
    assert found.costs.by_model == {"general": found.costs.total}
    one = run(*story, small(1), requests=trace(0.0), hours=1)
    assert one.costs.by_model["general"] == pytest.approx(one.costs.total / 4, abs=1)  # the rest of the GPU is idle


def test_without_an_overlay_karpenter_launches_as_if_nobody_shared() -> None:
    told = run(pool(), small(4), overlay({"nvidia.com/gpu": 4}), *plugin(slicing(4, "mps")), hours=0.1, cold=True)
    not_told = run(pool(), small(4), *plugin(slicing(4, "mps")), hours=0.1, cold=True)
    assert len(told.nodes) == 1
    assert len(not_told.nodes) == 4
    (note,) = [each for each in not_told.notes if "no NodeOverlay" in each]
    assert note.startswith("NodePool gpu: its nodes share GPUs (mps)")


def test_shares_without_a_plugin_in_sight_are_taken_as_time_slices_and_said() -> None:
    found = run(pool(), small(2), overlay({"nvidia.com/gpu": 2}), hours=0.1)
    assert nodes_and_places(found) == (1, {"gpu-g6-xlarge-1"})
    assert [each for each in found.notes if "taken as time slices" in each]


def test_slices_have_a_name_of_their_own_and_the_speed_of_their_part() -> None:
    """Two of 3g.40gb on an H100: half of its memory and bandwidth each, and each pays for half."""
    slices = overlay({"nvidia.com/mig-3g.40gb": 2})
    mixed = plugin({"flags": {"migStrategy": "mixed"}})
    found = run(
        pool(types="p5.4xlarge"),
        small(2, "nvidia.com/mig-3g.40gb"),
        slices,
        *mixed,
        requests=trace(0.0, answer=101),
        hours=1,
    )
    assert nodes_and_places(found) == (1, {"gpu-p5-4xlarge-1"})
    assert found.costs.by_model == {"general": found.costs.total}
    share = gpu_sharing.share_on({"nvidia.com/mig-3g.40gb": 1}, None, instance_types()["p5.4xlarge"], {})
    took_s = float(found.outcomes.done_at[0] - found.outcomes.first_at[0])
    assert took_s == pytest.approx(100 * step_s(share, "p5.4xlarge"), rel=0.03)
    assert step_s(share, "p5.4xlarge") > 1.2 * step_s(None, "p5.4xlarge")


def test_slices_that_nobody_tells_karpenter_of_are_never_launched() -> None:
    found = run(pool(types="p5.4xlarge"), small(1, "nvidia.com/mig-3g.40gb"), requests=trace(0.0), hours=0.2)
    assert not found.nodes
    assert found.replicas[0].bound_at is None


def test_slices_by_the_name_of_whole_gpus_are_known_by_what_nodes_do_as_they_start() -> None:
    node_class = {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": "default"},
        "spec": {"userData": '#!/bin/sh\nnvidia-smi mig -i "$gpu" -cgi 1g.10gb -C\n'},
    }
    told = scenario(pool(types="p5.4xlarge"), small(1), node_class, *plugin({"flags": {"migStrategy": "single"}}))
    assert told.pools[0].sharing == Sharing("mig", profile="1g.10gb")
    offered = gpu_sharing.offered(instance_types()["p5.48xlarge"], told.pools[0].sharing)
    assert offered == {"nvidia.com/gpu": 56}
    share = gpu_sharing.share_on({"nvidia.com/gpu": 1}, told.pools[0].sharing, instance_types()["p5.4xlarge"], offered)
    assert [str(each) for each in (share.compute, share.bandwidth, share.memory)] == ["1/7", "1/8", "1/8"]


@pytest.mark.parametrize(
    ("type_", "profile", "each"),
    [
        *[("p5.4xlarge", name, n) for name, n in (("1g.10gb", 7), ("1g.20gb", 4), ("2g.20gb", 3), ("3g.40gb", 2))],
        *[("p4d.24xlarge", name, n) for name, n in (("1g.5gb", 7), ("3g.20gb", 2), ("7g.40gb", 1))],
        *[("p5en.48xlarge", name, n) for name, n in (("1g.18gb", 7), ("3g.71gb", 2), ("4g.71gb", 1))],
        ("g6.xlarge", "1g.10gb", 0),
    ],
)
def test_how_many_slices_a_gpu_gives(type_: str, profile: str, each: int) -> None:
    instance = instance_types()[type_]
    offered = gpu_sharing.offered(instance, Sharing("mig", profile=profile))
    assert offered.get("nvidia.com/gpu", 0) == each * instance.gpu_count


def test_shares_may_have_a_name_of_their_own() -> None:
    renamed = plugin(slicing(2, renameByDefault=True))
    found = run(
        pool(), small(2, "nvidia.com/gpu.shared"), overlay({"nvidia.com/gpu.shared": 2}), *renamed, hours=0.1, cold=True
    )
    assert nodes_and_places(found) == (1, {"gpu-g6-xlarge-1"})
    assert found.nodes[0].devices == {"nvidia.com/gpu": 0, "nvidia.com/gpu.shared": 2}
    assert found.costs.by_model.get("general", 0) > 0


def test_two_shares_are_no_more_of_a_gpu_than_one_and_such_a_pod_never_serves() -> None:
    found = run(pool(), small(1, amount=2), overlay({"nvidia.com/gpu": 4}), *plugin(slicing(4)), hours=0.2, cold=True)
    (text,) = [each.text for each in found.journal if each.kind == "broken"]
    assert text.startswith("it asks for 2 of the shares of GPUs that 4 pods have together")


def test_engines_that_want_more_memory_than_a_shared_gpu_has_are_told_of() -> None:
    def notes(share: str) -> list[str]:
        greedy = small(1)
        greedy["spec"]["template"]["spec"]["containers"][0]["args"][-1] = share
        told = scenario(pool(), greedy, overlay({"nvidia.com/gpu": 4}), *plugin(slicing(4)))
        return [each for each in told.notes if "of the memory" in each]

    assert notes("0.25") == []
    assert notes("0.3") == [
        "Deployment ai/general: 4 pods share a GPU of NodePool gpu, and its engine takes 30% of the memory: "
        "the next one there would not start; here it does"
    ]


def test_a_limit_in_shares_is_a_limit_of_as_many_gpus() -> None:
    """Eight shares at four on a GPU: two nodes, for eight of the twelve pods."""
    limited = pool(limits={"nvidia.com/gpu": 8})
    found = run(limited, small(12), overlay({"nvidia.com/gpu": 4}), *plugin(slicing(4)), hours=0.2, cold=True)
    assert len(found.nodes) == 2
    assert sum(each.node is not None for each in found.replicas) == 8
    assert said(found, "provision", "general-12")[0][1].startswith("no node for it")


def test_the_overlay_of_the_greatest_weight_counts() -> None:
    weak, strong = (
        overlay({"nvidia.com/gpu": 2}, name="a", weight=1),
        overlay({"nvidia.com/gpu": 3}, name="b", weight=9),
    )
    told = scenario(pool(), small(1), weak, strong)
    assert run(pool(), small(3), weak, strong, hours=0.1).nodes[0].devices == {"nvidia.com/gpu": 3}
    assert [amounts for _, amounts in told.pools[0].view.overlays] == [{"nvidia.com/gpu": 3}, {"nvidia.com/gpu": 2}]


def test_an_overlay_of_other_nodes_is_nothing_to_a_pool() -> None:
    other = overlay({"nvidia.com/gpu": 4})
    other["spec"]["requirements"][0]["values"] = ["another"]
    assert scenario(pool(), small(1), other).pools[0].view.overlays == ()


def test_a_configuration_that_no_pool_mounts_is_not_heeded_and_said() -> None:
    config, _ = plugin(slicing(4))
    told = scenario(pool(), small(1), config)
    assert told.pools[0].sharing is None
    assert "ConfigMap shares shares GPUs (time-slicing), and nothing says of which nodes: not heeded" in told.notes


def test_a_label_of_the_pool_chooses_among_configurations() -> None:
    config, daemons = plugin(slicing(4), key="four")
    config["data"]["two"] = yaml.safe_dump(slicing(2, "mps"))
    chosen = pool()
    chosen["spec"]["template"]["metadata"]["labels"]["nvidia.com/device-plugin.config"] = "two"
    assert scenario(chosen, small(1), config, daemons).pools[0].sharing == Sharing("mps", 2)


def test_node_groups_offer_what_their_device_plugin_says() -> None:
    told = scenario(pool(), small(4), *plugin(slicing(4)))
    (group,) = instead_of_pools(told)
    assert group.view.overlays == (({}, {"nvidia.com/gpu": 4}),)
    assert parse("g6.xlarge,min=1,max=3", told).sharing == Sharing("time-slicing", 4)
