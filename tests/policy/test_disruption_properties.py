"""What holds of every pass, over small clusters made at random."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from disrupting import AT, NOW, A, B, add, node, pool, shape, view, with_spot
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog.labels import CAPACITY_TYPE, HOSTNAME
from stoker.policy import launching
from stoker.policy.candidates import consolidatable_at
from stoker.policy.cluster import Budget, Disruption, Node, Pod, PodTerm, Spread
from stoker.policy.disruption import Command, Pass, View, allowed, look, still_holds
from stoker.policy.placement import allocatable_of
from stoker.policy.pod_resources import PODS, added
from stoker.policy.prospects import Prospects
from stoker.policy.replacing import price_of
from stoker.policy.requirements import of_labels

TYPES = ("m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge", "g5.xlarge")
ON_DEMAND = of_labels({CAPACITY_TYPE: "on-demand"})
SAME = of_labels({"app": "spread"})
SHAPES = (
    *(shape(0.2, 0.5), shape(0.9, 1.5), shape(1.5, 2.0), shape(3.0, 8.0), shape(3.0, 8.0, gpus=1)),
    shape(0.9, 1.5, view={"requirements": (ON_DEMAND,)}),
    shape(0.9, 1.5, labels={"app": "spread"}, spread=(Spread(CAPACITY_TYPE, 1, SAME),)),
    shape(0.9, 1.5, labels={"app": "spread"}, anti_affinity=(PodTerm(HOSTNAME, SAME, ("default",)),)),
)
POOLS = (pool("one", TYPES, ("spot", "on-demand"), (A, B)), pool("two", TYPES[:4], ("on-demand",), (A, B)))


def _budgets(chance: Random) -> tuple[Budget, ...]:
    made = []
    for _ in range(chance.choice((0, 1, 1, 2))):
        reasons = chance.choice(((), (), ("Empty",), ("Underutilized", "Drifted")))
        schedule = chance.choice(("", "", "0 11 * * *", "0 20 * * *"))
        if chance.random() < 0.5:
            made.append(Budget(chance.choice((10, 50, 100)), True, reasons, schedule, 7200.0))
        else:
            made.append(Budget(chance.randrange(5), False, reasons, schedule, 7200.0))
    return tuple(made)


def _settings(chance: Random) -> Disruption:
    return Disruption(
        policy=chance.choice(("WhenEmpty", "Balanced", *["WhenEmptyOrUnderutilized"] * 5)),
        consolidate_after_s=chance.choice((0.0, 0.0, 0.0, 30.0, None)),
        budgets=_budgets(chance),
        termination_grace_s=chance.choice((None, 600.0)),
    )


def _node(chance: Random, name: str) -> Node:
    of = chance.choice(("one", "one", "two", "two", "fixed"))
    made = node(
        name,
        chance.choice(TYPES if of == "one" else TYPES[:4]),
        pool=of,
        zone=chance.choice((A, B)),
        capacity=chance.choice(("spot", "on-demand")) if of == "one" else "on-demand",
        created_at=float(chance.randrange(3)),
        ready_at=None if chance.random() < 0.06 else 100.0,
        last_pod_event_at=chance.choice((None, None, NOW - 10, NOW - 1000)),
        leaving_since=NOW - 5 if chance.random() < 0.06 else None,
        is_drifted=chance.random() < 0.06,
    )
    for each in chance.choices(SHAPES, k=chance.choice((0, 1, 1, 1, 2, 3, 5))):
        free = made.free
        if made.ready_at is not None and all(free.get(key, 0) >= n for key, n in each.requests.items()):
            add(made, each, leaving_since=NOW - 1 if chance.random() < 0.05 else None)
    return made


def _cluster(seed: int) -> View:
    chance = Random(seed)
    return view(
        [_node(chance, f"n{i}") for i in range(chance.randrange(1, 7))],
        *POOLS,
        by_pool={each.name: _settings(chance) for each in POOLS},
        market={
            name: tuple(replace(each, is_available=chance.random() > 0.1) for each in offerings)
            for name, offerings in with_spot().items()
        },
        waiting=[Pod("w", chance.choice(SHAPES), 0.0)] if chance.random() < 0.2 else [],
        spot_to_spot=chance.random() < 0.5,
    )


clusters = st.integers(0, 2**32).map(_cluster)
common = settings(deadline=None, max_examples=examples(70))


def _gone(of: View, command: Command) -> list[Node]:
    return [each for each in of.nodes if each.name in command.nodes]


@given(clusters)
@common
def test_no_command_exceeds_a_budget(of: View) -> None:
    command = look(of).command
    if command is None:
        return
    for name, own in of.settings.items():
        ready = [each for each in of.nodes if each.pool == name and each.ready_at is not None]
        away = sum(each.leaving_since is not None for each in ready)
        taken = sum(each.pool == name for each in _gone(of, command))
        assert taken <= allowed(own.budgets, command.reason, len(ready), away, AT)


@given(clusters)
@common
def test_every_pod_of_a_command_finds_room(of: View) -> None:
    """By trying every way to put them: onto nodes that stay, are ready and settled, or onto what is launched, whichever
    of its types comes."""
    command = look(of).command
    if command is None:
        return
    moving = [pod for each in _gone(of, command) for pod in each.pods.values() if pod.leaving_since is None]
    rooms = [each.free for each in of.nodes if _takes_pods(of, each, command)]
    claims = [] if command.replacement is None else [command.replacement, *command.others]
    for pick in range(max((len(each.types) for each in claims), default=1)):
        launched = [allocatable_of(each.types[pick % len(each.types)], each.pool) for each in claims]
        assert _fit(sorted(moving, key=lambda pod: -pod.shape.requests["cpu"]), [*rooms, *launched])


def _takes_pods(of: View, each: Node, command: Command) -> bool:
    if each.name in command.nodes or each.leaving_since is not None or each.ready_at is None:
        return False
    own = of.settings.get(each.pool)
    settled_at = None if own is None else consolidatable_at(each, own)
    return settled_at is None or settled_at <= of.now


def _fit(pods: Sequence[Pod], rooms: list[dict[str, int]]) -> bool:
    if not pods:
        return True
    wanted = {**pods[0].shape.requests, PODS: 1}
    for i, room in enumerate(rooms):
        if all(room.get(key, 0) >= amount for key, amount in wanted.items()):
            left = added(room, {key: -amount for key, amount in wanted.items()})
            if _fit(pods[1:], [*rooms[:i], left, *rooms[i + 1 :]]):
                return True
    return False


@given(clusters)
@common
def test_a_replacement_is_always_cheaper(of: View) -> None:
    """Whatever the launch comes to: everything that would be asked for costs less than the nodes do now."""
    command = look(of).command
    if command is None or command.reason != "Underutilized":
        return
    price = sum(price_of(each, of.market) or 0.0 for each in _gone(of, command))
    assert command.saves_usd_per_hour > 0
    assert command.others == ()
    if command.replacement is not None:
        request = launching.request(command.replacement, of.market)
        assert request is not None
        assert max(each.usd_per_hour for each in request.offerings) < price


@given(clusters)
@common
def test_what_a_command_takes_is_ready_settled_and_of_a_pool_that_says_so(of: View) -> None:
    found = look(of)
    if found.command is None:
        return
    for each in _gone(of, found.command):
        own = of.settings[each.pool]
        assert each.ready_at is not None
        assert each.leaving_since is None
        if found.command.reason == "Drifted":
            assert each.is_drifted
        else:
            settled_at = consolidatable_at(each, own)
            assert settled_at is not None
            assert settled_at <= of.now
        if found.command.reason == "Underutilized":
            assert own.policy != "WhenEmpty"
        if found.command.reason == "Empty":
            assert all(pod.leaving_since is not None for pod in each.pods.values())
        assert each.name not in found.refused


@given(clusters)
@common
def test_a_command_that_is_validated_at_once_stands(of: View) -> None:
    command = look(of).command
    if command is not None and command.needs_validation:
        assert still_holds(command, look(of, frozenset(command.nodes)).command)


@given(clusters)
@common
def test_the_order_of_the_nodes_changes_nothing(of: View) -> None:
    assert _said(look(replace(of, nodes=of.nodes[::-1]))) == _said(look(of))


@given(clusters)
@common
def test_the_bound_that_saves_planning_changes_no_decision(of: View) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prospects, "against", lambda *_: "")
        planned = look(of)
    found = look(of)
    assert _said(found)[0] == _said(planned)[0]
    assert set(found.refused) == set(planned.refused)


def _said(found: Pass) -> tuple[object, dict[str, str]]:
    command = found.command
    if command is None:
        return None, dict(found.refused)
    claims = [] if command.replacement is None else [command.replacement, *command.others]
    launched = [(each.pool.name, [one.name for one in each.types], each.requirements) for each in claims]
    return (command.reason, command.nodes, launched, command.why), dict(found.refused)


def test_the_clusters_of_these_tests_come_to_every_kind_of_command() -> None:
    """That the properties say something: each reason, several at once, and replacements are among them."""
    seen: set[str] = set()
    for seed in range(400):
        command = look(_cluster(seed)).command
        if command is not None:
            many = "several" if len(command.nodes) > 1 else "one"
            seen.add(f"{command.reason}, {many}{', replaced' if command.replacement is not None else ''}")

    assert {
        "Empty, one",
        "Empty, several",
        "Drifted, one",
        "Drifted, one, replaced",
        "Underutilized, one",
        "Underutilized, one, replaced",
        "Underutilized, several",
        "Underutilized, several, replaced",
    } <= seen
