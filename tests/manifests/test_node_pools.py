"""NodePools and workloads as the views that the placement is decided on."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stoker.catalog.ec2 import instance_types, region_of
from stoker.manifests.node_pools import amounts, is_auto_mode, node_pool_view, pod_view, region_of_pool
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.placements import blocker_text, nearest_text, placement_text
from stoker.manifests.workloads import workloads_of
from stoker.policy.placement import Blocker, PodView, daemon_overhead, place, reachable
from stoker.policy.requirements import of_labels, requirement
from stoker.policy.taints import Taint, Toleration

TYPES = instance_types().values()
MI, GI = 1024**2, 1024**3
INSTANCE = "karpenter.k8s.aws/instance-"
ZONE = "topology.kubernetes.io/zone"

POOL = """
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu-inference}
spec:
  weight: 10
  limits: {cpu: "1000", memory: 4000Gi, nvidia.com/gpu: 32}
  template:
    metadata:
      labels: {workload-type: gpu-inference, karpenter.sh/capacity-type: spot}
    spec:
      nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu-nodes}
      requirements:
      - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6], minValues: 2}
      - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge, 2xlarge]}
      - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
      - {key: failure-domain.beta.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}
      taints:
      - {key: nvidia.com/gpu, value: "true", effect: NoSchedule}
      startupTaints:
      - {key: node.cilium.io/agent-not-ready, effect: NoExecute}
"""

POD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm, namespace: ai}
spec:
  replicas: 3
  template:
    spec:
      priorityClassName: high
      nodeSelector: {workload-type: gpu-inference}
      tolerations:
      - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a]}
            - matchExpressions:
              - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2c]}
              - {key: karpenter.k8s.aws/instance-cpu, operator: Gt, values: ["7"]}
      initContainers:
      - {name: fetch, resources: {requests: {cpu: "2", memory: 1Gi}}}
      - {name: proxy, restartPolicy: Always, resources: {requests: {cpu: 100m}}}
      containers:
      - name: vllm
        resources:
          requests: {cpu: "7", memory: 24Gi}
          limits: {cpu: "8", memory: 24Gi, nvidia.com/gpu: 1}
      - {name: metrics, resources: {limits: {cpu: 50m, memory: 64Mi}}}
"""


def manifest(text: str) -> Manifest:
    return of_data(yaml.safe_load(text))


def of_data(data: Any) -> Manifest:
    return Manifest(data, Document("a.yaml", 0, data))


def pod_of(text: str) -> PodView:
    (workload,) = workloads_of(manifest(text))
    return pod_view(workload)


def of_spec(spec: dict[str, Any]) -> PodView:
    (workload,) = workloads_of(of_data({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}))
    return pod_view(workload)


def test_a_node_pool() -> None:
    view = node_pool_view(manifest(POOL))
    assert view.name == "gpu-inference"
    assert view.requirements == {
        INSTANCE + "family": requirement(INSTANCE + "family", "In", ["g5", "g6"]),
        INSTANCE + "size": requirement(INSTANCE + "size", "In", ["xlarge", "2xlarge"]),
        "karpenter.sh/capacity-type": requirement("karpenter.sh/capacity-type", "In", ["spot", "on-demand"]),
        ZONE: requirement(ZONE, "In", ["us-west-2a", "us-west-2b"]),
    }
    assert view.labels == {
        "workload-type": "gpu-inference",
        "karpenter.sh/capacity-type": "spot",
        "karpenter.k8s.aws/ec2nodeclass": "gpu-nodes",
    }
    assert view.taints == (Taint("nvidia.com/gpu", "true", "NoSchedule"),)
    assert view.limits == {"cpu": 1_000_000, "memory": 4000 * GI, "nvidia.com/gpu": 32}
    assert (view.weight, view.replicas, view.min_values) == (10, None, {INSTANCE + "family": 2})
    assert (view.zones, view.capacity_types) == (("us-west-2a", "us-west-2b"), ("spot",))
    assert region_of_pool(view) == "us-west-2"


def test_a_v1beta1_pool_is_read_alike() -> None:
    old = POOL.replace("karpenter.sh/v1", "karpenter.sh/v1beta1").replace("group: karpenter.k8s.aws, ", "")
    view = node_pool_view(manifest(old))
    assert view.taints == (Taint("nvidia.com/gpu", "true", "NoSchedule"),)
    assert view.labels["karpenter.k8s.aws/ec2nodeclass"] == "gpu-nodes"


def test_a_pod() -> None:
    view = pod_of(POD)
    selector = of_labels({"workload-type": "gpu-inference"})
    cpu = INSTANCE + "cpu"
    assert view.requirements == (
        {**selector, ZONE: requirement(ZONE, "In", ["us-west-2a"])},
        {**selector, ZONE: requirement(ZONE, "In", ["us-west-2c"]), cpu: requirement(cpu, "Gt", ["7"])},
    )
    assert view.tolerations == (Toleration("nvidia.com/gpu", "Exists", "", "NoSchedule"),)
    # 7 and 50m, and the sidecar's 100m; the limit of GPUs counts as a request, that of CPUs beside a request does not.
    assert view.requests == {"cpu": 7150, "memory": 24 * GI + 64 * MI, "nvidia.com/gpu": 1}
    assert (view.name, view.priority_class, view.priority) == ("Deployment ai/llm", "high", None)


