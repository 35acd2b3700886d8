"""A cluster to try things on: what is tried does not show in the real one, nor in another trial."""

from typing import Any

from stoker.catalog.ec2 import instance_types
from stoker.policy.cluster import Node, Pod, PodShape, PodTerm, Spread
from stoker.policy.placement import PodView
from stoker.policy.rehearsal import Rehearsal
from stoker.policy.requirements import of_labels

HOST = "kubernetes.io/hostname"
WEB = {"app": "web"}
TYPE = instance_types()["m5.large"]


def node(name: str, cpu: int = 1000) -> Node:
    allocatable = {"cpu": cpu, "memory": 1000, "pods": 10}
    return Node(name, "pool", TYPE, "a", "on-demand", 1.0, {HOST: name}, (), allocatable, 0.0)


def shape(cpu: int = 100, **more: Any) -> PodShape:
    return PodShape(PodView(requests={"cpu": cpu}), labels=WEB, **more)


def pods(of: PodShape, count: int) -> list[Pod]:
    return [Pod(f"p{i}", of, 0.0) for i in range(count)]


def held(rehearsal: Rehearsal) -> dict[str, int]:
    return {each.name: len(each.pods) for each in rehearsal.nodes}


def test_pods_go_to_the_first_node_by_name_that_takes_them() -> None:
    real = [node("b"), node("a")]
    trial = Rehearsal(real)
    left = trial.place_all([*pods(shape(600), 3), Pod("small", shape(300), 0.0)])
    assert [pod.name for pod in left] == ["p2"]
    assert held(trial) == {"a": 2, "b": 1}
    assert trial["a"].used == {"cpu": 900, "pods": 2}
    assert [(each.pods, each.used) for each in real] == [({}, {}), ({}, {})]


def test_a_fork_and_what_it_came_from_do_not_see_each_other() -> None:
    first = Rehearsal([node("a")])
    one, two, three = pods(shape(), 3)
    first.put(one, "a")
    fork = first.fork()
    first.put(two, "a")
    fork.put(three, "a")
    assert sorted(first["a"].pods) == ["p0", "p1"]
    assert sorted(fork["a"].pods) == ["p0", "p2"]
    fork.remove("a")
    assert held(first) == {"a": 2}


def test_what_a_fork_learns_of_pods_is_not_true_of_what_it_came_from() -> None:
    alone = shape(anti_affinity=(PodTerm(HOST, of_labels(WEB), ("default",)),))
    first = Rehearsal([node("a")])
    plain = Pod("plain", shape(), 0.0)
    fork = first.fork()
    fork.put(Pod("alone", alone, 0.0), "a")
    assert fork.place(plain) is None
    assert first.place(plain) == "a"


def test_spread_and_affinity_follow_what_has_been_placed() -> None:
    spread = shape(spread=(Spread(HOST, 1, of_labels(WEB)),))
    trial = Rehearsal([node("a"), node("b")])
    assert trial.place_all(pods(spread, 4)) == []
    assert held(trial) == {"a": 2, "b": 2}
    trial.add(node("c"))
    assert trial.place(Pod("more", spread, 0.0)) == "c"
    trial.remove("c")
    assert trial.place(Pod("again", spread, 0.0)) == "a"
    alone = shape(anti_affinity=(PodTerm(HOST, of_labels(WEB), ("default",)),))
    lonely = Rehearsal([node("a"), node("b")])
    plain = Pod("plain", shape(), 0.0)
    assert lonely.against(plain.shape, lonely["a"]) == ()
    assert len(lonely.place_all(pods(alone, 3))) == 1
    assert lonely.place(plain) is None


def test_what_did_not_fit_is_tried_again_where_what_was_placed_since_may_have_helped() -> None:
    """It seeks a database, which is placed after it was refused."""
    near = shape(affinity=(PodTerm(HOST, of_labels({"app": "db"}), ("default",)),))
    database = Pod("db", PodShape(PodView(requests={"cpu": 100}), labels={"app": "db"}), 0.0)
    early, late = pods(near, 2)
    trial = Rehearsal([node("a")])
    assert trial.place_all([early, database, late]) == [early]
    other = Rehearsal([node("a")])
    assert other.fork().place_all([early]) == [early]
    other.put(database, "a")
    assert other.place(early) == "a"
