"""Builders of what tests of a run's record need: launches as lists of records, and the two kinds of store in small."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.base.errors import NotFound, Unavailable
from stoker.registry.stores import Buffer, Stat

T0 = 1_700_000_000.0
NODE = {"id": "i-1", "type": "g5.xlarge", "zone": "us-east-1a", "capacity": "spot", "usd_per_hour": 0.36}


class Objects:
    """Objects in memory, as S3 keeps them; `is_away`: nothing can be written."""

    url = "s3://bucket/runs/fine"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.is_away = False

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        if self.is_away:
            raise Unavailable("the store is away")
        self.puts.append(key)
        self.objects[key] = b"".join(pieces)
        return str(len(self.puts))

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        if key not in self.objects:
            raise NotFound(f"no {key}")
        return self.objects[key][start : None if length is None else start + length]

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        return self.get(key), "1"

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        return Stat(key, len(self.get(key)), "1", T0)

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        return iter([self.stat(key) for key in sorted(self.objects) if key.startswith(prefix)])

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        for key in list(keys):
            self.objects.pop(key, None)

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        return 0


class Files(Objects):
    """A folder; what is in it is read from there."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.url = folder, folder.as_uri()

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        return (self.folder / key).read_bytes()[start : None if length is None else start + length]

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        found = sorted(str(each.relative_to(self.folder)) for each in self.folder.rglob("*") if each.is_file())
        return iter([self.stat(key) for key in found if key.startswith(prefix)])


def launch(at: float = T0, *, epoch: int = 1, steps: int = 10, nodes: Any = (NODE,), **more: Any) -> dict[str, Any]:
    fields = {"epoch": epoch, "nodes": list(nodes), "processes": 1, "started_at": at, "steps": steps, "run": "fine"}
    return {"kind": "launch", "at": at + 4.0, "up": 1.0, **fields, **more}


def step(number: int, at: float, up: float, *, seconds: float = 2.0, loss: float | None = None, **more: Any) -> Any:
    fields = {"loss": 10.0 - number if loss is None else loss, "tokens": 100, "rate": 1e-4, "norm": 1.0}
    fields |= {"data_s": 0.0, "stall_s": 0.0, "samples": f"{number:016x}"}
    return {"kind": "step", "at": at, "up": up, "step": number, "seconds": seconds, **fields, **more}


def save(number: int, at: float, up: float, *, stall_s: float = 0.0, **more: Any) -> dict[str, Any]:
    fields = {"name": f"s{number:08d}-e0001-0", "stall_s": stall_s, "seconds": 0.5, "bytes": 1000, "why": "interval"}
    return {"kind": "save", "at": at, "up": up, "step": number, **fields, **more}


def said(kind: str, at: float, up: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "at": at, "up": up, **more}


def life(
    began: float, *, epoch: int, from_step: int, to_step: int, saved: Iterable[int] = (), end: str | None = None
) -> list[dict[str, Any]]:
    """A launch that starts for 6 s, restores for 1 s of them if it goes on, and does a step each 2 s."""
    found = [launch(began, epoch=epoch)]
    if from_step:
        found.append(said("resume", began + 5, 2.0, step=from_step, name="s", skipped=[], seconds=1.0))
    at = began + 6.0
    for number in range(from_step + 1, to_step + 1):
        at += 2.0
        found.append(step(number, at, at - began - 3.0))
        if number in saved:
            found.append(save(number, at, at - began - 3.0))
    if end is not None:
        found.append(said("end", at + 1.0, at + 1.0 - began - 3.0, state=end, why="", step=to_step))
    return found


def flat(*lives: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list(itertools.chain.from_iterable(lives))
