"""Karpenter's scheduling simulation, rule by rule (reference 4.1 and 4.2), on a market of a few types in three zones.

m5.large has 1.93 CPUs and 6903 MiB for pods, m5.xlarge 3.92 and 14162, m5.2xlarge 7.91 and 29317, m5.4xlarge 15.89.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog.ec2 import instance_types
from stoker.catalog.labels import ARCH, CAPACITY_TYPE, HOSTNAME, INSTANCE_TYPE, NODE_POOL, OS, ZONE
from stoker.policy import provisioning
from stoker.policy.cluster import Market, Node, NodeTerm, Offering, Pod, PodShape, PodTerm, Spread
from stoker.policy.market import without
from stoker.policy.placement import NodePoolView, PodView, allocatable_of, capacity_of, daemon_overhead
from stoker.policy.pod_resources import fits
from stoker.policy.preferences import wishes
from stoker.policy.provisioning import Plan, by_weight, plan
from stoker.policy.requirements import Requirement, Requirements, all_of, of_labels, requirement
from stoker.policy.taints import Taint, Toleration

TYPES = instance_types()
MI, GI = 1024**2, 1024**3
A, B, C = ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
NAMES = ("m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge", "g5.xlarge", "g5.12xlarge")
SPOT_SHARE = 0.4
GPU = "nvidia.com/gpu"


def sold(names: Sequence[str] = NAMES, zones: Sequence[str] = ZONES) -> Market:
    found = {}
    for name in names:
        usd = TYPES[name].usd_per_hour() or 0.0
        found[name] = tuple(
            [Offering(TYPES[name], zone, "on-demand", usd) for zone in zones]
            + [Offering(TYPES[name], zone, "spot", usd * SPOT_SHARE) for zone in zones]
        )
    return found


MARKET = sold()


def asked(**wanted: Sequence[str]) -> Requirements:
    """`family=["m5"]`, `zone=[A]`, `capacity=["spot"]`, `type=["m5.large"]`."""
    keys = {"zone": ZONE, "capacity": CAPACITY_TYPE, "type": INSTANCE_TYPE, "host": HOSTNAME}
    lines = [
        requirement(keys.get(key, f"karpenter.k8s.aws/instance-{key}"), "In", list(values))
        for key, values in wanted.items()
    ]
    return all_of(lines)


M5 = NodePoolView("m5", asked(family=["m5"]))
APP = {"app": "llm"}
OF_APP = all_of([requirement("app", "In", ["llm"])])


def shape(
    cpu: float = 1.0, memory_gi: float = 1.0, gpus: int = 0, view: Mapping[str, Any] | None = None, **rest: Any
) -> PodShape:
    requests = {"cpu": round(cpu * 1000), "memory": round(memory_gi * GI)} | ({GPU: gpus} if gpus else {})
    return PodShape(PodView(requests=requests, **(view or {})), **{"labels": APP, **rest})


def pod(name: str, of: PodShape | None = None, created_at: float = 0.0, node: str | None = None) -> Pod:
    return Pod(name, of or shape(), created_at, node)


def pods(count: int, of: PodShape) -> list[Pod]:
    return [pod(f"p{i}", of) for i in range(count)]


def node(
    name: str,
    type: str = "m5.xlarge",
    zone: str = A,
    held: Sequence[Pod] = (),
    *,
    pool: NodePoolView = M5,
    is_ready: bool = True,
    **rest: Any,
) -> Node:
    instance = TYPES[type]
    labels = {
        ZONE: zone,
        INSTANCE_TYPE: type,
        CAPACITY_TYPE: "on-demand",
        NODE_POOL: pool.name,
        ARCH: instance.arch,
        OS: "linux",
    }
    made = Node(
        name, pool.name, instance, zone, "on-demand", 0.1, labels | rest.pop("labels", {}), pool.taints,
        allocatable_of(instance, pool), 0.0, ready_at=60.0 if is_ready else None, **rest,
    )  # fmt: skip
    for each in held:
        each.node = name
        made.pods[each.name] = each
        for key, amount in {**each.shape.requests, "pods": 1}.items():
            made.used[key] = made.used.get(key, 0) + amount
    return made


def bought(found: Plan) -> list[tuple[str, list[str], list[str]]]:
    """Of each claim: its pool, pods and types."""
    return [
        (each.pool.name, [one.name for one in each.pods], [one.name for one in each.types]) for each in found.claims
    ]


def zones_of(found: Plan) -> list[list[str]]:
    return [sorted(each.requirements[ZONE].values) if ZONE in each.requirements else [] for each in found.claims]


# -- 4.1: the window --


def test_the_windows_of_the_reference() -> None:
    assert (provisioning.BATCH_IDLE_S, provisioning.BATCH_MAX_S, provisioning.NOMINATED_S) == (1.0, 10.0, 20.0)


# -- 4.2.1: the order of pods --


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(pod("z", shape(2.0)), pod("a", shape(1.5)), id="4.2.1-more-cpu"),
        pytest.param(pod("z", shape(2.0, 3.0)), pod("a", shape(2.0, 2.0)), id="4.2.1-more-memory"),
        pytest.param(pod("z", shape(2.0), created_at=1.0), pod("a", shape(2.0), created_at=2.0), id="4.2.1-older"),
        pytest.param(pod("a", shape(2.0)), pod("z", shape(2.0)), id="4.2.1-name"),
        pytest.param(pod("z", shape(2.0)), pod("a", shape(1.9, gpus=1)), id="4.2.1-gpus-do-not-count"),
    ],
)
def test_who_is_placed_first_when_there_is_room_for_one(first: Pod, second: Pod) -> None:
    found = plan([second, first], [node("n", "g5.xlarge", held=[pod("old", shape(1.0))])], [], MARKET)
    assert found.onto == {first.name: "n"}
    assert list(found.unplaced) == [second.name]


# -- 4.2.2a: nodes that are there or coming --


def test_ready_nodes_come_before_coming_ones_and_then_the_name_decides() -> None:
    nodes = [node("a", is_ready=False), node("c"), node("b")]
    found = plan(pods(3, shape(3.0)), nodes, [M5], MARKET)
    assert found.onto == {"p0": "b", "p1": "c", "p2": "a"}
    assert found.claims == ()


def test_the_first_that_fits_is_taken_however_full_the_others_are() -> None:
    nodes = [node("a", "m5.4xlarge"), node("b", held=[pod("old", shape(2.0))])]
    assert plan([pod("p")], nodes, [M5], MARKET).onto == {"p": "a"}


def test_a_node_that_is_leaving_is_no_choice() -> None:
    found = plan([pod("p")], [node("a", leaving_since=5.0)], [M5], MARKET)
    assert (found.onto, len(found.claims)) == ({}, 1)


def test_a_pod_of_a_leaving_node_goes_to_another_one() -> None:
    moving = pod("p", shape(3.0))
    found = plan([moving], [node("a", held=[moving], leaving_since=5.0), node("b")], [M5], MARKET)
    assert found.onto == {"p": "b"}


def test_a_pod_that_is_placed_anew_leaves_its_room_to_itself() -> None:
    moving = pod("p", shape(3.0))
    assert plan([moving], [node("a", held=[moving])], [M5], MARKET).onto == {"p": "a"}


def test_what_daemons_take_of_a_node_is_not_there_for_pods() -> None:
    full = node("a", daemons={"cpu": 1000, "memory": GI, "pods": 1})
    assert plan([pod("p", shape(3.0))], [full], [], MARKET).onto == {}
    assert plan([pod("p", shape(2.9))], [full], [], MARKET).onto == {"p": "a"}


def test_pods_fill_a_node_up_to_its_number() -> None:
    small = NodePoolView("m5", M5.requirements, max_pods=3)
    found = plan(pods(4, shape(0.1, 0.1)), [node("a", pool=small)], [], MARKET)
    assert sorted(found.onto) == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        pytest.param(asked(zone=[B]), "b", id="a-label"),
        pytest.param({"tier": requirement("tier", "NotIn", ["x"])}, "a", id="absent-is-not-in"),
        pytest.param({"tier": requirement("tier", "Exists")}, None, id="a-label-it-will-not-get"),
        pytest.param(asked(host=["b"]), "b", id="by-host"),
    ],
)
def test_a_node_has_the_labels_that_it_has(wanted: Requirements, goes: str | None) -> None:
    one = shape(view={"requirements": (wanted,)})
    found = plan([pod("p", one)], [node("a"), node("b", zone=B)], [], MARKET)
    assert found.onto == ({"p": goes} if goes else {})


def test_a_taint_keeps_off_who_does_not_tolerate_it() -> None:
    tainted = NodePoolView("m5", M5.requirements, taints=(Taint("team", "x"),))
    nodes = [node("a", pool=tainted), node("b")]
    tolerant = shape(view={"tolerations": (Toleration("team", "Exists"),)})
    assert plan([pod("p")], nodes, [], MARKET).onto == {"p": "b"}
    assert plan([pod("p", tolerant)], nodes, [], MARKET).onto == {"p": "a"}


def test_local_storage_is_judged_where_a_node_says_what_it_has() -> None:
    hungry = PodShape(PodView(requests={"cpu": 1000, "ephemeral-storage": 30 * GI}))
    known = NodePoolView("m5", M5.requirements, storage_bytes=17 * GI)
    assert plan([pod("p", hungry)], [node("a")], [], MARKET).onto == {"p": "a"}
    assert plan([pod("p", hungry)], [node("a", pool=known)], [], MARKET).onto == {}
    assert plan([pod("p", hungry)], [], [known], MARKET).claims == ()
    assert len(plan([pod("p", hungry)], [], [M5], MARKET).claims) == 1


def test_without_leave_to_launch_only_nodes_that_are_there_count() -> None:
    found = plan(pods(2, shape(3.0)), [node("a")], [M5], MARKET, may_launch=False)
    assert (found.onto, found.claims) == ({"p0": "a"}, ())
    assert found.unplaced == {"p1": "no node that is there or coming has room for it"}


# -- 4.2.2b: claims of this round --


def test_the_claim_with_the_fewest_pods_is_tried_first() -> None:
    """Two that cannot be together, then small ones. Claims with as many stay in the order of the last look."""
    apart = (PodTerm(HOSTNAME, all_of([requirement("big", "Exists")]), ("default",)),)
    big = shape(3.0, labels={"big": "yes"}, anti_affinity=apart)
    small = shape(0.5, 0.5)
    found = plan([pod("x1", big), pod("x2", big), *(pod(f"y{i}", small) for i in range(4))], [], [M5], MARKET)
    assert [names for _, names, _ in bought(found)] == [["x1", "y0", "y3"], ["x2", "y1", "y2"]]


def test_a_new_claim_is_opened_only_when_no_claim_takes_the_pod() -> None:
    found = plan(pods(5, shape(3.0)), [], [M5], MARKET)
    assert bought(found) == [("m5", ["p0", "p1", "p2", "p3", "p4"], ["m5.4xlarge"])]
    found = plan(pods(6, shape(3.0)), [], [M5], MARKET)
    assert [names for _, names, _ in bought(found)] == [["p0", "p1", "p2", "p3", "p4"], ["p5"]]


# -- 4.2.2c: the order of pools --


def test_heavier_pools_first_and_of_the_same_weight_from_the_end_of_the_alphabet() -> None:
    a, b, heavy = (NodePoolView(name, M5.requirements, weight=w) for name, w in (("a", 0), ("b", 0), ("0", 50)))
    assert [each.name for each in by_weight([a, b, heavy])] == ["0", "b", "a"]
    assert plan([pod("p")], [], [a, b], MARKET).claims[0].pool is b
    assert plan([pod("p")], [], [a, heavy, b], MARKET).claims[0].pool is heavy


def test_the_next_pool_is_asked_when_the_first_cannot() -> None:
    heavy = NodePoolView("heavy", asked(type=["m5.large"]), weight=100)
    assert plan([pod("p", shape(3.0))], [], [heavy, M5], MARKET).claims[0].pool is M5


def test_a_static_pool_launches_nothing_for_pods() -> None:
    static = NodePoolView("static", M5.requirements, weight=100, replicas=2)
    assert plan([pod("p")], [], [static, M5], MARKET).claims[0].pool is M5
    assert plan([pod("p")], [], [static], MARKET).unplaced == {"p": "there is no NodePool that launches nodes for pods"}


# -- 4.2.3: the set of types --


def test_a_pod_more_leaves_fewer_types() -> None:
    one, two, three = (plan(pods(n, shape(1.5)), [], [M5], MARKET) for n in (1, 2, 3))
    assert bought(one)[0][2] == ["m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge"]
    assert bought(two)[0][2] == ["m5.xlarge", "m5.2xlarge", "m5.4xlarge"]
    assert bought(three)[0][2] == ["m5.2xlarge", "m5.4xlarge"]
    assert three.claims[0].requests == {"cpu": 4500, "memory": 3 * GI, "pods": 3}


def test_daemons_are_counted_on_a_new_node() -> None:
    one = [pod("p", shape(1.9))]
    agent = PodView("agent", requests={"cpu": 100})
    elsewhere = PodView("other", ({"pool": requirement("pool", "In", ["x"])},), requests={"cpu": 100})
    assert bought(plan(one, [], [M5], MARKET))[0][2][0] == "m5.large"
    assert bought(plan(one, [], [M5], MARKET, daemons=[elsewhere]))[0][2][0] == "m5.large"
    assert bought(plan(one, [], [M5], MARKET, daemons=[agent]))[0][2][0] == "m5.xlarge"


def test_types_without_an_offering_where_the_pod_may_go_are_out() -> None:
    market = MARKET
    for capacity in ("spot", "on-demand"):
        market = without(market, "m5.large", B, capacity)  # type: ignore[arg-type]
    in_b = shape(view={"requirements": (asked(zone=[B]),)})
    assert bought(plan([pod("p", in_b)], [], [M5], market))[0][2][0] == "m5.xlarge"
    assert bought(plan([pod("p")], [], [M5], market))[0][2][0] == "m5.large"


def test_a_capacity_type_that_is_not_for_sale_is_not_launched() -> None:
    market = without(sold(["m5.large"], [A]), "m5.large", A, "spot")
    spot = NodePoolView("spot", asked(capacity=["spot"]))
    assert plan([pod("p")], [], [spot], market).claims == ()
    assert len(plan([pod("p")], [], [M5], market).claims) == 1


def test_pods_of_two_zones_do_not_share_a_claim() -> None:
    in_a, in_b = (shape(view={"requirements": (asked(zone=[zone]),)}) for zone in (A, B))
    found = plan([pod("a", in_a), pod("b", in_b), pod("c")], [], [M5], MARKET)
    assert [names for _, names, _ in bought(found)] == [["a", "c"], ["b"]]
    assert zones_of(found) == [[A], [B]]


def test_who_does_not_tolerate_the_taint_does_not_join_a_claim() -> None:
    tainted = NodePoolView("far", M5.requirements, taints=(Taint("far"),))
    tolerant = shape(2.0, view={"tolerations": (Toleration("far", "Exists"),)})
    found = plan([pod("x", tolerant), pod("y", shape(0.5))], [], [tainted], MARKET)
    assert ([names for _, names, _ in bought(found)], list(found.unplaced)) == ([["x"]], ["y"])


def test_a_pod_that_names_a_type_narrows_the_claim() -> None:
    narrow = shape(0.5, view={"requirements": (asked(type=["m5.2xlarge"]),)})
    assert bought(plan([pod("wide", shape(1.0)), pod("narrow", narrow)], [], [M5], MARKET)) == [
        ("m5", ["wide", "narrow"], ["m5.2xlarge"])
    ]


def test_a_label_that_neither_pool_nor_cloud_gives_is_nowhere() -> None:
    wants = shape(view={"requirements": (of_labels({"team": "x"}),)})
    gives = NodePoolView("m5", M5.requirements, labels={"team": "x"})
    assert plan([pod("p", wants)], [], [M5], MARKET).unplaced == {"p": "m5: team is not given, the pod wants x"}
    assert len(plan([pod("p", wants)], [], [gives], MARKET).claims) == 1


# -- 4.2.4: limits --


@pytest.mark.parametrize(
    ("limits", "nodes", "claims"),
    [
        pytest.param({}, [], 3, id="no-limit"),
        pytest.param({GPU: 2}, [], 2, id="gpus"),
        pytest.param(
            {GPU: 2}, [node("n", "g5.xlarge", held=[pod("o", shape(3.0, gpus=1))])], 1, id="what-is-there-counts"
        ),
        pytest.param({GPU: 2}, [node("n", "g5.xlarge", leaving_since=1.0)], 1, id="also-what-is-leaving"),
        pytest.param({"nodes": 1}, [], 1, id="nodes"),
        pytest.param({"cpu": 8000}, [], 2, id="cpu"),
        pytest.param({"memory": 48 * GI}, [], 3, id="memory"),
        pytest.param({"memory": 48 * GI - 1}, [], 2, id="memory-short-of-a-byte"),
    ],
)
def test_a_limit_is_never_passed(limits: Mapping[str, int], nodes: list[Node], claims: int) -> None:
    """g5.xlarge: 4 CPUs, 16 GiB, one GPU."""
    pool = NodePoolView("m5", asked(type=["g5.xlarge"]), limits=limits)
    found = plan(pods(3, shape(3.0, gpus=1)), nodes, [pool], MARKET)
    assert (len(found.claims), len(found.unplaced)) == (claims, 3 - claims)


def test_a_claim_counts_for_the_largest_of_its_types() -> None:
    """24 CPUs: one of 16 may come of the first claim, so the second gets no type above 8."""
    pool = NodePoolView("m5", M5.requirements, limits={"cpu": 24_000})
    apart = (PodTerm(HOSTNAME, OF_APP, ("default",)),)
    found = plan(pods(3, shape(1.0, anti_affinity=apart)), [], [pool], MARKET)
    assert [types for _, _, types in bought(found)] == [
        ["m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge"],
        ["m5.large", "m5.xlarge", "m5.2xlarge"],
    ]
    assert found.unplaced == {"p2": "m5: its limits are reached; cpu: 0 of 24 left, a m5.large counts for 2"}


def test_a_limit_that_is_overrun_keeps_out_types_that_have_none_of_it() -> None:
    pool = NodePoolView("m5", M5.requirements, limits={GPU: 0})
    assert len(plan([pod("p")], [], [pool], MARKET).claims) == 1
    found = plan([pod("p")], [node("n", "g5.xlarge", leaving_since=1.0)], [pool], MARKET)
    assert found.unplaced == {"p": "m5: its limits are reached; nvidia.com/gpu: 0 of 0 left, a m5.large counts for 0"}


def test_a_claim_that_is_open_takes_pods_whatever_is_left_of_the_limit() -> None:
    pool = NodePoolView("m5", asked(type=["m5.4xlarge"]), limits={"nodes": 1})
    assert [names for _, names, _ in bought(plan(pods(5, shape(3.0)), [], [pool], MARKET))] == [
        ["p0", "p1", "p2", "p3", "p4"]
    ]


# -- 4.2.5: preferences --


def test_a_preference_is_kept_where_it_can_be() -> None:
    likes_b = shape(preferred=(NodeTerm(asked(zone=[B]), 1),))
    assert zones_of(plan([pod("p", likes_b)], [], [M5], MARKET)) == [[B]]
    assert plan([pod("p", likes_b)], [node("a"), node("b", zone=B)], [M5], MARKET).onto == {"p": "b"}


def test_a_preference_that_cannot_be_kept_is_given_up() -> None:
    in_a = NodePoolView("m5", {**M5.requirements, **asked(zone=[A])})
    likes_b = shape(preferred=(NodeTerm(asked(zone=[B]), 1),))
    assert zones_of(plan([pod("p", likes_b)], [], [in_a], MARKET)) == [[A]]


def test_a_new_node_comes_before_a_preference_is_given_up() -> None:
    likes_b = shape(preferred=(NodeTerm(asked(zone=[B]), 1),))
    found = plan([pod("p", likes_b)], [node("a")], [M5], MARKET)
    assert (found.onto, zones_of(found)) == ({}, [[B]])


def test_of_several_preferred_terms_the_heaviest_counts_alone_and_goes_first() -> None:
    liked = shape(preferred=(NodeTerm(asked(zone=[A]), 10), NodeTerm(asked(zone=[B]), 90)))
    in_a = NodePoolView("m5", {**M5.requirements, **asked(zone=[A, C])})
    assert zones_of(plan([pod("p", liked)], [], [M5], MARKET)) == [[B]]
    assert zones_of(plan([pod("p", liked)], [], [in_a], MARKET)) == [[A]]


def test_required_alternatives_are_tried_in_their_order() -> None:
    either = shape(view={"requirements": (asked(zone=["eu-west-1a"]), asked(zone=[C]), asked(zone=[A]))})
    assert zones_of(plan([pod("p", either)], [], [M5], MARKET)) == [[C]]


def test_an_affinity_that_matches_nothing_matches_nothing() -> None:
    nowhere = shape(view={"requirements": ()})
    found = plan([pod("p", nowhere)], [node("a")], [M5], MARKET)
    assert found.unplaced == {"p": "m5: the pod's affinity matches no node whatever"}


def test_what_is_given_up_in_which_order() -> None:
    """Alternatives, affinity, anti-affinity, preferred nodes (the heavier first), spread, and a taint that prefers."""
    term = PodTerm(ZONE, OF_APP, ("default",), is_required=False, weight=5)
    heavy = PodTerm(HOSTNAME, OF_APP, ("default",), is_required=False, weight=50)
    kept = PodTerm(ZONE, OF_APP, ("default",))
    soft, hard = Spread(ZONE, 1, OF_APP, is_required=False), Spread(HOSTNAME, 1, OF_APP)
    full = shape(
        view={"requirements": (asked(zone=[A]), asked(zone=[B]))},
        affinity=(term, heavy, kept),
        anti_affinity=(term,),
        preferred=(NodeTerm(asked(capacity=["spot"]), 1), NodeTerm(asked(capacity=["on-demand"]), 2)),
        spread=(soft, hard),
    )
    found = [
        (
            *sorted(each.strict[ZONE].values),
            [one.weight if not one.is_required else "required" for one in each.affinity],
            len(each.anti_affinity),
            str(each.requirements.get(CAPACITY_TYPE, "")),
            [one.key for one in each.spread],
            len(each.tolerations),
        )
        for each in wishes(full, has_preferred_taints=True)
    ]
    both = [ZONE, HOSTNAME]
    assert found == [
        (A, ["required", 50, 5], 1, "on-demand", both, 0),
        (B, ["required", 50, 5], 1, "on-demand", both, 0),
        (B, ["required", 5], 1, "on-demand", both, 0),
        (B, ["required"], 1, "on-demand", both, 0),
        (B, ["required"], 0, "on-demand", both, 0),
        (B, ["required"], 0, "spot", both, 0),
        (B, ["required"], 0, "", both, 0),
        (B, ["required"], 0, "", [HOSTNAME], 0),
        (B, ["required"], 0, "", [HOSTNAME], 1),
    ]
    assert len(wishes(full)) == 8


def test_a_taint_that_prefers_is_avoided_and_in_the_end_borne() -> None:
    mild = NodePoolView("mild", M5.requirements, weight=50, taints=(Taint("old", effect="PreferNoSchedule"),))
    assert plan([pod("p")], [], [mild, M5], MARKET).claims[0].pool is M5
    assert plan([pod("p")], [], [mild], MARKET).claims[0].pool is mild


def test_a_preferred_spread_is_kept_by_new_nodes_and_given_up_when_they_cannot_come() -> None:
    apart = shape(1.0, spread=(Spread(HOSTNAME, 1, OF_APP, is_required=False),))
    assert [names for _, names, _ in bought(plan(pods(2, apart), [], [M5], MARKET))] == [["p0"], ["p1"]]
    one_node = NodePoolView("m5", M5.requirements, limits={"nodes": 1})
    assert [names for _, names, _ in bought(plan(pods(2, apart), [], [one_node], MARKET))] == [["p0", "p1"]]


# -- 4.2.6: minValues, and how many types --


def test_min_values_refuse_a_pod_that_would_leave_too_few_types() -> None:
    flexible = NodePoolView("m5", M5.requirements, min_values={INSTANCE_TYPE: 3})
    found = plan(pods(3, shape(1.5)), [], [flexible], MARKET)
    assert bought(found) == [
        ("m5", ["p0", "p1"], ["m5.xlarge", "m5.2xlarge", "m5.4xlarge"]),
        ("m5", ["p2"], ["m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge"]),
    ]
    found = plan([pod("p", shape(7.0))], [], [flexible], MARKET)
    assert found.unplaced == {"p": "m5: only 2 values of node.kubernetes.io/instance-type are left, minValues wants 3"}


def test_min_values_count_the_types_of_the_zone_that_a_spread_needs() -> None:
    flexible = NodePoolView("m5", M5.requirements, min_values={INSTANCE_TYPE: 2})
    market = {**MARKET, **{name: sold([name], [A, B])[name] for name in NAMES[1:]}}
    found = plan(pods(3, spread()), [], [flexible], market)
    assert (zones_of(found), list(found.unplaced)) == ([[A], [B]], ["p2"])


def test_types_are_in_the_order_of_their_cheapest_offering_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provisioning.MOST_OPTIONS == 600
    monkeypatch.setattr(provisioning, "MOST_OPTIONS", 2)
    on_demand = shape(view={"requirements": (asked(capacity=["on-demand"]),)})
    dear = {**MARKET, "m5.large": tuple(each for each in MARKET["m5.large"] if each.capacity == "spot")}
    assert bought(plan([pod("p")], [], [M5], MARKET))[0][2] == ["m5.large", "m5.xlarge"]
    assert bought(plan([pod("p", on_demand)], [], [M5], dear))[0][2] == ["m5.xlarge", "m5.2xlarge"]


# -- spread, affinity and anti-affinity --


def spread(key: str = ZONE, skew: int = 1, **rest: Any) -> PodShape:
    return shape(1.0, spread=(Spread(key, skew, OF_APP, **rest),))


def test_a_spread_over_zones_gives_each_claim_a_zone() -> None:
    found = plan(pods(4, spread()), [], [M5], MARKET)
    assert zones_of(found) == [[A], [B], [C]]
    assert [names for _, names, _ in bought(found)] == [["p0", "p3"], ["p1"], ["p2"]]


def test_pods_that_run_count_and_those_that_stop_or_move_do_not() -> None:
    there = [pod(f"o{i}", spread()) for i in range(3)]
    there[1].leaving_since = 5.0
    nodes = [
        node("a", "m5.xlarge", A, there[:1]),
        node("b", "m5.xlarge", B, there[1:2]),
        node("c", "m5.xlarge", C, there[2:]),
    ]
    found = plan([pod("p", spread()), there[2]], nodes, [M5], MARKET)
    assert found.onto == {"o2": "b", "p": "c"}


def test_a_zone_where_nothing_is_for_sale_still_counts_as_empty() -> None:
    """kube-scheduler and Karpenter both know the zone: a shortage in it stops a spread that is required."""
    market = MARKET
    for name in NAMES:
        for capacity in ("spot", "on-demand"):
            market = without(market, name, C, capacity)  # type: ignore[arg-type]
    found = plan(pods(3, spread()), [], [M5], market)
    assert zones_of(found) == [[A], [B]]
    assert found.unplaced == {"p2": "m5: its spread, affinity or anti-affinity leaves no zone or node for it"}
    assert zones_of(plan(pods(4, spread(skew=2)), [], [M5], market)) == [[A], [B]]


def test_a_zone_of_which_only_a_leaving_node_is_left_is_no_domain() -> None:
    gone = node("n", zone="us-east-1f", leaving_since=1.0)
    assert plan(pods(4, spread()), [gone], [M5], MARKET).unplaced == {}
    there = node("n", zone="us-east-1f", held=[pod("o", shape(3.5, labels={}))])
    assert list(plan(pods(4, spread()), [there], [M5], MARKET).unplaced) == ["p3"]


def test_of_zones_that_are_as_empty_one_that_sells_comes_first() -> None:
    market = MARKET
    for name in NAMES:
        for capacity in ("spot", "on-demand"):
            market = without(market, name, A, capacity)  # type: ignore[arg-type]
    assert zones_of(plan(pods(1, spread()), [], [M5], market)) == [[B]]


def test_too_few_domains_count_as_an_empty_one() -> None:
    one_zone = NodePoolView("m5", {**M5.requirements, **asked(zone=[A])})
    assert plan(pods(2, spread()), [], [one_zone], MARKET).unplaced == {}
    assert list(plan(pods(2, spread(min_domains=2)), [], [one_zone], MARKET).unplaced) == ["p1"]


def test_only_zones_that_the_pod_may_go_to_are_domains() -> None:
    two = shape(1.0, view={"requirements": (asked(zone=[A, B]),)}, spread=(Spread(ZONE, 1, OF_APP),))
    found = plan(pods(4, two), [], [M5], MARKET)
    assert (zones_of(found), found.unplaced) == ([[A], [B]], {})
    ignoring = shape(1.0, view=two_zones(), spread=(Spread(ZONE, 1, OF_APP, honor_affinity=False),))
    assert len(plan(pods(4, ignoring), [], [M5], MARKET).unplaced) == 2


def two_zones() -> dict[str, Any]:
    return {"requirements": (asked(zone=[A, B]),)}


def test_zones_of_pools_whose_taints_are_not_tolerated_are_domains_unless_taints_are_honoured() -> None:
    tainted = NodePoolView("far", {**M5.requirements, **asked(zone=[C])}, taints=(Taint("far"),))
    near = NodePoolView("m5", {**M5.requirements, **asked(zone=[A])})
    assert len(plan(pods(2, spread()), [], [near, tainted], MARKET).unplaced) == 1
    assert plan(pods(2, spread(honor_taints=True)), [], [near, tainted], MARKET).unplaced == {}


def test_a_spread_over_hosts_opens_a_claim_each() -> None:
    found = plan(pods(3, spread(HOSTNAME)), [node("n")], [M5], MARKET)
    assert found.onto == {"p0": "n"}
    assert [names for _, names, _ in bought(found)] == [["p1"], ["p2"]]
    assert all(HOSTNAME not in each.requirements for each in found.claims)


def test_pods_apart_by_host_get_a_node_each() -> None:
    apart = shape(0.5, anti_affinity=(PodTerm(HOSTNAME, OF_APP, ("default",)),))
    found = plan(pods(3, apart), [node("n", held=[pod("o", apart)])], [M5], MARKET)
    assert (found.onto, [names for _, names, _ in bought(found)]) == ({}, [["p0"], ["p1"], ["p2"]])


def test_pods_apart_by_zone_come_one_a_round() -> None:
    """The zone of the first is open until it is launched, so it may be any: the others wait (topology.go, Record)."""
    apart = shape(0.5, anti_affinity=(PodTerm(ZONE, OF_APP, ("default",)),))
    found = plan(pods(3, apart), [], [M5], MARKET)
    assert (zones_of(found), sorted(found.unplaced)) == ([[A, B, C]], ["p1", "p2"])
    found = plan(pods(3, apart), [node("n", zone=B, is_ready=False)], [M5], MARKET)
    assert (found.onto, zones_of(found), list(found.unplaced)) == ({"p0": "n"}, [[A, C]], ["p2"])


def test_who_cannot_bear_others_is_not_joined_by_them() -> None:
    """The pods that wait ask for nothing: it is the one that runs that wants to be alone."""
    shy = shape(0.5, labels={}, anti_affinity=(PodTerm(HOSTNAME, OF_APP, ("default",)),))
    nodes = [node("a", held=[pod("o", shy)]), node("b")]
    assert plan([pod("p")], nodes, [], MARKET).onto == {"p": "b"}
    assert plan([pod("p", shape(labels={}))], nodes, [], MARKET).onto == {"p": "a"}
    assert plan([pod("p", shape(namespace="other"))], nodes, [], MARKET).onto == {"p": "a"}
    found = plan([pod("x", shy), pod("y", shape(0.4))], [], [M5], MARKET)
    assert [names for _, names, _ in bought(found)] == [["x"], ["y"]]


def test_who_would_rather_be_alone_is_joined() -> None:
    """A preference counts for the pod that has it, and while it looks for a place (topology.go)."""
    term = PodTerm(HOSTNAME, OF_APP, ("default",), is_required=False)
    shy = shape(0.5, labels={}, anti_affinity=(term,))
    nodes = [node("a", held=[pod("o", shy)]), node("b", held=[pod("o2")])]
    assert plan([pod("p")], nodes, [], MARKET).onto == {"p": "a"}
    assert plan([pod("p", shy)], nodes, [], MARKET).onto == {"p": "a"}
    assert plan([pod("p", shy)], nodes[1:], [], MARKET).onto == {"p": "b"}


def test_where_a_claim_may_come_it_is_avoided_already() -> None:
    """The claim of x may be launched in any zone, so y, which avoids x's zone, has none in this round."""
    avoids = shape(0.5, labels={}, anti_affinity=(PodTerm(ZONE, OF_APP, ("default",)),))
    found = plan([pod("x"), pod("y", avoids)], [], [M5], MARKET)
    assert ([names for _, names, _ in bought(found)], list(found.unplaced)) == ([["x"]], ["y"])


