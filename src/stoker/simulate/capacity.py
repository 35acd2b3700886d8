"""What EC2 has at a moment: by a rate of refusals, or by a recorded spot market."""

import bisect
import random
from collections.abc import Callable, Iterable

from stoker.policy.cluster import Offering
from stoker.simulate.options import Options

_BUCKET_S = 600.0


class Capacity:
    """`spot_nodes` counts the spot nodes that there are or that were asked for."""

    def __init__(self, options: Options, spot_nodes: Callable[[], int]) -> None:
        self._options = options
        self._spot_nodes = spot_nodes
        self._times = [at for at, _ in options.available]

    def at(self, now: float, offerings: Iterable[Offering]) -> dict[tuple[str, str, str], bool]:
        """By (type, zone, capacity type): whether there is any."""
        is_spot_full = self._times and self._spot_nodes() >= self.spot_nodes_at(now)
        found: dict[tuple[str, str, str], bool] = {}
        for each in offerings:
            key = each.type.name, each.zone, each.capacity
            found[key] = not (each.capacity == "spot" and is_spot_full) and not self._is_out(now, key)
        return found

    def spot_nodes_at(self, now: float) -> int:
        """Of the recorded market: how many spot nodes there are to be had."""
        place = bisect.bisect_right(self._times, now) - 1
        return self._options.available[max(place, 0)][1]

    def _is_out(self, now: float, key: tuple[str, str, str]) -> bool:
        share = self._options.no_capacity
        if share <= 0:
            return False
        drawn = random.Random(f"{self._options.seed}/capacity/{int(now // _BUCKET_S)}/{'/'.join(key)}")
        return drawn.random() < share
