"""Values by step in a few bytes each, since a run has millions of steps. Pure."""

import bisect
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Column(Mapping[int, V], Generic[V]):
    """Values by step. `steps` ascends."""

    def __init__(self, steps: Sequence[int], values: Sequence[V]) -> None:
        self._steps, self._values = steps, values

    def __getitem__(self, step: int) -> V:
        at = bisect.bisect_left(self._steps, step)
        if at == len(self._steps) or self._steps[at] != step:
            raise KeyError(step)
        return self._values[at]

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        return f"<{len(self)} values by step>"


class Digests(Sequence[str]):
    """Sixteen hex digits each, kept as eight bytes; empty text for what is none."""

    def __init__(self) -> None:
        self._packed = array("Q")
        self._none: set[int] = set()

    def append(self, digest: object) -> None:
        try:
            number = int(str(digest), 16)
        except ValueError:
            number = -1
        if f"{number:016x}" != digest:
            number = -1
            self._none.add(len(self._packed))
        self._packed.append(max(number, 0))

    def pop(self) -> None:
        self._packed.pop()
        self._none.discard(len(self._packed))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, at: Any) -> Any:
        at = range(len(self))[at]
        return "" if at in self._none else f"{self._packed[at]:016x}"