def test_pods_that_go_together_go_where_the_others_are() -> None:
    together = shape(1.0, affinity=(PodTerm(ZONE, OF_APP, ("default",)),))
    found = plan(pods(2, together), [node("n", "m5.large", B, [pod("o", shape(1.5))])], [M5], MARKET)
    assert (found.onto, zones_of(found)) == ({}, [[B]])


def test_the_first_of_pods_that_go_together_chooses() -> None:
    together = shape(3.0, affinity=(PodTerm(ZONE, OF_APP, ("default",)),))
    assert zones_of(plan(pods(6, together), [], [M5], MARKET)) == [[A], [A]]


def test_a_pod_is_tried_again_when_another_that_it_needs_has_a_place() -> None:
    """The follower is larger, so it comes first, and finds nobody to follow yet."""
    follower = shape(2.0, labels={}, affinity=(PodTerm(ZONE, OF_APP, ("default",)),))
    in_c = shape(1.0, view={"requirements": (asked(zone=[C]),)})
    found = plan([pod("follower", follower), pod("leader", in_c)], [], [M5], MARKET)
    assert [names for _, names, _ in bought(found)] == [["leader", "follower"]]
    assert zones_of(found) == [[C]]
    assert list(plan([pod("follower", follower)], [], [M5], MARKET).unplaced) == ["follower"]


