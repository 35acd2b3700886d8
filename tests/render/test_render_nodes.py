"""NodePools, node classes and overlays as they are written, and what the linter says of them."""

import email
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.catalog import schemas
from stoker.lint.run import lint
from stoker.manifests.reading import read_text
from stoker.policy.pod_resources import fits
from stoker.render import nodes
from stoker.render.facts import GPU
from stoker.render.items import Resource, Terraform
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.render.sharing import offered
from stoker.render.types import worst_usd_per_hour
from stoker.spec import Mode, loads

OURS = ("nodes", "gpus", "interruption")


def resources(text: str = "", mode: Mode = "karpenter") -> list[Resource]:
    return [each for each in nodes.render(Plan(loads(text), mode)) if isinstance(each, Resource)]


def found(kind: str, name: str, text: str = "", mode: Mode = "karpenter") -> dict[str, Any]:
    return next(
        each.object
        for each in resources(text, mode)
        if (each.object["kind"], each.object["metadata"]["name"]) == (kind, name)
    )


def spec(kind: str, name: str, text: str = "", mode: Mode = "karpenter") -> dict[str, Any]:
    return found(kind, name, text, mode)["spec"]


def said(text: str, mode: Mode = "karpenter") -> list[str]:
    """What the linter says of the three components, info included."""
    files = render(loads(text), mode=mode, only=OURS)
    objects = [text for name, text in files.items() if name.endswith(".yaml") and name != "kustomization.yaml"]
    report = lint(read_text("---\n".join(objects)))
    return [f"{each.rule} {each.object}: {each.message}" for each in report.findings]


TRAINING = "training: {enabled: true}\n"


def pool(settings: str) -> str:
    return f"karpenter: {{nodePools: {{gpu: {{{settings}}}}}}}\n"


def test_the_pool_that_models_share() -> None:
    assert spec("NodePool", "gpu") | {"template": None} == {
        "template": None,
        "limits": {"nvidia.com/gpu": "153"},
        "disruption": {
            "consolidationPolicy": "WhenEmptyOrUnderutilized",
            "consolidateAfter": "30s",
            "budgets": [
                {"nodes": "50%", "reasons": ["Underutilized", "Drifted"]},
                {
                    "nodes": "10%",
                    "reasons": ["Underutilized", "Drifted"],
                    "schedule": "0 9 * * mon-fri",
                    "duration": "8h",
                },
            ],
        },
        "weight": 10,
    }


def test_the_template_of_a_models_own_pool() -> None:
    template = spec("NodePool", "gpu.code")["template"]

    assert template["metadata"] == {"labels": {"stoker.dev/serves": "model.code"}}
    assert template["spec"]["nodeClassRef"] == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"}
    assert template["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert template["spec"]["expireAfter"] == "720h"
    requirements = {each["key"]: each["values"] for each in template["spec"]["requirements"]}
    assert requirements["node.kubernetes.io/instance-type"][0] == "g6.xlarge"
    assert requirements["karpenter.sh/capacity-type"] == ["on-demand"]
    assert requirements["topology.kubernetes.io/zone"] == ["us-west-2a", "us-west-2b", "us-west-2c"]
    assert "weight" not in spec("NodePool", "gpu.code")


def test_training_nodes_stay_until_they_are_empty() -> None:
    made = spec("NodePool", "training", TRAINING)

    assert made["template"]["spec"]["expireAfter"] == "Never"
    assert made["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "300s",
        "budgets": [{"nodes": "0", "reasons": ["Drifted"]}],
    }
    assert [each["key"] for each in made["template"]["spec"]["taints"]] == ["nvidia.com/gpu", "stoker.dev/serves"]


def test_without_consolidation_only_empty_nodes_go() -> None:
    made = spec("NodePool", "gpu", pool("consolidationEnabled: false"))["disruption"]

    assert (made["consolidationPolicy"], made["consolidateAfter"]) == ("WhenEmpty", "300s")
    assert {each["reasons"][0] for each in made["budgets"]} == {"Drifted"}


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("null", ["50%"]),
        ('{schedule: "0 1 * * *", duration: 2h, nodes: "0"}', ["50%", "0 0 1 * * * 2h"]),
        ('{nodes: "60%"}', ["100%", "60% 0 9 * * mon-fri 8h"]),
        ('{nodes: "100%"}', ["100%"]),
    ],
)
def test_protected_hours_are_those_of_a_smaller_budget(hours: str, expected: list[str]) -> None:
    budgets = spec("NodePool", "gpu", f"karpenter: {{protectedHours: {hours}}}")["disruption"]["budgets"]

    shown = [" ".join(filter(None, (b["nodes"], b.get("schedule"), b.get("duration")))) for b in budgets]
    assert shown == expected


