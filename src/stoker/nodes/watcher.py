"""Looks at the cluster again and again, and writes what it saw into the ledger.

It keeps nothing that the ledger does not have: started anew, it reads the lives that are still open and goes on. What
is gone ended at this look, or, where nobody looked for a while, when it was last seen.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from stoker.aws.spot_prices import SpotPrice
from stoker.base import logs
from stoker.base.errors import NotPermitted, StokerError
from stoker.catalog.ec2 import region_of
from stoker.kubernetes.cluster import Cluster, Tree
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.nodes.pricing import Pricing, spot_offerings, step
from stoker.nodes.seeing import Objects, Seen, see
from stoker.render.objects import PART_OF

EVERY_S = 15.0
PRICES_EVERY_S = 3600.0
_PODS = f"{PART_OF}=stoker"
_UNSEEN_S = 2.5 * EVERY_S
"""After a longer pause, what is gone is said to have ended when it was last seen."""
_CLASSES = (("karpenter.k8s.aws/v1", "EC2NodeClass"), ("eks.amazonaws.com/v1", "NodeClass"))
_log = logs.get("nodes")
Life = TypeVar("Life", MachineLife, StayLife)
AskPrices = Callable[[str, Sequence[str], float], list[SpotPrice]]


class Watcher:
    """`namespaces`: where the platform's pods are. `ask_prices` (region, types, since) None: spot machines have the
    price on demand."""

    def __init__(
        self, cluster: Cluster, lives: Lives, namespaces: Sequence[str], ask_prices: AskPrices | None = None
    ) -> None:
        self._cluster, self._lives, self._namespaces = cluster, lives, namespaces
        self._ask_prices = ask_prices
        self._pricing = Pricing()
        self._machines: dict[str, MachineLife] | None = None
        self._stays: dict[str, StayLife] = {}
        self._prices_at = self._prices_since = float("-inf")
        self._priced: set[tuple[str, str]] = set()
        self._said: set[str] = set()

    def look(self, now: float) -> Seen:
        """Writes and returns what there is, with what has ended since the last look. Raises Unavailable, and writes
        nothing, where the cluster or the ledger does not answer: the next look makes up for it."""
        if self._machines is None:
            machines, stays = self._lives.open()
            self._stays = {each.id: each for each in stays}
            self._machines = {each.id: each for each in machines}
        seen = see(self._objects(), self._pricing, now)
        machines_now = [_kept(each, self._machines.get(each.id)) for each in seen.machines]
        stays_now = [_kept_stay(each, self._stays.get(each.id)) for each in seen.stays]
        started = {each.id for each in self._machines.values() if each.usable_at is not None}
        started |= {each.id for each in self._stays.values() if each.ready_at is not None}
        written = Seen(
            [*machines_now, *_ended(self._machines, {each.id for each in machines_now}, now)],
            [*stays_now, *_ended(self._stays, {each.id for each in stays_now}, now)],
            # What has started is not looked at again: its events are forgotten after an hour, and containers restart.
            [each for each in seen.phases if each.subject not in started],
        )
        self._lives.write(machines_seen=written.machines, stays_seen=written.stays, phases_seen=written.phases)
        self._machines = {each.id: each for each in machines_now}
        self._stays = {each.id: each for each in stays_now if each.ended_at is None}
        for name in self._pricing.unknown:
            self._say(
                f"price of {name}", "the catalogue has no price of a machine's type; it counts as free", type=name
            )
        self._look_at_prices(now)
        return written

    def _objects(self) -> Objects:
        nodes = list(self._cluster.list("v1", "Node"))
        claims = self._listed("karpenter.sh/v1", "NodeClaim")
        classes = {
            (kind, each["metadata"]["name"]): each for version, kind in _CLASSES for each in self._listed(version, kind)
        }
        pods: list[Tree] = []
        events: list[Tree] = []
        for namespace in self._namespaces:
            pods += self._cluster.list("v1", "Pod", namespace=namespace, labels=_PODS)
            events += self._listed("v1", "Event", namespace)
        return Objects(nodes, claims, pods, events, classes)

    def _listed(self, api_version: str, kind: str, namespace: str = "") -> list[Tree]:
        """None of what this process may not see, and it says so once."""
        try:
            return list(self._cluster.list(api_version, kind, namespace=namespace))
        except NotPermitted as error:
            self._say(kind, "goes on without what it may not list", kind=kind, error=error.in_log)
            return []

    def _look_at_prices(self, now: float) -> None:
        """Of spot machines that are there: asked each hour, and at once where there is an offering that was not there
        when it was asked last; its machine may be gone within the hour. What fails is tried at the next hour."""
        offerings = spot_offerings((self._machines or {}).values())
        is_new = not self._priced.issuperset(offerings)
        if self._ask_prices is None or not offerings or (now - self._prices_at < PRICES_EVERY_S and not is_new):
            return
        since = min(each.began_at for each in (self._machines or {}).values() if each.capacity == "spot")
        since = since if is_new else max(since, self._prices_since)
        self._prices_at, self._priced = now, set(offerings)
        try:
            for region in sorted({name for _, zone in offerings if (name := region_of(zone))}):
                types = sorted({type_name for type_name, zone in offerings if region_of(zone) == region})
                found = self._ask_prices(region, types, since)
                steps = [step(each.type, each.zone, each.at, each.usd_per_hour) for each in found]
                self._lives.write(prices_seen=[each for each in steps if (each.type, each.zone) in offerings])
            self._prices_since = now
        except StokerError as error:
            self._say("prices", "spot machines have the last price that is known", error=error.in_log)

    def _say(self, what: str, message: str, **fields: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning(message, **fields)


def _kept(machine: MachineLife, known: MachineLife | None) -> MachineLife:
    """When it began and could be used stays as it was first seen."""
    if known is None:
        return machine
    usable = machine.usable_at if known.usable_at is None else known.usable_at
    return replace(machine, began_at=min(known.began_at, machine.began_at), usable_at=usable)


def _kept_stay(stay: StayLife, known: StayLife | None) -> StayLife:
    if known is None:
        return stay
    ready = stay.ready_at if known.ready_at is None else known.ready_at
    return replace(stay, began_at=min(known.began_at, stay.began_at), ready_at=ready)


def _ended(known: dict[str, Life], there: set[str], now: float) -> Iterable[Life]:
    for each in known.values():
        if each.id not in there:
            yield replace(each, ended_at=each.seen_at if now - each.seen_at > _UNSEEN_S else now)