def test_a_domain_of_a_label_of_ones_own_is_what_the_pool_says() -> None:
    racks = NodePoolView("m5", {**M5.requirements, "rack": requirement("rack", "In", ["r1", "r2"])})
    heavy = NodePoolView("heavy", M5.requirements, weight=50)
    found = plan(pods(2, spread("rack")), [], [racks, heavy], MARKET)
    assert [(each.pool, sorted(each.requirements["rack"].values)) for each in found.claims] == [
        (racks, ["r1"]),
        (racks, ["r2"]),
    ]
    assert list(plan(pods(1, spread("rack")), [], [M5], MARKET).unplaced) == ["p0"]


# -- why not --


@pytest.mark.parametrize(
    ("of", "pool", "said"),
    [
        pytest.param(
            shape(), NodePoolView("m5", M5.requirements, taints=(Taint(GPU, "true"),)),
            "m5: the taint nvidia.com/gpu=true:NoSchedule is not tolerated", id="taint",
        ),
        pytest.param(
            shape(view={"requirements": (asked(zone=["eu-west-1a"]),)}),
            NodePoolView("m5", {**M5.requirements, **asked(zone=[A])}),
            "m5: topology.kubernetes.io/zone is us-east-1a, the pod wants eu-west-1a", id="zone",
        ),
        pytest.param(
            shape(view={"requirements": (asked(zone=["eu-west-1a"]),)}), M5,
            "m5: nothing that fits is to be had where the pod may go: m5.large, m5.xlarge, m5.2xlarge and 1 more",
            id="nothing-for-sale",
        ),
        pytest.param(
            shape(20.0, 100.0), M5,
            "m5: none of its 4 types fits; m5.4xlarge comes closest: 20 cpu wanted, 15.89 there; "
            "100.0 GiB memory wanted, 56.3 GiB there", id="size",
        ),
        pytest.param(
            shape(gpus=1), M5, "m5: none of its 4 types fits; m5.large comes closest: 1 nvidia.com/gpu wanted, 0 there",
            id="device",
        ),
        pytest.param(
            shape(), NodePoolView("none", asked(family=["x9"])),
            "none: its own requirements leave nothing of the instance types", id="no-types",
        ),
        pytest.param(
            shape(), NodePoolView("m5", M5.requirements, limits={"cpu": 1000}),
            "m5: none of its 4 types fits; m5.large comes closest: one node counts for 2 cpu, the limit is 1",
            id="limit",
        ),
    ],
)  # fmt: skip
def test_a_line_a_pool_says_why(of: PodShape, pool: NodePoolView, said: str) -> None:
    assert plan([pod("p", of)], [], [pool], MARKET).unplaced == {"p": said}


