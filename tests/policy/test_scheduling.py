"""Which node kube-scheduler chooses, whom it pushes away, and who leaves first. Expected values are worked out by hand
from the rules in the docstrings of `policy`."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog.ec2 import instance_types
from stoker.policy.cluster import DisruptionBudget, Node, NodeTerm, Pod, PodShape, PodTerm, Spread
from stoker.policy.downscale import Candidate, in_order
from stoker.policy.fitting import asked
from stoker.policy.placement import PodView
from stoker.policy.requirements import Requirements, of_labels, requirement
from stoker.policy.scheduling import Preemption, bind, first_to_leave, preempt
from stoker.policy.scoring import by_affinity, by_pods, by_resources, by_spread, by_taints, scores
from stoker.policy.taints import BLOCKING, Taint, Toleration

GI = 1024**3
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
GPU = "nvidia.com/gpu"
GPU_TAINT = Taint(GPU, "true")
TYPE = instance_types()["g5.xlarge"]
WEB = {"app": "web"}
ANY_WEB = of_labels(WEB)


def shape(
    cpu: int = 1000,
    memory: int = GI,
    *,
    gpus: int = 0,
    requirements: tuple[Requirements, ...] = ({},),
    tolerations: tuple[Toleration, ...] = (),
    priority: int | None = None,
    **more: Any,
) -> PodShape:
    requests = {"cpu": cpu, "memory": memory} | ({GPU: gpus} if gpus else {})
    view = PodView("", requirements, tolerations, {key: n for key, n in requests.items() if n}, priority)
    return PodShape(view, **more)


def node(
    name: str,
    *,
    zone: str = "a",
    cpu: int = 10_000,
    memory: int = 10 * GI,
    gpus: int = 0,
    pods: int = 10,
    taints: tuple[Taint, ...] = (),
    ready_at: float | None = 0.0,
    daemons: Mapping[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Node:
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods} | ({GPU: gpus} if gpus else {})
    known = {HOST: name, ZONE: zone} | dict(labels or {})
    made = Node(name, "pool", TYPE, zone, "on-demand", 1.0, known, taints, allocatable, 0.0, daemons or {})
    made.ready_at = ready_at
    return made


def put(on: Node, *shapes: PodShape, ready_at: float | None = 20.0, bound_at: float = 10.0) -> list[Pod]:
    made = []
    for each in shapes:
        pod = Pod(f"{on.name}-{len(on.pods)}", each, 5.0, on.name, bound_at, ready_at)
        on.pods[pod.name] = pod
        for key, amount in asked(each):
            on.used[key] = on.used.get(key, 0) + amount
        made.append(pod)
    return made


def new(of: PodShape, name: str = "new") -> Pod:
    return Pod(name, of, 100.0)


# --- filters ----------------------------------------------------------------------------------------------------------


def test_each_filter_has_its_reason() -> None:
    full = node("full")
    put(full, shape(cpu=9500, memory=9 * GI + GI // 2))
    crowded = node("crowded", pods=1)
    put(crowded, shape(cpu=10))
    nodes = [
        node("coming", ready_at=None),
        node("tainted", taints=(GPU_TAINT,)),
        node("elsewhere", zone="b"),
        full,
        crowded,
        node("fits"),
    ]
    leaving = node("leaving")
    leaving.leaving_since = 50.0
    asking = shape(requirements=(of_labels({ZONE: "a"}),))
    found = bind(new(asking), [*nodes, leaving])
    assert found.node == "fits"
    assert found.against == {
        "node(s) had untolerated taint {node.kubernetes.io/not-ready: }": 1,
        "node(s) had untolerated taint {nvidia.com/gpu: true}": 1,
        "node(s) didn't match Pod's node affinity/selector": 1,
        "Insufficient cpu": 1,
        "Insufficient memory": 1,
        "Too many pods": 1,
        "node(s) were unschedulable": 1,
    }


def test_no_node_at_all() -> None:
    found = bind(new(shape()), [])
    assert found.node is None
    assert found.against == {}


def test_gpus_are_whole_and_those_of_other_pods_are_gone() -> None:
    gpus = node("gpus", gpus=4)
    put(gpus, shape(gpus=3))
    assert bind(new(shape(gpus=1)), [gpus]).node == "gpus"
    assert bind(new(shape(gpus=2)), [gpus, node("none")]).against == {"Insufficient nvidia.com/gpu": 2}


def test_what_daemon_sets_take_is_not_there() -> None:
    small = node("small", cpu=2000, daemons={"cpu": 1001, "pods": 1})
    assert bind(new(shape(cpu=1000)), [small]).against == {"Insufficient cpu": 1}
    assert bind(new(shape(cpu=999)), [small]).node == "small"
    one = node("one", pods=1, daemons={"pods": 1})
    assert bind(new(shape()), [one]).against == {"Too many pods": 1}


def test_a_request_for_nothing_of_what_is_not_there_fits_and_unknown_storage_counts_as_there() -> None:
    view = PodView(requests={GPU: 0, "ephemeral-storage": 50 * GI})
    assert bind(new(PodShape(view)), [node("n")]).node == "n"
    known = node("known")
    known.allocatable = {**known.allocatable, "ephemeral-storage": 40 * GI}
    assert bind(new(PodShape(view)), [known]).against == {"Insufficient ephemeral-storage": 1}


def test_a_taint_that_is_only_disliked_keeps_nobody_off_and_a_toleration_lets_in() -> None:
    disliked = node("disliked", taints=(Taint("spot", "", "PreferNoSchedule"),))
    assert bind(new(shape()), [disliked]).node == "disliked"
    gpus = node("gpus", taints=(GPU_TAINT, Taint("team", "a", "NoExecute")))
    tolerant = shape(tolerations=(Toleration(GPU, "Exists"),))
    assert bind(new(tolerant), [gpus]).against == {"node(s) had untolerated taint {team: a}": 1}
    both = shape(tolerations=(Toleration(GPU, "Exists"), Toleration("team", "Equal", "a")))
    assert bind(new(both), [gpus]).node == "gpus"


def test_one_of_the_alternatives_of_required_affinity_is_enough() -> None:
    either = shape(requirements=(of_labels({ZONE: "c"}), {"n": requirement("n", "Gt", ["4"])}))
    nodes = [node("few", labels={"n": "4"}), node("many", labels={"n": "5"}), node("bare")]
    assert bind(new(either), nodes).node == "many"
    assert bind(new(shape(requirements=())), nodes).node is None


def spread(key: str = ZONE, most: int = 1, **more: Any) -> Spread:
    return Spread(key, most, ANY_WEB, **more)


def three_zones(*counts: int, of: PodShape) -> list[Node]:
    nodes = [node(f"n-{zone}", zone=zone) for zone in "abc"[: len(counts)]]
    for each, n in zip(nodes, counts, strict=True):
        put(each, *[of] * n)
    return nodes


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ((1, 1, 0), 1, {"n-c"}),  # 1 + 1 - 0 = 2 > 1 in a and b
        ((1, 1, 1), 1, {"n-a", "n-b", "n-c"}),
        ((2, 1, 0), 2, {"n-b", "n-c"}),
        ((3, 3, 0), 3, {"n-c"}),
        ((3, 2, 0), 3, {"n-b", "n-c"}),
    ],
)
def test_a_required_spread_keeps_the_skew(counts: tuple[int, ...], most: int, expected: set[str]) -> None:
    web = shape(cpu=10, labels=WEB, spread=(spread(most=most),))
    nodes = three_zones(*counts, of=web)
    allowed = {each.name for each in nodes if _fits(web, each, nodes)}
    assert allowed == expected
    assert bind(new(web), nodes).node in expected
    assert sum(bind(new(web), nodes).against.values()) == 3 - len(expected)


def test_pods_that_are_leaving_or_of_another_namespace_do_not_count_for_spread() -> None:
    web = shape(cpu=10, labels=WEB, spread=(spread(),))
    nodes = three_zones(1, 0, of=web)
    assert bind(new(web), nodes).node == "n-b"
    put(nodes[1], web)[0].leaving_since = 50.0
    put(nodes[1], shape(cpu=10, labels=WEB, namespace="other"))
    assert bind(new(web), nodes).node == "n-b"
    assert bind(new(web), nodes).against == {"node(s) didn't match pod topology spread constraints": 1}


def test_a_pod_that_its_own_constraint_does_not_count_adds_nothing_to_the_skew() -> None:
    other = shape(cpu=10, labels={"app": "other"}, spread=(spread(),))
    nodes = three_zones(1, 0, of=shape(cpu=10, labels=WEB))
    assert bind(new(other), nodes).against == {}


def test_with_fewer_domains_than_min_domains_the_fewest_are_none() -> None:
    two = shape(cpu=10, labels=WEB, spread=(spread(min_domains=2),))
    three = shape(cpu=10, labels=WEB, spread=(spread(min_domains=3),))
    nodes = three_zones(1, 1, of=two)
    assert bind(new(two), nodes).node == "n-a"
    assert bind(new(three), nodes).against == {"node(s) didn't match pod topology spread constraints": 2}


def test_a_node_without_the_label_is_no_domain_and_no_choice() -> None:
    web = shape(cpu=10, labels=WEB, spread=(spread("rack"),))
    racked, bare = node("racked", labels={"rack": "1"}), node("bare")
    put(bare, web)
    found = bind(new(web), [racked, bare])
    assert found.node == "racked"
    assert found.against == {"node(s) didn't match pod topology spread constraints (missing required label)": 1}


def test_a_node_without_the_label_of_one_constraint_is_a_domain_of_none() -> None:
    """Zone b is empty, but its node has no rack: the fewest in a zone are then those of a."""
    web = shape(cpu=10, labels=WEB, spread=(spread(), spread("rack")))
    racked, bare = node("racked", labels={"rack": "1"}), node("bare", zone="b")
    put(racked, web)
    assert bind(new(web), [racked, bare]).node == "racked"


def test_only_nodes_that_the_pod_could_go_to_are_domains_unless_it_says_otherwise() -> None:
    """nodeAffinityPolicy: with Honor zone b, empty and not allowed, is no domain; with Ignore it is the emptiest."""
    in_a: tuple[Requirements, ...] = (of_labels({ZONE: "a"}),)
    honors = shape(cpu=10, labels=WEB, spread=(spread(),), requirements=in_a)
    ignores = shape(cpu=10, labels=WEB, spread=(spread(honor_affinity=False),), requirements=in_a)
    nodes = three_zones(1, 0, of=shape(cpu=10, labels=WEB))
    assert bind(new(honors), nodes).node == "n-a"
    assert bind(new(ignores), nodes).against == {
        "node(s) didn't match pod topology spread constraints": 1,
        "node(s) didn't match Pod's node affinity/selector": 1,
    }


def test_tainted_nodes_are_domains_unless_taints_are_honoured() -> None:
    ignores = shape(cpu=10, labels=WEB, spread=(spread(),))
    honors = shape(cpu=10, labels=WEB, spread=(spread(honor_taints=True),))
    nodes = three_zones(1, 0, of=ignores)
    nodes[1].taints = (GPU_TAINT,)
    assert bind(new(ignores), nodes).node is None
    assert bind(new(honors), nodes).node == "n-a"


def test_a_node_that_is_still_coming_is_no_domain_and_one_that_is_leaving_is() -> None:
    web = shape(cpu=10, labels=WEB, spread=(spread(HOST),))
    there, coming, leaving = node("there"), node("coming", ready_at=None), node("leaving")
    put(there, web)
    assert bind(new(web), [there, coming]).node == "there"
    leaving.leaving_since = 30.0
    assert bind(new(web), [there, leaving]).node is None


def term(key: str = ZONE, *, labels: Mapping[str, str] = WEB, **more: Any) -> PodTerm:
    return PodTerm(key, of_labels(labels), more.pop("namespaces", ("default",)), **more)


def test_anti_affinity_holds_in_both_directions() -> None:
    alone = shape(cpu=10, labels={"app": "alone"}, anti_affinity=(term(),))
    web = shape(cpu=10, labels=WEB)
    nodes = [node("n-a"), node("n-b", zone="b")]
    put(nodes[0], web)
    assert bind(new(alone), nodes).node == "n-b"
    assert bind(new(alone), nodes).against == {"node(s) didn't match pod anti-affinity rules": 1}
    put(nodes[1], alone)
    found = bind(new(web), nodes)
    assert found.node == "n-a"
    assert found.against == {"node(s) didn't satisfy existing pods anti-affinity rules": 1}


def test_anti_affinity_is_about_the_namespaces_that_it_names() -> None:
    alone = shape(cpu=10, anti_affinity=(term(namespaces=("other",)),))
    own = shape(cpu=10, anti_affinity=(term(namespaces=()),))
    nodes = [node("n-a")]
    put(nodes[0], shape(cpu=10, labels=WEB))
    assert bind(new(alone), nodes).node == "n-a"
    assert bind(new(own), nodes).node is None


def test_affinity_wants_a_pod_that_all_its_terms_are_about() -> None:
    near = shape(cpu=10, affinity=(term(), term(HOST, labels={"tier": "db"})))
    a, b = node("n-a"), node("n-b", zone="b")
    put(a, shape(cpu=10, labels=WEB), shape(cpu=10, labels={"tier": "db"}))
    put(b, shape(cpu=10, labels={**WEB, "tier": "db"}))
    found = bind(new(near), [a, b])
    assert found.node == "n-b"
    assert found.against == {"node(s) didn't match pod affinity rules": 1}


def test_the_first_of_a_kind_that_seeks_its_own_goes_anywhere_with_the_label() -> None:
    group = shape(cpu=10, labels=WEB, affinity=(term("rack"),))
    racked, bare = node("racked", labels={"rack": "1"}), node("bare")
    assert bind(new(group), [bare, racked]).node == "racked"
    assert bind(new(shape(cpu=10, affinity=(term("rack"),))), [racked]).node is None
    put(racked, group)
    second = node("second", labels={"rack": "2"})
    found = bind(new(group), [second, racked])
    assert found.node == "racked"
    assert found.against == {"node(s) didn't match pod affinity rules": 1}


# --- scores -----------------------------------------------------------------------------------------------------------


def test_least_allocated_and_balanced() -> None:
    """cpu 2000 + 1000 of 10000: 70; memory 5 + 1 of 10 Gi: 40; mean 55. Balance: 1 - |0.3 - 0.6| / 2 = 0.85. An empty
    node: (90 + 90) / 2 + 100."""
    used = node("used")
    put(used, shape(cpu=2000, memory=5 * GI))
    assert by_resources(shape(), [used, node("empty")]) == [55 + 85, 90 + 100]


def test_a_pod_without_requests_counts_a_little_and_has_no_balance() -> None:
    """100 m of 10000 is 1 %; 200 Mi of 10 Gi 1.95 %, so 98 (of whole numbers)."""
    assert by_resources(shape(cpu=0, memory=0), [node("n")]) == [(99 + 98) // 2]


def test_what_daemon_sets_take_counts_as_used() -> None:
    assert by_resources(shape(cpu=1000, memory=0), [node("n", daemons={"cpu": 4000})]) == [(50 + 98) // 2 + 75]


def test_memory_of_daemon_sets_counts_as_used() -> None:
    assert by_resources(shape(cpu=0, memory=GI), [node("n", daemons={"memory": 4 * GI})]) == [(99 + 50) // 2 + 75]


def test_preferred_node_affinity_by_the_highest_sum() -> None:
    prefers = shape(preferred=(NodeTerm(of_labels({ZONE: "a"}), 60), NodeTerm(of_labels({"fast": "yes"}), 30)))
    nodes = [node("a"), node("fast", labels={"fast": "yes"}), node("slow", zone="b")]
    assert by_affinity(prefers, nodes) == [66, 100, 0]
    assert by_affinity(shape(), nodes) is None


def test_disliked_taints_by_their_number() -> None:
    dislikes = Taint("x", "", "PreferNoSchedule"), Taint("y", "", "PreferNoSchedule")
    nodes = [node("none"), node("one", taints=dislikes[:1]), node("two", taints=dislikes)]
    assert by_taints(shape(), nodes) == [100, 50, 0]
    # A toleration of NoSchedule alone is not one of PreferNoSchedule.
    assert by_taints(shape(tolerations=(Toleration("x", "Exists", "", "NoSchedule"),)), nodes) == [100, 50, 0]
    assert by_taints(shape(tolerations=(Toleration("x", "Exists"),)), nodes) == [100, 100, 0]
    assert by_taints(shape(), nodes[:1]) is None


def test_wished_for_spread() -> None:
    """Three zones: ln 5 = 1.609. a: 2 pods -> 3.2, b: 1 -> 1.6, c: 0; rounded 3, 2, 0. 100 * (3 + 0 - s) / 3."""
    web = shape(cpu=10, labels=WEB, spread=(spread(is_required=False),))
    nodes = three_zones(2, 1, 0, of=web)
    assert by_spread(web, nodes, nodes) == [0, 33, 100]


def test_wished_for_spread_over_nodes_counts_each_alone_and_nodes_without_the_label_come_last() -> None:
    web = shape(cpu=10, labels=WEB, spread=(spread(is_required=False), spread("rack", is_required=False)))
    nodes = [node("x", labels={"rack": "1"}), node("y", labels={"rack": "2"}), node("bare")]
    put(nodes[0], web)
    # x: zone a 1 * ln 3 + rack 1 * ln 4 = 2.48 -> 2; y: 1.10 -> 1. 100 * (2 + 1 - s) / 2.
    assert by_spread(web, nodes, nodes) == [50, 100, 0]


def test_a_pod_without_spread_is_spread_among_its_replica_set() -> None:
    """Two nodes in one zone, one in another. Hostname: ln(3 + 2) a pod + 2; zone: ln(2 + 2) a pod + 4.
    a1: 2 * 1.609 + 2 + 2 * 1.386 + 4 = 11.99 -> 12; a2: 2 + 2.77 + 4 = 8.77 -> 9; b: 6. 100 * (12 + 6 - s) / 12."""
    web = shape(cpu=10, labels=WEB, replica_set="web-1")
    nodes = [node("a1"), node("a2"), node("b", zone="b")]
    put(nodes[0], web, web, shape(cpu=10, labels=WEB, replica_set="web-2"))
    put(nodes[1], web)[0].leaving_since = 50.0
    assert by_spread(web, nodes, nodes) == [50, 75, 100]
    assert by_spread(shape(), nodes, nodes) is None
    strict = shape(cpu=10, labels=WEB, replica_set="web-1", spread=(spread(most=9),))
    assert by_spread(strict, nodes, nodes) is None


def test_nodes_that_the_pod_could_not_go_to_do_not_count_for_spread() -> None:
    """In zone a only x is allowed: what y holds is not counted, so a (1 pod) is as good as b (1 pod). By hand for the
    ReplicaSet: a node of x has 1, of z 1, and so each zone."""
    disks: tuple[Requirements, ...] = (of_labels({"disk": "fast"}),)
    wished = shape(cpu=10, labels=WEB, spread=(spread(is_required=False),), requirements=disks)
    of_set = shape(cpu=10, labels=WEB, replica_set="web-1", requirements=disks)
    x, y = node("x", labels={"disk": "fast"}), node("y")
    z = node("z", zone="b", labels={"disk": "fast"})
    for on, count in ((x, 1), (y, 3), (z, 1)):
        put(on, *[of_set] * count)
    assert by_spread(wished, [x, z], [x, y, z]) == [100, 100]
    assert by_spread(of_set, [x, z], [x, y, z]) == [100, 100]


def test_wishes_about_other_pods() -> None:
    """a: +50 for web; b: -20 for db; c: a pod there with a required affinity to this one counts 1.
    Highest 50, lowest -20: (x + 20) / 70."""
    likes = shape(
        cpu=10,
        labels={"app": "me"},
        affinity=(term(is_required=False, weight=50),),
        anti_affinity=(term(labels={"tier": "db"}, is_required=False, weight=20),),
    )
    nodes = [node("n-a"), node("n-b", zone="b"), node("n-c", zone="c"), node("n-d", zone="d")]
    put(nodes[0], shape(cpu=10, labels=WEB))
    put(nodes[1], shape(cpu=10, labels={"tier": "db"}))
    put(nodes[2], shape(cpu=10, affinity=(term(labels={"app": "me"}),)))
    assert by_pods(likes, nodes, nodes) == [100, 0, 30, 28]
    assert by_pods(shape(), nodes, nodes) is None


def test_wishes_of_the_pods_that_are_there_count_too() -> None:
    web = shape(cpu=10, labels=WEB)
    nodes = [node("n-a"), node("n-b", zone="b"), node("n-c", zone="c")]
    put(nodes[0], shape(cpu=10, anti_affinity=(term(is_required=False, weight=10),)))
    put(nodes[1], shape(cpu=10, affinity=(term(is_required=False, weight=10),)))
    assert by_pods(web, nodes, nodes) == [0, 100, 50]
    assert bind(new(web), nodes).node == "n-b"


def test_weights_of_the_scores() -> None:
    """Empty equal nodes: 90 + 100. Then 3 * taints, 2 * affinity, 2 * pods."""
    prefers = shape(preferred=(NodeTerm(of_labels({ZONE: "b"}), 1),))
    plain, disliked = node("n-a"), node("n-b", zone="b", taints=(Taint("x", "", "PreferNoSchedule"),))
    assert scores(prefers, [plain, disliked], [plain, disliked]) == [190 + 300, 190 + 200]
    assert bind(new(prefers), [plain, disliked]).node == "n-a"


def test_of_equal_nodes_the_first_by_name() -> None:
    assert bind(new(shape()), [node("m"), node("b"), node("z")]).node == "b"


# --- every filter, again ----------------------------------------------------------------------------------------------


def _fits(of: PodShape, on: Node, nodes: Sequence[Node]) -> bool:
    """All filters once more, from their definitions, one pod and one pair of nodes at a time."""
    if on.ready_at is None or on.leaving_since is not None:
        return False
    return _takes(of, on) and _is_spread(of, on, nodes) and _likes_company(of, on, nodes)


def _takes(of: PodShape, on: Node) -> bool:
    for taint in on.taints:
        if taint.effect in BLOCKING and not any(each.covers(taint) for each in of.view.tolerations):
            return False
    if not _is_allowed(of, on):
        return False
    there: dict[str, int] = dict(on.daemons)
    for each in [pod.shape for pod in on.pods.values()] + [of]:
        for key, amount in {**each.requests, "pods": 1}.items():
            there[key] = there.get(key, 0) + amount
    return all(there.get(key, 0) <= on.allocatable.get(key, 0) for key in {**of.requests, "pods": 1})


def _is_allowed(of: PodShape, on: Node) -> bool:
    return any(all(one.allows(on.labels.get(key)) for key, one in each.items()) for each in of.view.requirements)


def _is_about(selector: Requirements, namespaces: Iterable[str], other: PodShape) -> bool:
    return other.namespace in namespaces and all(one.allows(other.labels.get(key)) for key, one in selector.items())


def _is_spread(of: PodShape, on: Node, nodes: Sequence[Node]) -> bool:
    required = [each for each in of.spread if each.is_required]
    for each in required:
        if each.key not in on.labels:
            return False
        domains: dict[str, int] = {}
        for other in nodes:
            if other.ready_at is None or not all(one.key in other.labels for one in required):
                continue
            if each.honor_affinity and not _is_allowed(of, other):
                continue
            tolerated = [
                any(one.covers(t) for one in of.view.tolerations) for t in other.taints if t.effect in BLOCKING
            ]
            if each.honor_taints and not all(tolerated):
                continue
            value = other.labels[each.key]
            own = [pod for pod in other.pods.values() if pod.leaving_since is None]
            domains.setdefault(value, 0)
            domains[value] += sum(_is_about(each.selector, (of.namespace,), pod.shape) for pod in own)
        least = min(domains.values(), default=0) if len(domains) >= each.min_domains else 0
        mine = 1 if _is_about(each.selector, (of.namespace,), of) else 0
        if domains.get(on.labels[each.key], 0) + mine - least > each.max_skew:
            return False
    return True


def _likes_company(of: PodShape, on: Node, nodes: Sequence[Node]) -> bool:
    there = [(pod.shape, other) for other in nodes if other.ready_at is not None for pod in other.pods.values()]

    def share(a: Node, b: Node, key: str) -> bool:
        return key in a.labels and a.labels.get(key) == b.labels.get(key)

    for each, other in there:
        for of_one, about in ((each, of), (of, each)):
            for one in of_one.anti_affinity:
                if one.is_required and _is_about(one.selector, one.namespaces, about) and share(on, other, one.key):
                    return False
    sought = [one for one in of.affinity if one.is_required]
    if not all(one.key in on.labels for one in sought):
        return False
    good = [other for each, other in there if all(_is_about(one.selector, one.namespaces, each) for one in sought)]
    if all(any(share(on, other, one.key) for other in good) for one in sought):
        return True
    # Nobody that it seeks is anywhere, and it seeks its own kind.
    nobody = not any(one.key in other.labels for other in good for one in sought)
    return nobody and all(_is_about(one.selector, one.namespaces, of) for one in sought)


KEYS = (HOST, ZONE, "rack")
LABELS = st.sampled_from([{}, {"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"}])
SELECTORS = st.sampled_from(
    [of_labels({"app": "a"}), {"app": requirement("app", "NotIn", ["a"])}, {"tier": requirement("tier", "Exists")}]
)
TERMS = st.builds(
    PodTerm,
    st.sampled_from(KEYS),
    SELECTORS,
    st.sampled_from([("default",), ("other",), ("default", "other")]),
    st.booleans(),
    st.integers(1, 100),
)
SPREADS = st.builds(
    Spread,
    st.sampled_from(KEYS),
    st.integers(1, 2),
    SELECTORS,
    st.booleans(),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
TAINTS = st.sampled_from([(), (), (Taint("t", "1"),), (Taint("t", "1", "PreferNoSchedule"),), (Taint("u"),)])


def some(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=1).map(tuple) | st.lists(of, max_size=2).map(tuple)


SHAPES = st.builds(
    shape,
    st.sampled_from([0, 500, 2000]),
    st.sampled_from([0, GI]),
    gpus=st.integers(0, 1),
    requirements=st.sampled_from(
        [({},), ({},), (of_labels({ZONE: "a"}),), (of_labels({ZONE: "b"}), of_labels({"rack": "1"}))]
    ),
    tolerations=st.sampled_from([(), (Toleration("t", "Exists"),), (Toleration("", "Exists"),)]),
    namespace=st.sampled_from(["default", "default", "other"]),
    labels=LABELS,
    replica_set=st.sampled_from(["", "r1", "r2"]),
    spread=some(SPREADS),
    affinity=some(TERMS),
    anti_affinity=some(TERMS),
)


@st.composite
def clusters(draw: st.DrawFn) -> list[Node]:
    shapes = draw(st.lists(SHAPES, min_size=1, max_size=4))
    nodes = []
    for i in range(draw(st.integers(1, 5))):
        rack = draw(st.sampled_from([{}, {"rack": "1"}, {"rack": "2"}]))
        made = node(
            f"n{i}",
            zone=draw(st.sampled_from("abc")),
            cpu=draw(st.sampled_from([2000, 4000])),
            memory=4 * GI,
            gpus=draw(st.integers(0, 2)),
            pods=draw(st.integers(1, 4)),
            taints=draw(TAINTS),
            labels=rack,
        )
        for each in draw(st.lists(st.sampled_from(shapes), max_size=3)):
            pod = put(made, each)[0]
            pod.leaving_since = 50.0 if draw(st.integers(0, 5)) == 0 else None
        if not made.pods and draw(st.integers(0, 4)) == 0:
            made.ready_at = None
        made.leaving_since = 60.0 if draw(st.integers(0, 6)) == 0 else None
        nodes.append(made)
    return nodes


@settings(max_examples=examples(85), deadline=None)
@given(SHAPES, clusters())
def test_what_is_chosen_satisfies_every_filter_and_what_is_not_does_not(of: PodShape, nodes: list[Node]) -> None:
    found = bind(new(of), nodes)
    able = {each.name for each in nodes if _fits(of, each, nodes)}
    if able:
        assert found.node in able
    else:
        assert found.node is None
    assert sum(found.against.values()) >= len(nodes) - len(able)


# --- preemption -------------------------------------------------------------------------------------------------------


def test_the_least_important_pods_go_and_only_as_many_as_must() -> None:
    n = node("n", cpu=4000)
    put(n, shape(priority=5), shape(priority=1), shape(priority=3), shape(priority=9))
    high = shape(cpu=2000, priority=8)
    assert bind(new(high), [n]).node is None
    assert preempt(new(high), [n]) == Preemption("n", ("n-2", "n-1"))


def test_nobody_goes_for_one_of_the_same_priority_nor_where_it_would_not_help() -> None:
    n = node("n", cpu=1000, gpus=1)
    put(n, shape(priority=5))
    assert preempt(new(shape(priority=5)), [n]) is None
    assert preempt(new(shape(gpus=2, priority=9)), [n]) is None
    assert preempt(new(shape(priority=9, requirements=(of_labels({ZONE: "b"}),))), [n]) is None
    assert preempt(new(shape(priority=9, may_preempt=False)), [n]) is None
    assert preempt(new(shape(priority=9)), [n]) == Preemption("n", ("n-0",))


def crowd(name: str, *priorities: int, bound_at: float = 10.0, labels: Mapping[str, str] = WEB) -> Node:
    made = node(name, cpu=1000 * len(priorities))
    put(made, *(shape(priority=each, labels=labels) for each in priorities), bound_at=bound_at)
    return made


def test_which_node_is_chosen_first_by_the_highest_victim_then_the_sum_then_how_many_then_the_latest_start() -> None:
    high = new(shape(cpu=1000, priority=100))
    big = new(shape(cpu=2000, priority=100))
    assert preempt(high, [crowd("a", 7), crowd("b", 5), crowd("c", 6)]) == Preemption("b", ("b-0",))
    assert preempt(big, [crowd("a", 5, 4), crowd("b", 5, 3), crowd("c", 5, 5)]) == Preemption("b", ("b-0", "b-1"))
    # The sum counts from the lowest priority there is, so two that sum to less than one are still more.
    single = node("a", cpu=2000)
    put(single, shape(cpu=2000, priority=5))
    assert preempt(big, [single, crowd("b", 5, -5)]) == Preemption("a", ("a-0",))
    assert preempt(high, [crowd("a", 5, bound_at=10), crowd("b", 5, bound_at=30)]) == Preemption("b", ("b-0",))
    assert preempt(high, [crowd("b", 5), crowd("a", 5)]) == Preemption("a", ("a-0",))


def test_a_node_where_no_budget_is_violated_comes_before_one_with_less_important_pods() -> None:
    budget = DisruptionBudget("web", "default", ANY_WEB, max_unavailable=0)
    high = new(shape(cpu=1000, priority=100))
    nodes = [crowd("a", 1), crowd("b", 9, labels={"app": "other"})]
    assert preempt(high, nodes) == Preemption("a", ("a-0",))
    assert preempt(high, nodes, [budget]) == Preemption("b", ("b-0",))
    # Where there is no other way a budget does not hold kube-scheduler back.
    assert preempt(high, nodes[:1], [budget]) == Preemption("a", ("a-0",))


def test_those_that_a_budget_holds_are_let_stay_first() -> None:
    """One web pod may be away, so the second to go would violate; it stays, and the more important one goes."""
    n = node("n", cpu=3000)
    put(n, shape(priority=1, labels=WEB), shape(priority=1, labels=WEB), shape(priority=2))
    budget = DisruptionBudget("web", "default", ANY_WEB, max_unavailable=1)
    high = new(shape(cpu=2000, priority=9))
    assert preempt(high, [n]) == Preemption("n", ("n-0", "n-1"))
    assert preempt(high, [n], [budget]) == Preemption("n", ("n-2", "n-0"))


def test_a_budget_without_a_selector_and_pods_without_labels_play_no_part_in_preemption() -> None:
    everyone = DisruptionBudget("all", "default", {}, max_unavailable=0)
    unlike = DisruptionBudget("not db", "default", {"app": requirement("app", "NotIn", ["db"])}, max_unavailable=0)
    high = new(shape(cpu=1000, priority=100))
    nodes = [crowd("a", 1), crowd("b", 9, labels={})]
    assert preempt(high, nodes, [everyone]) == Preemption("a", ("a-0",))
    assert preempt(high, nodes, [unlike]) == Preemption("b", ("b-0",))


def test_pods_that_wait_count_as_expected_by_a_budget() -> None:
    """Three are expected and two are there: with at most one away none may go, and the other node is chosen."""
    budget = DisruptionBudget("web", "default", ANY_WEB, max_unavailable=1)
    nodes = [crowd("a", 1), crowd("b", 1), crowd("c", 9, labels={"app": "other"})]
    high = new(shape(cpu=1000, priority=100))
    waits = Pod("waits", shape(labels=WEB), 50.0)
    assert preempt(high, nodes, [budget]) == Preemption("a", ("a-0",))
    assert preempt(high, nodes, [budget], [waits]) == Preemption("c", ("c-0",))


def test_where_enough_are_leaving_already_they_are_waited_for() -> None:
    nodes = [crowd("a", 1), crowd("b", 5)]
    nodes[1].pods["b-0"].leaving_since = 90.0
    assert preempt(new(shape(cpu=1000, priority=9)), nodes) == Preemption("b", ("b-0",))
    assert preempt(new(shape(cpu=1000, priority=4)), nodes) == Preemption("a", ("a-0",))


def test_a_pod_goes_whose_anti_affinity_is_in_the_way() -> None:
    n = node("n")
    put(n, shape(priority=1, anti_affinity=(term(HOST),)), shape(priority=1))
    assert preempt(new(shape(priority=2, labels=WEB)), [n]) == Preemption("n", ("n-0",))


# --- who leaves -------------------------------------------------------------------------------------------------------


def test_reference_2_7_who_leaves_first() -> None:
    """Each stands before the next for one reason: the order of the list is the order of the rules."""
    base = {"created_at": 0.0, "ready_at": 100.0}
    listed = [
        Candidate("unbound", 0.0, None, is_bound=False, is_running=False),
        Candidate("pending", 0.0, None, is_running=False),
        Candidate("unready", 0.0, None),
        Candidate("cheap", **base, deletion_cost=-1),
        Candidate("together", **base, beside=3),
        Candidate("fresh", 0.0, 9000.0),
        Candidate("restarted", **base, restarts=2),
        Candidate("young", 9000.0, 100.0),
        Candidate("old", **base),
    ]
    mixed = random.Random(8).sample(listed, len(listed))
    assert [each.name for each in in_order(mixed, 10_000.0)] == [each.name for each in listed]


@pytest.mark.parametrize(
    ("ages", "first"),
    [
        ((100.0, 130.0), "a"),  # 2^36 ns is 68.7 s, 2^37 is 137.4 s: the same bucket, so the name
        ((130.0, 100.0), "a"),
        ((100.0, 140.0), "a"),  # 140 s is in the next
        ((140.0, 100.0), "b"),
        ((0.0, 100.0), "a"),  # no age at all is younger than any
        ((100.0, 0.0), "b"),
    ],
)
def test_reference_2_7_ages_are_compared_by_their_logarithm(ages: tuple[float, float], first: str) -> None:
    now = 1000.0
    ready = [Candidate(name, 0.0, now - age) for name, age in zip("ab", ages, strict=True)]
    created = [Candidate(name, now - age, None) for name, age in zip("ab", ages, strict=True)]
    assert in_order(ready, now)[0].name == first
    assert in_order(created, now)[0].name == first


def test_a_replica_set_gives_up_the_node_that_holds_most_of_its_deployment() -> None:
    """The pods of another ReplicaSet of the same owner count, those that are leaving do not."""
    ours = shape(owner="Deployment d/x", replica_set="x-1")
    earlier = shape(owner="Deployment d/x", replica_set="x-0")
    one, two, three = node("one"), node("two"), node("three")
    pods = [put(each, ours)[0] for each in (one, two, three)]
    put(two, earlier)
    for pod in put(three, earlier, earlier):
        pod.leaving_since = 50.0
    nodes = {each.name: each for each in (one, two, three)}
    found = first_to_leave(pods, nodes, 1000.0, 2)
    assert [pod.name for pod in found] == ["two-0", "one-0"]
    pods[2].shape = shape(owner="Deployment d/x", deletion_cost=-5)
    assert first_to_leave(pods, nodes, 1000.0, 1) == [pods[2]]
    waiting = Pod("waiting", ours, 0.0)
    assert first_to_leave([*pods, waiting], nodes, 1000.0, 1) == [waiting]
    assert first_to_leave(pods, nodes, 1000.0, -1) == []


def test_one_that_restarts_has_been_started_and_leaves_after_one_that_has_not() -> None:
    one, two = node("one"), node("two")
    (crashed,) = put(one, shape(), ready_at=None)
    (pulling,) = put(two, shape(), ready_at=None)
    crashed.restarts = 3
    assert first_to_leave([crashed, pulling], {"one": one, "two": two}, 50.0, 2) == [pulling, crashed]
