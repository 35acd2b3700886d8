"""`stoker drill spot --run`: a training run loses its machines, and has to come to what it comes to without that.

Twice the same run, each in a folder of its own: in the calm, and in the storm. In the storm its machine gets a notice
and goes; on the next one a process is killed without a word, and the launcher begins all of them again. Then every step
is compared: loss, samples, and in the end the weights, bit for bit. What is promised is docs/drills.md.
"""

import asyncio
import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.drill.compared import Storm, Strike, Told, judge, of_store
from stoker.drill.verdicts import Verdict
from stoker.registry.stores import Store
from stoker.spec.loading import dump
from stoker.spec.run import Run, RunBudget, Tracking
from stoker.testing.imds import FakeImds  # a drill is a test that people run
from stoker.train import exits, launching, runs
from stoker.train.launching import Ended, Launcher
from stoker.train.record import PREFIX

_POLL_S = 0.01
_NOTICE_S = 120.0
# A drill is watched by somebody: notices are looked for often, and nobody waits for a backoff.
_LOOK_S = 0.05
_BACKOFF_S = 0.05
_EVERY_STEPS = 5
# So that most of what is killed has one to go on from.
_CHECKPOINTS_AT_LEAST = 4
STEPS = 24


@dataclass(frozen=True)
class Plan:
    """`kills` without a word, after one notice."""

    run: Run
    """With places that do not depend on where its file is."""
    folder: Path
    """In which the drill keeps both runs."""
    kills: int = 1
    seed: int = 0
    steps: int = STEPS
    """So many at most are done of it."""