def test_every_pool_has_its_line() -> None:
    tainted = NodePoolView("a", M5.requirements, taints=(Taint("x"),))
    gpus = NodePoolView("b", asked(family=["g5"]), limits={"nodes": 0})
    said = plan([pod("p")], [], [tainted, gpus], MARKET).unplaced["p"].splitlines()
    assert [line.partition(":")[0] for line in said] == ["b", "a"]


# -- what holds for any round --

SHAPES = (
    shape(0.5, 0.5),
    shape(1.5, 6.0),
    shape(3.0, 8.0, gpus=1),
    shape(14.0, 20.0),
    shape(1.0, view={"requirements": (asked(zone=[B]),)}),
    shape(1.0, spread=(Spread(ZONE, 1, OF_APP),)),
    shape(1.0, anti_affinity=(PodTerm(HOSTNAME, OF_APP, ("default",)),)),
    shape(2.0, preferred=(NodeTerm(asked(capacity=["spot"]), 1),), spread=(Spread(HOSTNAME, 1, OF_APP, False),)),
)
DAEMONS = (PodView("agent", requests={"cpu": 100, "memory": 100 * MI}),)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[Pod], list[Node], list[NodePoolView]]:
    waiting = [
        pod(f"p{i}", draw(st.sampled_from(SHAPES)), draw(st.sampled_from((0.0, 1.0))))
        for i in range(draw(st.integers(0, 12)))
    ]
    limits = st.fixed_dictionaries(
        {},
        optional={
            "cpu": st.integers(0, 40).map(lambda n: n * 1000),
            GPU: st.integers(0, 4),
            "nodes": st.integers(0, 4),
        },
    )
    pools = [
        NodePoolView("gpu", asked(family=["g5"]), limits=draw(limits), weight=draw(st.integers(0, 1))),
        NodePoolView(
            "m5", M5.requirements, limits=draw(limits), min_values=draw(st.sampled_from(({}, {INSTANCE_TYPE: 2})))
        ),
    ]
    nodes = [
        node(
            f"n{i}",
            draw(st.sampled_from(("m5.xlarge", "m5.4xlarge", "g5.xlarge"))),
            draw(st.sampled_from(ZONES)),
            [pod(f"o{i}", draw(st.sampled_from(SHAPES[:2])))],
            pool=pools[draw(st.integers(0, 1))],
            is_ready=draw(st.booleans()),
            leaving_since=draw(st.sampled_from((None, None, 1.0))),
        )
        for i in range(draw(st.integers(0, 4)))
    ]
    return waiting, nodes, pools


