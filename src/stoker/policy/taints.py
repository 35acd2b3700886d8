"""Which taints keep a pod off a node, as kube-scheduler decides it."""

from collections.abc import Iterable
from dataclasses import dataclass

BLOCKING = ("NoSchedule", "NoExecute")
"""`PreferNoSchedule` never keeps a pod off."""


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        """As kubectl writes it: `nvidia.com/gpu=true:NoSchedule`."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Toleration:
    """An empty key with `Exists` tolerates every taint; an empty effect, every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return self.operator in ("", "Equal") and self.value == taint.value


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    return any(each.covers(taint) for each in tolerations)


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> tuple[Taint, ...]:
    """The taints that keep the pod off."""
    held = tuple(tolerations)
    return tuple(taint for taint in taints if taint.effect in BLOCKING and not tolerates(held, taint))