def test_pool_and_pod_together() -> None:
    found = place(pod_of(POD), node_pool_view(manifest(POOL)), TYPES)
    assert found.types == ("g6.2xlarge", "g5.2xlarge")
    assert placement_text(found) == ""


def test_the_affinity_of_a_pod() -> None:
    def terms(*items: Any) -> PodView:
        path = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(items)}}
        return of_spec({"nodeSelector": {"beta.kubernetes.io/arch": "arm64"}, "affinity": {"nodeAffinity": path}})

    arch = of_labels({"kubernetes.io/arch": "arm64"})
    assert terms({}).requirements == ()
    assert terms({}, {"matchExpressions": [{"key": "a", "operator": "Exists"}]}).requirements == (
        {**arch, "a": requirement("a", "Exists")},
    )
    assert terms({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}).requirements == (
        {**arch, "metadata.name": requirement("metadata.name", "In", ["n"])},
    )
    assert of_spec({}).requirements == ({},)


def test_auto_mode() -> None:
    text = POOL.replace("karpenter.k8s.aws", "eks.amazonaws.com").replace("EC2NodeClass", "NodeClass")
    view = node_pool_view(manifest(text))
    assert is_auto_mode(manifest(text))
    assert not is_auto_mode(manifest(POOL))
    assert view.labels["eks.amazonaws.com/compute-type"] == "auto"
    assert "karpenter.k8s.aws/ec2nodeclass" not in view.labels
    assert place(pod_of(POD.replace("karpenter.k8s.aws", "eks.amazonaws.com")), view, TYPES).types == (
        "g6.2xlarge",
        "g5.2xlarge",
    )
    assert not place(of_spec({"nodeSelector": {"karpenter.k8s.aws/instance-family": "g5"}}), view, TYPES).is_possible


@pytest.mark.parametrize(
    ("spec", "storage", "max_pods"),
    [
        ({}, 17 * GI, None),
        ({"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": "500Gi"}}]}, 449 * GI, None),
        (
            {
                "blockDeviceMappings": [
                    {"rootVolume": True, "ebs": {"volumeSize": "4Gi"}},
                    {"ebs": {"volumeSize": "100Gi"}},
                ],
                "kubelet": {"maxPods": 30},
            },
            2791728742,
            30,
        ),
        ({"blockDeviceMappings": [{"ebs": {"snapshotID": "snap-1"}}]}, None, None),
        ({"instanceStorePolicy": "RAID0"}, None, None),
    ],
)
def test_a_node_class_says_how_much_storage_and_how_many_pods(
    spec: dict[str, Any], storage: int | None, max_pods: int | None
) -> None:
    view = node_pool_view(manifest(POOL), of_data({"kind": "EC2NodeClass", "spec": spec}))
    assert (view.storage_bytes, view.max_pods) == (storage, max_pods)


def test_without_its_node_class_storage_is_unknown() -> None:
    assert node_pool_view(manifest(POOL)).storage_bytes is None


def test_a_static_pool() -> None:
    data = yaml.safe_load(POOL)
    data["spec"]["replicas"] = 4
    view = node_pool_view(of_data(data))
    assert view.replicas == 4
    assert {each.nodes for each in reachable(view, TYPES)} == {4}


def test_what_is_of_the_wrong_type_is_left_out() -> None:
    view = node_pool_view(
        manifest("""
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: [x]}
spec:
  weight: high
  replicas: true
  limits: {cpu: lots, memory: -1Gi, nvidia.com/gpu: 1.5, amd.com/gpu: "2"}
  template:
    metadata: {labels: {a: 1, b: two}}
    spec:
      nodeClassRef: none
      requirements:
      - nonsense
      - {key: a, operator: in, values: [x]}
      - {key: b, operator: Gt, values: [x]}
      - {key: c, operator: In, values: x}
      - {key: d, operator: In, values: [1, {}]}
      - {operator: Exists}
      taints: [{effect: NoSchedule}, {key: t, value: 1}]
""")
    )
    assert (view.name, view.weight, view.replicas) == ("", 0, None)
    assert view.limits == {"amd.com/gpu": 2}
    assert view.labels == {"b": "two"}
    assert view.requirements == {"d": requirement("d", "In", ["1"])}
    assert view.taints == (Taint("t", "", ""),)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["key", "operator", "values", "effect", "spec", "requests"]), inner)
    ),
    max_leaves=8,
)
POOL_KEYS = ("requirements", "taints", "nodeClassRef", "kubelet")
POD_KEYS = ("nodeSelector", "affinity", "tolerations", "containers", "initContainers", "overhead", "resources")