def test_the_class_of_gpu_nodes() -> None:
    made = spec("EC2NodeClass", "gpu", "global: {tags: {Team: search}}\nkarpenter: {nodeRole: nodes}")

    text = made.pop("userData")
    assert "FastImagePull: true" in text
    assert made == {
        "amiSelectorTerms": [{"alias": "al2023@v20260903"}],
        "role": "nodes",
        "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "agentic-ai-cluster"}}],
        "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "agentic-ai-cluster"}}],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpProtocolIPv6": "disabled",
            "httpPutResponseHopLimit": 2,
            "httpTokens": "required",
        },
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {"volumeSize": "200Gi", "volumeType": "gp3", "encrypted": True, "deleteOnTermination": True},
            }
        ],
        "instanceStorePolicy": "RAID0",
        "detailedMonitoring": False,
        "tags": {
            "stoker.dev/pool": "gpu",
            "stoker.dev/use": "inference",
            "Project": "agentic-ai-cluster",
            "ManagedBy": "stoker",
            "Team": "search",
        },
    }


def test_nodes_without_gpus_start_as_their_image_makes_them() -> None:
    made = spec("EC2NodeClass", "general")

    assert made["metadataOptions"]["httpPutResponseHopLimit"] == 1
    assert not {"userData", "instanceStorePolicy"} & set(made)


def test_local_disks_that_hold_less_than_the_volume_stay_unused() -> None:
    made = spec("EC2NodeClass", "gpu", pool("volume: 300Gi"))

    assert "instanceStorePolicy" not in made
    ebs = made["blockDeviceMappings"][0]["ebs"]
    assert (ebs["volumeSize"], ebs["iops"], ebs["throughput"]) == ("300Gi", 3000, 750)


def test_bottlerocket_has_a_volume_for_itself() -> None:
    made = spec("EC2NodeClass", "gpu", 'karpenter: {image: "bottlerocket@v1.55.0"}')

    volumes = {each["deviceName"]: each["ebs"] for each in made["blockDeviceMappings"]}
    assert {device: ebs["volumeSize"] for device, ebs in volumes.items()} == {"/dev/xvda": "4Gi", "/dev/xvdb": "200Gi"}
    assert all(ebs["encrypted"] for ebs in volumes.values())
    assert made["amiSelectorTerms"] == [{"alias": "bottlerocket@v1.55.0"}]


@pytest.mark.parametrize("volume", ["10Gi", "60000Gi"])
def test_a_volume_that_ec2_or_the_image_does_not_take(volume: str) -> None:
    with pytest.raises(InvalidInput, match="20Gi to 59000Gi") as caught:
        resources(pool(f"volume: {volume}"))
    assert caught.value.param == "karpenter.nodePools.gpu.volume"


@pytest.mark.parametrize("key", ["kubernetes.io/cluster/x", "karpenter.sh/nodepool", "aws:x"])
def test_tags_that_others_set(key: str) -> None:
    with pytest.raises(InvalidInput, match=key) as caught:
        resources(f'global: {{tags: {{"{key}": a}}}}')
    assert caught.value.param == "global.tags"


def test_a_reservation_and_a_placement_group_are_the_classes() -> None:
    training = "use: training, instanceFamilies: [p4d], capacityReservation: cr-0123abcd, placementGroup: near"
    text = f"{TRAINING}karpenter: {{nodePools: {{gpu: {{}}, training: {{{training}}}}}}}"
    made = spec("EC2NodeClass", "training", text)

    assert made["capacityReservationSelectorTerms"] == [{"id": "cr-0123abcd"}]
    assert made["placementGroupSelector"] == {"name": "near"}


