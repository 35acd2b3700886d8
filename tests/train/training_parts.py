"""Small runs, and processes that train them: what tests of whole runs share."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.registry.folders import FolderStore
from stoker.registry.runs import RunStore
from stoker.registry.shards import read_pieces
from stoker.registry.stores import Store
from stoker.train import record
from stoker.train.record import Summary, summary

HERE = Path(__file__).parent
WORDS = ["ash", "boiler", "coal", "draft", "ember", "flue", "grate", "heat", "iron", "jacket", "kiln", "lamp"]


def write_data(folder: Path, lines: int = 60, seed: int = 1) -> Path:
    """Conversations of different lengths."""
    chance = random.Random(seed)
    folder.mkdir(exist_ok=True)
    path = folder / "data.jsonl"
    with path.open("w") as file:
        for number in range(lines):
            said = " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, 12)))
            messages = [
                {"role": "user", "content": f"Say {number}: {said}"},
                {"role": "assistant", "content": said.upper() if number % 3 else said},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def write_change(folder: Path) -> None:
    """A transform that draws: which words a question has in an epoch."""
    (folder / "change.py").write_text(
        "def change(example, chance):\n"
        "    first, *rest = example['messages']\n"
        "    words = first['content'].split()\n"
        "    kept = [word for word in words if chance.random() < 0.8] or words[:1]\n"
        "    return {'messages': [{**first, 'content': ' '.join(kept)}, *rest]}\n"
    )


def write_run(folder: Path, **settings: Any) -> Path:
    """A run file for a model of some thousand weights; settings as in YAML."""
    said: dict[str, Any] = {
        "name": "tiny",
        "base": "scratch",
        "scratch": {
            "vocabSize": 320,
            "hiddenSize": 16,
            "intermediateSize": 24,
            "numHiddenLayers": 2,
            "numAttentionHeads": 2,
            "numKeyValueHeads": 1,
            "headDim": 8,
            "maxPositionEmbeddings": 256,
        },
        "method": "full",
        "data": "data.jsonl",
        "dropout": 0.1,
        "epochs": 2,
        "dataset": {"maxLength": 96},
        "batch": {"rows": 4, "microRows": 1},
        "optimizer": {"learningRate": 1e-2},
        "checkpointing": {"everySteps": 3},
        "spot": {"watch": False},
        "relaunches": 0,
    }
    said.update(settings)
    path = folder / "run.yaml"
    path.write_text(json.dumps(said))  # JSON is YAML
    return path


@dataclass
class Gang:
    """Use as a context. Launches processes that were forked from one that has imported torch."""

    log: Path
    _said_until: int = 0
    _process: "subprocess.Popen[str]" = field(init=False)

    def __enter__(self) -> "Gang":
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "GLOO_SOCKET_IFNAME": "lo"}
        self._out = self.log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "gang.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._out,
            text=True,
            env=environ,
        )
        try:
            assert self._answer() == {"ready": True}, self.log.read_text()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._out.close()

    def launch(
        self,
        run_file: Path,
        state: Path,
        *,
        world: int = 1,
        kill: tuple[int, str, int] | None = None,
        send: tuple[int, str, int, int] | None = None,
        again: tuple[int, str, int, int] | None = None,
        fault: str | None = None,
        environ: dict[str, str] | None = None,
    ) -> list[int]:
        """Exit codes by rank. `send`: rank, moment, before which of them, and which signal; `kill` is SIGKILL."""
        self._said_until = len(self.log.read_text())
        signals = [
            each for each in (send, again, None if kill is None else (*kill, signal.SIGKILL)) if each is not None
        ]
        asked = {
            "run": str(run_file),
            "state": str(state),
            "world": world,
            "signals": [dict(zip(("rank", "moment", "nth", "signal"), each, strict=True)) for each in signals],
            "fault": fault,
            "environ": environ or {},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        codes: list[int] = self._answer()["codes"]
        return codes

    def said(self) -> str:
        """What the processes of the last launch said."""
        return self.log.read_text()[self._said_until :]

    def until_done(self, run_file: Path, state: Path, *, world: int = 1, most: int = 20) -> int:
        """Begin again until it is completed; how many launches that took."""
        for launches in range(1, most + 1):
            codes = self.launch(run_file, state, world=world)
            if codes == [0] * world:
                return launches
        raise AssertionError(f"not completed in {most} launches:\n{self.log.read_text()[-4000:]}")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()[-4000:]
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Outcome:
    """What a run came to: all that two runs that are the same have in common."""

    losses: dict[int, str]
    samples: dict[int, str]
    weights: dict[str, bytes]
    tokens: int
    """By the newest checkpoint: trained on up to it, whichever launches did."""


def store_of(state: Path, name: str = "tiny") -> FolderStore:
    return FolderStore(state / "runs" / name)


def come_to(state: Path, name: str = "tiny") -> Summary:
    return summary(record.read(store_of(state, name)), now=0.0)


def outcome(state: Path, name: str = "tiny") -> Outcome:
    return outcome_in(store_of(state, name), name)


def outcome_in(store: Store, name: str = "tiny") -> Outcome:
    """Losses as their exact digits, and the bytes of the newest checkpoint."""
    said = summary(record.read(store), now=0.0)
    runs = RunStore(store, name)
    found: dict[str, bytes] = {}

    def use(manifest: Any) -> None:
        names = {piece.name for shard in manifest.shards for piece in shard.pieces}
        read = read_pieces(runs.store, runs.prefix(manifest.name), manifest.shards, dict.fromkeys(names))
        found.update({each: bytes(data) for each, (_, _, data) in read.items()})

    manifest, skipped = runs.newest_whole(use)
    assert manifest is not None
    assert skipped == []
    assert manifest.step == max(said.losses)
    losses = {step: loss.hex() for step, loss in said.losses.items()}
    return Outcome(losses, dict(said.samples), found, int(manifest.state["tokens"]))