@given(st.fixed_dictionaries(dict.fromkeys(POOL_KEYS, TREES)), TREES, TREES)
def test_no_pool_is_too_broken_to_read(spec: Any, limits: Any, metadata: Any) -> None:
    data = {"kind": "NodePool", "spec": {"limits": limits, "template": {"metadata": metadata, "spec": spec}}}
    place(PodView(), node_pool_view(of_data(data), of_data({"spec": spec})), [])
    node_pool_view(of_data({"kind": "NodePool", "spec": {"template": limits}}))
    node_pool_view(of_data({"kind": "NodePool", "spec": metadata}))


@given(st.fixed_dictionaries(dict.fromkeys(POD_KEYS, TREES)))
def test_no_pod_is_too_broken_to_read(spec: Any) -> None:
    of_spec(spec)


def test_amounts_are_in_base_units() -> None:
    assert amounts({"cpu": 0.5, "memory": "1Gi", "nvidia.com/gpu": "1", "x": "y", 3: 4}) == {
        "cpu": 500,
        "memory": GI,
        "nvidia.com/gpu": 1,
    }
    assert amounts(["cpu"]) == {}


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-west-2a", "us-west-2"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("ap-southeast-1c", "ap-southeast-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("usw2-az1", None),
        ("zone-a", None),
        ("", None),
    ],
)
def test_the_region_of_a_zone(zone: str, region: str | None) -> None:
    assert region_of(zone) == region


def test_a_pool_across_regions_or_without_zones_has_none() -> None:
    def of_zones(*zones: str) -> str | None:
        data = yaml.safe_load(POOL)
        data["spec"]["template"]["spec"]["requirements"] = [{"key": ZONE, "operator": "In", "values": list(zones)}]
        return region_of_pool(node_pool_view(of_data(data)))

    assert of_zones("us-east-1a", "us-east-1f") == "us-east-1"
    assert of_zones("us-east-1a", "us-west-2a") is None
    data = yaml.safe_load(POOL)
    data["spec"]["template"]["spec"]["requirements"] = []
    assert region_of_pool(node_pool_view(of_data(data))) is None


def test_daemons_of_the_manifests() -> None:
    daemons = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: exporter}
spec:
  template:
    spec:
      tolerations: [{key: nvidia.com/gpu, operator: Exists}]
      containers: [{name: a, resources: {limits: {cpu: 100m, memory: 128Mi}}}]
"""
    view = node_pool_view(manifest(POOL))
    assert daemon_overhead(view, [pod_of(daemons)]) == {"cpu": 100, "memory": 128 * MI, "pods": 1}
    assert daemon_overhead(view, [pod_of(daemons.replace("nvidia.com/gpu", "other"))]) == {}


def test_the_reason_in_words() -> None:
    view = node_pool_view(manifest(POOL))
    found = place(pod_of(POD.replace('cpu: "7", memory: 24Gi', 'cpu: "8", memory: 32Gi')), view, TYPES)
    assert placement_text(found) == (
        "g6.2xlarge comes closest: cpu: 8150m wanted, 7910m there, memory: 32.1Gi wanted, 28.6Gi there; "
        "g6.4xlarge or g4dn.4xlarge would do"
    )
    other = place(of_spec({"nodeSelector": {"workload-type": "cpu"}}), view, TYPES)
    assert placement_text(other) == (
        "taint nvidia.com/gpu=true:NoSchedule is not tolerated; workload-type: cpu wanted, gpu-inference there"
    )
    huge = place(of_spec({"containers": [{"resources": {"requests": {"cpu": "1000"}}}]}), view, TYPES)
    assert nearest_text(huge) == "no instance type would do"


@pytest.mark.parametrize(
    ("blocker", "text"),
    [
        (Blocker("memory", "memory", 30741102593, 30741102592), "memory: 30741102593 wanted, 30741102592 there"),
        (Blocker("gpu", "nvidia.com/gpu", 8, 4), "nvidia.com/gpu: 8 wanted, 4 there"),
        (
            Blocker("limit", "memory", 2048 * GI, 1024 * GI),
            "limit of memory: one node counts 2Ti, the pool allows 1Ti",
        ),
        (Blocker("label", "team", "a", ""), "team: a wanted, and no node here has that label"),
        (Blocker("affinity", "", "", ""), "the required node affinity matches no node"),
        (Blocker("pool", "", "", ""), "no instance type meets the pool's own requirements"),
        (
            Blocker("pool", "karpenter.sh/capacity-type", "on-demand", "spot"),
            "the pool contradicts itself: karpenter.sh/capacity-type is to be on-demand, and is spot",
        ),
        (Blocker("min-values", "family", 3, 2), "family: minValues 3, and the types that fit have 2"),
    ],
)
def test_each_kind_of_blocker_in_words(blocker: Blocker, text: str) -> None:
    assert blocker_text(blocker) == text