def test_interfaces_are_written_out_where_the_first_card_has_no_efa() -> None:
    text = "%skarpenter: {nodePools: {gpu: {}, training: {use: training, instanceFamilies: [%s]}}}"
    made = spec("EC2NodeClass", "training", text % (TRAINING, "p6-b300"))["networkInterfaces"]

    assert made[0] == {"networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface"}
    assert [each["networkCardIndex"] for each in made] == list(range(17))
    assert {(each["deviceIndex"], each["interfaceType"]) for each in made[1:]} == {(0, "efa-only")}
    assert "networkInterfaces" not in spec("EC2NodeClass", "training", text % (TRAINING, "p5"))
    without = "training: {enabled: true, efa: false}\n"
    assert "networkInterfaces" not in spec("EC2NodeClass", "training", text % (without, "p6-b300"))


def test_a_placement_group_is_for_auto_mode_too() -> None:
    assert spec("NodeClass", "gpu", pool("placementGroup: near"), "auto")["placementGroupSelector"] == {"name": "near"}
    assert "placementGroupSelector" not in spec("NodeClass", "gpu", "", "auto")


def test_auto_mode_has_classes_and_lifetimes_of_its_own() -> None:
    made = found("NodeClass", "gpu", pool("capacityReservation: cr-0123abcd, volume: 80Gi"), "auto")

    assert made["apiVersion"] == "eks.amazonaws.com/v1"
    assert made["spec"] == {
        "role": "KarpenterNodeRole-agentic-ai-cluster",
        "subnetSelectorTerms": [{"tags": {"karpenter.sh/discovery": "agentic-ai-cluster"}}],
        "securityGroupSelectorTerms": [{"tags": {"karpenter.sh/discovery": "agentic-ai-cluster"}}],
        "capacityReservationSelectorTerms": [{"id": "cr-0123abcd"}],
        "ephemeralStorage": {"size": "80Gi", "iops": 3000, "throughput": 750},
        "tags": {
            "stoker.dev/pool": "gpu",
            "stoker.dev/use": "inference",
            "Project": "agentic-ai-cluster",
            "ManagedBy": "stoker",
        },
    }
    template = spec("NodePool", "gpu", "", "auto")["template"]["spec"]
    assert template["nodeClassRef"] == {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": "gpu"}
    assert template["expireAfter"] == "336h"
    training = spec("NodePool", "training", TRAINING, "auto")["template"]["spec"]
    assert (training["expireAfter"], training["terminationGracePeriod"]) == ("480h", "24h")


def test_hybrid_has_both_and_a_role_for_each() -> None:
    roles = {
        (each.object["kind"], each.object["metadata"]["name"]): each.object["spec"]["role"]
        for each in resources("", "hybrid")
        if "role" in each.object["spec"]
    }

    assert roles == {
        ("EC2NodeClass", "gpu"): "KarpenterNodeRole-agentic-ai-cluster",
        ("NodeClass", "general"): "KarpenterNodeRole-agentic-ai-cluster-auto",
    }


@pytest.mark.parametrize(("mode", "blocks"), [("karpenter", 0), ("hybrid", 3), ("auto", 3)])
def test_nodes_of_auto_mode_are_let_in(mode: Mode, blocks: int) -> None:
    made = [each for each in nodes.render(Plan(loads(""), mode)) if isinstance(each, Terraform)]

    assert len(made) == blocks
    if blocks:
        assert made[0].block.attributes["name"].endswith("-auto") is (mode == "hybrid")
        assert made[1].block.attributes["type"] == "EC2"


SHARED = "llm: {models: {a: {serving: {gpu: {%s}}}}}\n"
SLICED = SHARED % "sharing: mig, migProfile: 3g.40gb"


def test_karpenter_is_told_of_shares() -> None:
    text = SHARED % "sharing: time-slicing, share: 2, memory: 12Gi" + pool("instanceFamilies: [g6]")
    overlays = [each.object["spec"] for each in resources(text) if each.object["kind"] == "NodeOverlay"]

    types = {each["requirements"][1]["values"][0]: each["capacity"] for each in overlays}
    assert types["g6.xlarge"] == {"nvidia.com/gpu": 2}
    assert types["g6.12xlarge"] == {"nvidia.com/gpu": 8}
    assert {each["requirements"][0]["values"][0] for each in overlays} == {"gpu.a"}
    assert spec("NodePool", "gpu.a", text)["template"]["metadata"]["labels"] == {
        "stoker.dev/serves": "model.a",
        "stoker.dev/gpu-sharing": "time-slicing-2",
    }


def test_training_with_efa_needs_no_alpha_gate_of_karpenter() -> None:
    assert not [each for each in resources(TRAINING) if each.object["kind"] == "NodeOverlay"]
    assert "hugepages" not in spec("EC2NodeClass", "training", TRAINING)["userData"]


def test_user_data_is_of_the_parts_that_nodeadm_and_cloud_init_take() -> None:
    text = spec("EC2NodeClass", "gpu.a", SLICED)["userData"]

    parts = email.message_from_string(text).get_payload()
    assert isinstance(parts, list)
    assert [each.get_content_type() for each in parts] == ["application/node.eks.aws", "text/x-shellscript"]
    assert yaml.safe_load(parts[0].get_payload()) == {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {"featureGates": {"FastImagePull": True}},
    }
    assert parts[1].get_payload().startswith("#!/bin/bash\n")


def test_subnets_and_security_groups_are_found_by_the_clusters_name() -> None:
    made = spec("EC2NodeClass", "general", "global: {cluster: {name: atelier}}")

    discovery = [{"tags": {"karpenter.sh/discovery": "atelier"}}]
    assert made["subnetSelectorTerms"] == made["securityGroupSelectorTerms"] == discovery
    assert made["role"] == "KarpenterNodeRole-atelier"


NVIDIA_SMI = """\
#!/bin/sh
echo "nvidia-smi $*" >> "$LOG"
case "$*" in
  --query-gpu=mig*) cat "$MODE" ;;
  --gpu-reset) echo Enabled > "$MODE" ;;
  --query-gpu=index*) echo 0; echo 1 ;;
  *-cgi*) n=$(grep -c -- "-i $3 -cgi" "$LOG"); [ "$n" -le "$SLICES" ] ;;
esac
"""


def run_mig(folder: Path, mode: str, slices: int) -> tuple[list[str], int]:
    """What the script of a MIG pool calls, with an nvidia-smi that has two GPUs of so many slices; and how it ends."""
    text = spec("EC2NodeClass", "gpu.a", SLICED)["userData"]
    script = "#!/bin/bash" + text.split("#!/bin/bash")[1].split("--//")[0]
    for name, body in (("nvidia-smi", NVIDIA_SMI), ("shutdown", '#!/bin/sh\necho "shutdown $*" >> "$LOG"\n')):
        (folder / name).write_text(body)
        (folder / name).chmod(0o755)
    (folder / "mode").write_text(mode + "\n")
    env = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "LOG": str(folder / "log"),
        "MODE": str(folder / "mode"),
        "SLICES": str(slices),
    }
    ended = subprocess.run(["bash", "-c", script], env=env, check=False)
    return (folder / "log").read_text().splitlines(), ended.returncode


