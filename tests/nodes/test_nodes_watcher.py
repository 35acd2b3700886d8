"""The watcher against a cluster's stand-in: what it writes into the ledger, to the second."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from nodes_parts import GPU_TYPE, NOON, ZONE, claim, event, node, pod

from stoker.aws.spot_prices import SpotPrice
from stoker.base.errors import Unavailable
from stoker.kubernetes.cluster import Cluster, connect, connect_in_pod
from stoker.meter.lives import Lives, MachineLife
from stoker.meter.store import Store
from stoker.nodes.seeing import share_of
from stoker.nodes.watcher import AskPrices, Watcher
from stoker.testing.kubernetes import ApiServer, api_server, certificates
from stoker.testing.kubernetes.server import TOKEN


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


@pytest.fixture(name="cluster")
def a_cluster(api: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    found = connect(api.kubeconfig(tmp_path / "config"), "stand-in", sleep=lambda _: None, random=Random(1))
    yield found
    found.close()


@pytest.fixture(name="lives")
def a_ledger(tmp_path: Path) -> Iterator[Lives]:
    store = Store(f"sqlite:///{tmp_path}/ledger.db")
    yield Lives(store)
    store.close()


def watcher(cluster: Cluster, lives: Lives, ask: AskPrices | None = None) -> Watcher:
    return Watcher(cluster, lives, ["stoker"], ask)


def machines(lives: Lives) -> dict[str, MachineLife]:
    return {each.id: each for each in lives.machines(since=0, until=NOON * 2)}


def phases(lives: Lives, subject: str) -> dict[str, tuple[float, float | None]]:
    """Seconds after NOON."""
    return {
        each.phase: (each.began_at - NOON, None if each.ended_at is None else each.ended_at - NOON)
        for each in lives.phases(since=0, until=NOON * 2)
        if each.subject == subject
    }


def test_a_replica_waits_for_a_machine_and_starts_on_it(api: ApiServer, cluster: Cluster, lives: Lives) -> None:
    watch = watcher(cluster, lives)
    api.put(pod("general-a", 0))
    watch.look(NOON + 1)
    assert machines(lives) == {}

    # Karpenter asks for a machine, and EC2 gives one: it is billed from here on, and nobody can use it yet.
    api.put(claim("gpu-1", 4, instance="i-0a", Launched=24))
    watch.look(NOON + 30)
    one = machines(lives)["i-0a"]
    assert (one.pool, one.type, one.zone, one.capacity) == ("gpu", GPU_TYPE, ZONE, "on-demand")
    assert (one.began_at, one.usable_at, one.ended_at) == (NOON + 24, None, None)
    assert phases(lives, "i-0a") == {"capacity": (4, 24), "boot": (24, None)}

    api.put(
        claim("gpu-1", 4, instance="i-0a", node="ip-1", Launched=24, Registered=60, Initialized=71),
        node("ip-1", 60, "i-0a", ready=70),
        pod("general-a", 0, on="ip-1", bound=72),
        event("Pulling", "general-a", 75),
    )
    watch.look(NOON + 90)
    assert machines(lives)["i-0a"].usable_at == NOON + 71
    assert phases(lives, "i-0a") == {"capacity": (4, 24), "boot": (24, 71)}
    waits = {"queue": (0, 4), "capacity": (4, 24), "boot": (24, 72)}
    assert phases(lives, "uid-general-a") == {**waits, "image": (72, None)}

    pulled = 'Successfully pulled image "x" in 2m (2m including waiting). Image size: 8589934592 bytes.'
    api.put(
        event("Pulled", "general-a", 195, pulled),
        pod("general-a", 0, on="ip-1", bound=72, started=196),
    )
    watch.look(NOON + 200)
    assert phases(lives, "uid-general-a") == {**waits, "image": (72, 195), "weights": (195, None)}

    api.put(pod("general-a", 0, on="ip-1", bound=72, started=196, ready=316))
    watch.look(NOON + 330)
    [stay] = lives.stays(since=0, until=NOON * 2)
    assert (stay.machine, stay.model, stay.replica, stay.workload) == ("i-0a", "general", "general-a", "model-general")
    assert (stay.began_at, stay.ready_at, stay.share) == (NOON + 72, NOON + 316, 1.0)
    assert phases(lives, "uid-general-a") == {**waits, "image": (72, 195), "weights": (195, 316)}
    details = {each.phase: each.detail for each in lives.phases(since=0, until=NOON * 2) if each.subject == stay.id}
    assert details["image"] == "8.00 GiB"

    # Its container starts anew an hour later, and its events are forgotten: how it started stays known.
    api.take("Event", "general-a.pulling")
    api.take("Event", "general-a.pulled")
    api.put(pod("general-a", 0, on="ip-1", bound=72, started=4000))
    watch.look(NOON + 4010)
    assert phases(lives, "uid-general-a") == {**waits, "image": (72, 195), "weights": (195, 316)}
    assert lives.stays(since=0, until=NOON * 2)[0].ready_at == NOON + 316


def test_why_a_machine_went_is_what_karpenter_said_last(api: ApiServer, cluster: Cluster, lives: Lives) -> None:
    watch = watcher(cluster, lives)
    api.put(claim("gpu-1", 4, instance="i-0a", Launched=24), claim("gpu-2", 4, instance="i-0b", Launched=24))
    watch.look(NOON + 30)
    for name, instance in (("gpu-1", "i-0a"), ("gpu-2", "i-0b")):
        going = claim(name, 4, instance=instance, Launched=24, DisruptionReason=40)
        going["status"]["conditions"][-1]["reason"] = "Underutilized"
        api.put(going)
    watch.look(NOON + 45)
    # Of one it was thought better.
    api.put(claim("gpu-2", 4, instance="i-0b", Launched=24))
    api.take("NodeClaim", "gpu-1")
    watch.look(NOON + 60)
    found = machines(lives)
    assert (found["i-0a"].why, found["i-0a"].ended_at) == ("Underutilized", NOON + 60)
    assert (found["i-0b"].why, found["i-0b"].ended_at) == ("", None)


def a_running_replica(api: ApiServer, capacity: str = "on-demand") -> None:
    done = {"Launched": 20.0, "Registered": 50.0, "Initialized": 60.0}
    api.put(
        claim("gpu-1", 0, instance="i-0a", node="ip-1", capacity=capacity, **done),
        node("ip-1", 50, "i-0a", ready=60, capacity=capacity),
        pod("general-a", 0, on="ip-1", bound=61, started=70, ready=100),
    )


def test_a_spot_machine_that_is_taken_back_ends_with_who_was_on_it(
    api: ApiServer, cluster: Cluster, lives: Lives
) -> None:
    asked = []

    def ask(region: str, types: object, since: float) -> list[SpotPrice]:
        asked.append((region, types, since - NOON))
        return [
            SpotPrice(GPU_TYPE, ZONE, NOON - 600, 0.25),
            SpotPrice(GPU_TYPE, "us-west-2b", NOON, 9.0),
            SpotPrice(GPU_TYPE, ZONE, NOON + 90, 0.5),
        ]

    watch = watcher(cluster, lives, ask)
    a_running_replica(api, "spot")
    watch.look(NOON + 110)
    watch.look(NOON + 125)
    assert asked == [("us-west-2", [GPU_TYPE], 20.0)]
    assert [(each.at - NOON, each.nano_usd_per_hour) for each in lives.prices(until=NOON * 2)] == [
        (-600, 250_000_000),
        (90, 500_000_000),
    ]
    for kind, name in (("Pod", "general-a"), ("Node", "ip-1"), ("NodeClaim", "gpu-1")):
        api.take(kind, name)
    watch.look(NOON + 140)

    assert machines(lives)["i-0a"].ended_at == NOON + 140
    assert lives.stays(since=0, until=NOON * 2)[0].ended_at == NOON + 140
    assert lives.open() == ([], [])


def test_prices_are_asked_each_hour_and_at_once_for_what_is_new(api: ApiServer, cluster: Cluster, lives: Lives) -> None:
    """A machine may be there for less than an hour."""
    asked = []

    def ask(region: str, types: Sequence[str], since: float) -> list[SpotPrice]:
        asked.append((list(types), since - NOON))
        return []

    watch = watcher(cluster, lives, ask)
    a_running_replica(api, "spot")
    watch.look(NOON + 110)
    other = node("ip-2", 200, "i-0b", ready=210, capacity="spot")
    other["metadata"]["labels"]["node.kubernetes.io/instance-type"] = "g6.2xlarge"
    api.put(other)
    watch.look(NOON + 220)
    watch.look(NOON + 235)
    watch.look(NOON + 3830)
    both = [GPU_TYPE, "g6.2xlarge"]
    assert asked == [([GPU_TYPE], 20), (sorted(both), 20), (sorted(both), 220)]


def test_a_node_that_was_not_ready_for_a_while_did_not_start_anew(
    api: ApiServer, cluster: Cluster, lives: Lives
) -> None:
    watch = watcher(cluster, lives)
    api.put(node("ip-2", 0, "i-0b", ready=10))
    watch.look(NOON + 15)
    api.put(node("ip-2", 0, "i-0b"))
    watch.look(NOON + 30)
    api.put(node("ip-2", 0, "i-0b", ready=40))
    watch.look(NOON + 45)
    assert machines(lives)["i-0b"].usable_at == NOON + 10


@pytest.mark.parametrize(
    ("label", "said", "capacity"),
    [
        ("karpenter.sh/capacity-type", "reserved", "reserved"),
        ("eks.amazonaws.com/capacityType", "SPOT", "spot"),
        ("eks.amazonaws.com/capacityType", "CAPACITY_BLOCK", "reserved"),
        ("eks.amazonaws.com/capacityType", "ON_DEMAND", "on-demand"),
    ],
)
def test_how_a_machine_was_bought(
    api: ApiServer, cluster: Cluster, lives: Lives, label: str, said: str, capacity: str
) -> None:
    bought = node("ip-2", 0, "i-0b")
    del bought["metadata"]["labels"]["karpenter.sh/capacity-type"]
    bought["metadata"]["labels"][label] = said
    api.put(bought)
    watcher(cluster, lives).look(NOON + 15)
    assert machines(lives)["i-0b"].capacity == capacity


def test_of_several_kinds_of_slices_each_is_as_much_of_the_machine_as_any() -> None:
    small, large = "nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb"
    assert share_of({small: 1}, {small: 2, large: 1, "cpu": 1000}) == 0.25


def test_a_pod_of_a_replica_over_several_nodes_is_its_leaders(api: ApiServer, cluster: Cluster, lives: Lives) -> None:
    a_running_replica(api)
    further = pod("general-0-1", 0, on="ip-1", bound=62)
    further["metadata"]["annotations"] = {"leaderworkerset.sigs.k8s.io/leader-name": "general-0"}
    api.put(further)
    watcher(cluster, lives).look(NOON + 110)
    stays = {each.id: each.replica for each in lives.stays(since=0, until=NOON * 2)}
    assert stays == {"uid-general-a": "general-a", "uid-general-0-1": "general-0"}


def test_an_image_that_is_pulled_again_later_was_there_when_its_container_started(
    api: ApiServer, cluster: Cluster, lives: Lives
) -> None:
    a_running_replica(api)
    api.put(event("Pulling", "general-a", 62), event("Pulled", "general-a", 90))
    watcher(cluster, lives).look(NOON + 110)
    assert phases(lives, "uid-general-a")["image"] == (61, 70)


def test_a_watcher_that_was_killed_goes_on_and_ends_what_vanished_when_it_was_last_seen(
    api: ApiServer, cluster: Cluster, lives: Lives
) -> None:
    a_running_replica(api)
    api.put(node("ip-2", 0, "i-0b", ready=10))
    watcher(cluster, lives).look(NOON + 110)
    api.take("Node", "ip-2")

    watcher(cluster, lives).look(NOON + 4000)

    found = machines(lives)
    assert (found["i-0b"].seen_at, found["i-0b"].ended_at) == (NOON + 110, NOON + 110)
    assert (found["i-0a"].seen_at, found["i-0a"].ended_at) == (NOON + 4000, None)


def test_while_the_api_is_away_no_life_ends(api: ApiServer, cluster: Cluster, lives: Lives) -> None:
    a_running_replica(api)
    watch = watcher(cluster, lives)
    watch.look(NOON + 110)
    api.fail(lambda call: True, 503, times=6)
    with pytest.raises(Unavailable):
        watch.look(NOON + 125)
    assert machines(lives)["i-0a"].ended_at is None

    watch.look(NOON + 140)
    assert (machines(lives)["i-0a"].seen_at, machines(lives)["i-0a"].ended_at) == (NOON + 140, None)


def test_without_rights_for_nodeclaims_it_goes_on_with_nodes_and_says_so_once(
    api: ApiServer, cluster: Cluster, lives: Lives
) -> None:
    a_running_replica(api)
    api.fail(lambda call: call.path.endswith("/nodeclaims"), 403, times=9)
    watch = watcher(cluster, lives)
    watch.look(NOON + 110)
    watch.look(NOON + 125)

    # Nobody knows when it was launched: it counts from when it joined.
    assert (machines(lives)["i-0a"].began_at, machines(lives)["i-0a"].usable_at) == (NOON + 50, NOON + 60)
    assert phases(lives, "uid-general-a")["capacity"] == (0, 50)
    assert watch._said == {"NodeClaim"}


def test_in_a_pod_the_token_is_read_for_each_request(api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(certificates.pem()[0])
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    host, _, port = api.url.removeprefix("https://").partition(":")
    there = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    cluster = connect_in_pod(there, tmp_path)
    assert cluster.version().startswith("v1.34")

    (tmp_path / "token").write_text("another")
    with pytest.raises(Exception, match="does not know who asks"):
        cluster.version()
    cluster.close()