def summary(found: Plan) -> object:
    claims = [
        (each.pool.name, [one.name for one in each.pods], each.types, dict(each.requirements)) for each in found.claims
    ]
    return dict(found.onto), claims, dict(found.unplaced)


@settings(max_examples=examples(50), deadline=None)
@given(rounds(), st.randoms(use_true_random=False))
def test_of_any_round(drawn: tuple[list[Pod], list[Node], list[NodePoolView]], chance: Any) -> None:
    """Every pod is in one place; what goes onto a node or a claim fits it, each of its types; no limit is passed; the
    order of the lists does not matter; nothing that was handed in is changed."""
    waiting, nodes, pools = drawn
    before = [dict(each.used) for each in nodes]
    found = plan(waiting, nodes, pools, MARKET, daemons=DAEMONS)
    assert [dict(each.used) for each in nodes] == before

    claimed = [one.name for each in found.claims for one in each.pods]
    assert sorted([*found.onto, *claimed, *found.unplaced]) == sorted(each.name for each in waiting)

    by_name = {each.name: each for each in waiting}
    for each in nodes:
        placed = [by_name[name] for name, where in found.onto.items() if where == each.name]
        assert not placed or each.leaving_since is None
        for key, left in each.free.items():
            assert sum(one.shape.requests.get(key, int(key == "pods")) for one in placed) <= max(left, 0)

    for claim in found.claims:
        taken = daemon_overhead(claim.pool, DAEMONS)
        for instance in claim.types:
            room = {key: n - taken.get(key, 0) for key, n in allocatable_of(instance, claim.pool).items()}
            assert fits(claim.requests, room)
        assert len(claim.types) >= claim.pool.min_values.get(INSTANCE_TYPE, 1)

    for pool in pools:
        there = [capacity_of(each.type) for each in nodes if each.pool == pool.name]
        come = [claim for claim in found.claims if claim.pool is pool]
        for key, limit in pool.limits.items():
            most = sum(max(capacity_of(each).get(key, 0) for each in claim.types) for claim in come)
            assert not come or sum(each.get(key, 0) for each in there) + most <= limit

    shuffled = [list(each) for each in (waiting, nodes, pools)]
    for each in shuffled:
        chance.shuffle(each)
    again = plan(shuffled[0], shuffled[1], shuffled[2], MARKET, daemons=DAEMONS)
    assert summary(again) == summary(found)


def test_a_requirement_that_is_empty_is_met_by_nothing() -> None:
    impossible = shape(view={"requirements": ({ZONE: Requirement(ZONE)},)})
    assert list(plan([pod("p", impossible)], [node("a")], [M5], MARKET).unplaced) == ["p"]