def test_each_gpu_is_cut_into_as_many_slices_as_it_has(tmp_path: Path) -> None:
    called, code = run_mig(tmp_path, "Enabled", slices=2)

    cuts = [each for each in called if "-cgi" in each]
    assert code == 0
    assert cuts == [f"nvidia-smi mig -i {gpu} -cgi 3g.40gb -C" for gpu in (0, 0, 0, 1, 1, 1)]
    assert "nvidia-smi --gpu-reset" not in called


def test_a_gpu_that_takes_the_mode_late_is_reset(tmp_path: Path) -> None:
    called, code = run_mig(tmp_path, "Disabled", slices=1)

    assert code == 0
    assert called.index("nvidia-smi --gpu-reset") == called.index("nvidia-smi -mig 1") + 2


def test_a_node_that_cannot_be_cut_does_not_join(tmp_path: Path) -> None:
    called, code = run_mig(tmp_path, "Enabled", slices=0)

    assert called[-1] == "shutdown -h now"
    assert code != 0


@pytest.mark.parametrize(
    ("image", "sharing", "expected"),
    [
        ("bottlerocket@v1.55.0", "sharing: time-slicing, share: 2, memory: 12Gi",
         ['device-sharing-strategy = "time-slicing"', "replicas = 2", "rename-by-default = false",
          "fail-requests-greater-than-one = true", 'snapshotter = "soci"']),
        ("bottlerocket@1.54.0", "sharing: mps, share: 3, memory: 4Gi",
         ['device-sharing-strategy = "mps"', "[settings.kubelet-device-plugins.nvidia.mps]", "replicas = 3"]),
        ("bottlerocket@v1.43.0", "sharing: mig, migProfile: 3g.40gb",
         ['device-partitioning-strategy = "mig"', '"h100.80gb" = "3g.40gb"']),
    ],
)  # fmt: skip
def test_bottlerocket_shares_gpus_by_its_settings(image: str, sharing: str, expected: list[str]) -> None:
    text = spec("EC2NodeClass", "gpu.a", SHARED % sharing + f'karpenter: {{image: "{image}"}}')["userData"]

    assert set(expected) <= set(text.splitlines())
    assert ("soci" in text) is (image != "bottlerocket@v1.43.0")