def planned(run: Run, kills: int, steps: int) -> Run:
    """The run as a drill does it: its beginning, on this machine alone, seen by nobody else, and with checkpoints to go
    on from. It is a run of its own: warm-up and schedule are those of so many steps."""
    steps = min(steps, run.steps or steps)
    every = min(run.checkpointing.every_steps or _EVERY_STEPS, max(1, steps // _CHECKPOINTS_AT_LEAST))
    checkpoints = run.checkpointing.model_copy(update={"every_steps": every, "every_seconds": None})
    spot = run.spot.model_copy(update={"watch": True, "poll_seconds": _LOOK_S, "guarantee": "off"})
    return run.model_copy(
        update={
            "checkpoints": None,
            "checkpointing": checkpoints,
            "nodes": 1,
            "steps": steps,
            "spot": spot,
            "relaunches": max(run.relaunches, kills),
            "budget": RunBudget(),
            "tracking": Tracking(),
        }
    )


async def drill(plan: Plan, *, environ: Mapping[str, str], tell: Callable[[str], None]) -> Verdict:
    """Both runs: at the same time on processors, one after the other where they would share GPUs. Whatever ends it, no
    process is left."""
    run = planned(plan.run, plan.kills, plan.steps)
    together = "one after the other" if run.gpus else "at the same time"
    tell(f"run {run.name}, {run.steps} steps at most, twice, {together}: in the calm, and in the storm")
    began_at = time.monotonic()
    calm = _Side.of(plan.folder / "calm", run, environ)
    storm = _Side.of(plan.folder / "storm", run, environ)
    weather = _Weather(storm, plan.kills, Random(plan.seed), tell)
    if run.gpus:
        ended, struck = await calm.run(), await weather.run()
    else:
        async with _both(calm.run(), weather.run()) as (first, second):
            ended, struck = await first, await second
    found = Told(calm=of_store(calm.store, run.name), storm=of_store(storm.store, run.name))
    verdict = judge(found, ended, struck, every_steps=run.checkpointing.every_steps or 1)
    verdict.evidence["seconds"] = round(time.monotonic() - began_at, 1)
    return verdict


@asynccontextmanager
async def _both(first: Any, second: Any) -> AsyncIterator[tuple["asyncio.Task[Any]", "asyncio.Task[Any]"]]:
    """If one fails, or both are given up, the other is ended, and waited for."""
    tasks = (asyncio.ensure_future(first), asyncio.ensure_future(second))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Side:
    """One of the two runs: its files, its store, its launches."""

    run_as: Run
    file: Path
    state: Path
    store: Store
    environ: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, run: Run, environ: Mapping[str, str]) -> "_Side":
        state, file = folder / "state", folder / "run.yaml"
        try:
            state.mkdir(parents=True)
            file.write_text(dump(run), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be written: {error.strerror}", param="state") from error
        # What would lead to the run's own checkpoints, or to a real notice, is nothing for a drill.
        mine = {name: value for name, value in environ.items() if name != runs.PLACE}
        mine |= {"AWS_EC2_METADATA_DISABLED": "true"}
        _, store = runs.begin(run, file, state, mine)
        return cls(run, file, state, store, mine)

    def launcher(self, **environ: str) -> Launcher:
        log = self.file.with_name("log")

        def write(data: bytes) -> None:
            with log.open("ab") as out:
                out.write(data)

        return Launcher(
            self.run_as,
            self.file,
            state=self.state,
            environ={**self.environ, **environ},
            tell=lambda text: write(f"{text}\n".encode()),
            grace_s=self.run_as.spot.grace_seconds,
            newest=launching.newest(self.store, self.run_as),
            write=write,
            backoff_s=_BACKOFF_S,
        )

    async def run(self) -> Ended:
        return await self.launcher().run()


class _Weather:
    """What happens to the run in the storm."""

    def __init__(self, side: _Side, kills: int, random: Random, tell: Callable[[str], None]) -> None:
        self._side = side
        self._kills = kills
        self._random = random
        self._tell = tell
        self._seen = Seen(runs.folder_of(side.state, side.run_as.name) / PREFIX)

    async def run(self) -> Storm:
        storm = Storm()
        storm.ended.append(await self._noticed(storm))
        if storm.ended[-1].code == exits.PREEMPTED:
            self._tell("it has saved and ended; on another machine it goes on")
            storm.ended.append(await self._killed(storm))
        self._tell(f"the storm is over: {storm.ended[-1].why}")
        return storm

    async def _noticed(self, storm: Storm) -> Ended:
        """The first machine: it is taken away in its first third, so that there is something left to be killed."""
        with FakeImds() as imds:
            launcher = self._side.launcher(
                AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.url, AWS_EC2_METADATA_DISABLED="false"
            )
            async with _running(launcher) as running:
                if await self._reaches(running, lambda of_all: self._random.randint(1, max(1, of_all // 3))):
                    imds.notice("terminate", in_s=_NOTICE_S)
                    storm.strikes.append(Strike("notice", self._seen.step))
                    self._tell(f"step {self._seen.step} of {self._seen.of_all}: a notice, terminate in {_NOTICE_S:g} s")
                return await running

    async def _killed(self, storm: Storm) -> Ended:
        """The next machine: processes are killed, each time one, and all begin again by themselves."""
        launcher = self._side.launcher()
        async with _running(launcher) as running:
            for left in range(self._kills, 0, -1):
                if not await self._reaches(running, functools.partial(self._next, left=left), anew=True):
                    break
                rank, pid = self._random.choice(sorted(launcher.pids.items()))
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)
                storm.strikes.append(Strike("kill", self._seen.step, rank))
                self._tell(f"step {self._seen.step} of {self._seen.of_all}: process {rank} is killed")
            return await running

    def _next(self, of_all: int, left: int) -> int:
        """Anywhere in this kill's part of what is left, but not at the very end."""
        done = self._seen.step
        return self._random.randint(done, max(done, done + (of_all - 2 - done) // left))

    async def _reaches(
        self, running: "asyncio.Task[Ended]", choose: Callable[[int], int], *, anew: bool = False
    ) -> bool:
        """Whether the run comes to the step that is chosen when it is known how many there are. `anew`: counted from
        the first step that the next launch does."""
        launches = self._seen.launches if anew else 0
        chosen = None
        while not running.done():
            self._seen.look()
            has_begun = self._seen.launches > launches and self._seen.has_stepped
            if has_begun and chosen is None:
                chosen = choose(self._seen.of_all)
            if chosen is not None and self._seen.step >= chosen:
                return True
            await asyncio.sleep(_POLL_S)
        return False


@asynccontextmanager
async def _running(launcher: Launcher) -> AsyncIterator["asyncio.Task[Ended]"]:
    task = asyncio.ensure_future(launcher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Seen:
    """What the record of a run in a folder has come to, as it grows."""

    folder: Path
    launches: int = 0
    of_all: int = 0
    step: int = 0
    """The latest, of the latest launch."""
    has_stepped: bool = False
    """Whether the latest launch has done a step."""
    _read: dict[Path, int] = field(default_factory=dict)

    def look(self) -> None:
        for line in self._new():
            if line.get("kind") == "launch":
                self.launches, self.of_all, self.has_stepped = self.launches + 1, int(line["steps"]), False
            elif line.get("kind") == "step":
                self.step, self.has_stepped = int(line["step"]), True

    def _new(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.folder.glob("*.jsonl")):
            with file.open("rb") as lines:
                lines.seek(self._read.get(file, 0))
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._read[file] = self._read.get(file, 0) + len(line)
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)