@pytest.mark.parametrize(
    ("image", "sharing", "families"),
    [
        ("bottlerocket@v1.53.0", "sharing: mps, memory: 4Gi", "g6"),
        ("bottlerocket@v1.33.0", "sharing: mig", "p5"),
        ("bottlerocket@v1.55.0", "sharing: mig, migProfile: 2g.48gb", "g7e"),
    ],
)
def test_what_a_bottlerocket_cannot_do(image: str, sharing: str, families: str) -> None:
    text = SHARED % sharing + f'karpenter: {{image: "{image}", nodePools: {{gpu: {{instanceFamilies: [{families}]}}}}}}'

    with pytest.raises(InvalidInput) as caught:
        resources(text)
    assert caught.value.param == "karpenter.image"


def test_an_old_image_pulls_as_it_always_did() -> None:
    assert "userData" not in spec("EC2NodeClass", "gpu", "karpenter: {image: al2023@v20250501}")


def test_nothing_is_rendered_for_nodes_of_ones_own() -> None:
    files = render(loads("karpenter: {enabled: false}\n" + TRAINING), only=OURS)

    assert files == {}


def test_few_types_on_spot_are_no_surprise() -> None:
    comments = {each.file: each.comment for each in resources(pool("instanceFamilies: [g6e]"))}

    assert "stoker:ignore STK-KARPENTER-031 " in comments["nodes/gpu.yaml"]
    assert "stoker:ignore" not in comments["nodes/gpu.general.yaml"]


@pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
def test_the_default_is_found_right(mode: Mode) -> None:
    assert said("", mode) == []
    assert said(TRAINING, mode) == []


def _models(count: int) -> st.SearchStrategy[str]:
    gpu = st.one_of(
        st.builds("count: {}, memory: {}Gi".format, st.sampled_from([1, 1, 2, 4, 8]), st.sampled_from([8, 24, 40, 80])),
        st.builds("sharing: {}, share: {}, memory: 4Gi".format, st.sampled_from(["mps", "time-slicing"]),
                  st.integers(2, 5)),
        st.builds("sharing: mig, migProfile: {}, memory: 5Gi".format,
                  st.sampled_from(["1g.5gb", "1g.10gb", "3g.40gb", "3g.71gb"])),
        st.just("count: 0"),
    )  # fmt: skip
    one = st.builds(
        "{{replicas: {{max: {}}}, serving: {{nodePool: {}, cpu: '{}', memory: {}Gi, gpu: {{{}}}}}}}".format,
        st.integers(1, 40), st.sampled_from(["one", "two"]), st.sampled_from([1, 3, 7, 20]),
        st.sampled_from([2, 10, 30, 120]), gpu,
    )  # fmt: skip
    return st.lists(one, min_size=1, max_size=count).map(
        lambda all_: ", ".join(f"m{i}: {each}" for i, each in enumerate(all_))
    )


POOL = st.builds(
    "instanceFamilies: [{}], spotEnabled: {}, consolidationEnabled: {}, maxUsdPerHour: {}, volume: {}Gi{}".format,
    st.lists(st.sampled_from(["g4dn", "g5", "g6", "g6e", "p4d", "p4de", "p5", "p5en"]), min_size=1, max_size=6,
             unique=True).map(", ".join),
    st.sampled_from(["true", "false"]), st.sampled_from(["true", "false"]),
    st.sampled_from(["null", "null", "20", "300", "4000"]), st.integers(20, 900),
    st.sampled_from(["", "", ", capacityReservation: cr-0123abcd", ", zones: [us-west-2b]", ", placementGroup: near"]),
)  # fmt: skip
SPECS = st.builds(
    """\
karpenter: {{image: "{}", nodePools: {{one: {{{}}}, two: {{{}}}}}}}
llm: {{models: {{{}}}}}
training: {{enabled: {}, nodes: {}, gpus: {}, efa: {}}}
""".format,
    st.sampled_from(["al2023@v20260903", "bottlerocket@v1.55.0"]), POOL, POOL, _models(3),
    st.sampled_from(["true", "false"]), st.integers(1, 4), st.sampled_from([1, 4, 8]),
    st.sampled_from(["true", "false"]),
)  # fmt: skip
MODES: st.SearchStrategy[Mode] = st.sampled_from(["karpenter", "auto", "hybrid"])


def _planned(text: str, mode: Mode) -> Plan | None:
    """None where no cluster could be made of the spec, which is said with the key and what would be right."""
    made, refusal = Plan(loads(text), mode), None
    try:
        _ = made.pools
        list(nodes.render(made))
    except InvalidInput as error:
        refusal = error
    assert refusal is None or (refusal.param and refusal.hint)
    return made if refusal is None else None


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, MODES)
def test_whatever_is_asked_for_fits_is_reached_and_stays_within_its_cap(text: str, mode: Mode) -> None:
    made = _planned(text, mode)
    if made is None:
        return

    for served in (each for each in made.served if each.is_on_gpu):
        own = next(each for each in made.pools if each.serves == served.serves)
        assert own.name.startswith(f"{served.pool}.")
        assert all(fits(served.requests, each.allocatable) for each in own.types)
        pods = served.replicas.max * served.serving.nodes
        assert all(_reached(own, each.name, served.requests, pods) for each in own.types)
    for name, of_spec in made.spec.karpenter.node_pools.items():
        pools = [each for each in made.pools if each.said is of_spec]
        assert {each.node_class.partition(".")[0] for each in pools} <= {name}
        if of_spec.max_usd_per_hour is not None:
            assert sum(worst_usd_per_hour(made, each) for each in pools) <= of_spec.max_usd_per_hour


def _reached(own: Any, name: str, requests: dict[str, int], pods: int) -> bool:
    """Whether so many pods run when only nodes of one type are launched, up to the limit."""
    each = next(one for one in own.types if one.name == name)
    limit, launched, running = int(own.limits[GPU]), 0, 0
    room = {**each.allocatable, GPU: offered(each, own.sharing)}
    on_node = min(room[key] // amount for key, amount in requests.items() if amount)
    smallest = min(offered(one, own.sharing) for one in own.types)
    while running < pods:
        # The last node is of the smallest type that there is: Karpenter takes one that the limit still allows.
        if launched + room[GPU] > limit:
            return launched + smallest <= limit
        launched, running = launched + room[GPU], running + on_node
    return True


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, MODES)
def test_whatever_is_asked_for_is_found_right(text: str, mode: Mode) -> None:
    if _planned(text, mode) is not None:
        assert said(text, mode) == []


def test_a_wrong_node_class_of_auto_mode_is_found() -> None:
    text = """\
apiVersion: eks.amazonaws.com/v1
kind: NodeClass
metadata: {name: gpu}
spec:
  role: nodes
  snatPolicy: Sometimes
  ephemeralStorage: {size: 80Gi, throughput: 2000}
  instanceStorePolicy: RAID0
"""
    messages = [each.message for each in lint(read_text(text)).findings]

    assert schemas.find("eks.amazonaws.com/v1", "NodeClass") is not None
    assert len(messages) == 3
    assert any("Sometimes" in each for each in messages)
    assert any("2000" in each for each in messages)
    assert any("instanceStorePolicy" in each for each in messages)
