"""`stoker drill spot`: the machine below one worker is taken away, with a notice before.

The drill plays the metadata service of that machine. The worker finds it by a file of its name in the state
directory's `metadata`, as long as the file is there. At the end of the notice worker and engine are killed, whatever
they do, as the machine would be; the file goes with them, since what comes back is another machine.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from stoker.base.errors import Conflict, InvalidInput
from stoker.drill.observed import Notice
from stoker.drill.processes import Process, candidates, choose
from stoker.drill.scene import Scene
from stoker.policy.leaving import SpotAction
from stoker.testing.imds import FakeImds  # a drill is a test that people run


@dataclass(frozen=True)
class Spot:
    """`metadata` is the folder in which workers look for the file of their name."""

    metadata: Path
    notice_s: float = 10.0
    action: SpotAction = "terminate"

    async def inject(self, scene: Scene) -> None:
        """One notice and its end."""
        worker = choose(candidates(scene.look(), "spot", scene.model), scene.random)
        running = await scene.meet(worker.replica)
        file = self.metadata / worker.name
        with FakeImds() as service:
            given_at = scene.clock.monotonic()
            service.notice(self.action, in_s=self.notice_s)
            _write(file, service.url)
            try:
                ends_at = given_at + self.notice_s
                scene.watch.notice = Notice(
                    worker.name, str(worker.replica), given_at, ends_at, open_asks=scene.open_asks
                )
                scene.tell(
                    f"{worker.name} has a notice: {self.action} in {self.notice_s:g} s; {running or 0} tasks on it"
                )
                await scene.clock.sleep(self.notice_s)
            finally:
                file.unlink(missing_ok=True)
            self._take_away(scene, worker)

    def _take_away(self, scene: Scene, worker: Process) -> None:
        """Worker and engine, as far as they have not left."""
        found = {process.name: process for process in scene.look()}
        for name in (worker.name, f"engine-{worker.replica}"):
            process = found.get(name)
            if process is not None and process.pid is not None:
                with contextlib.suppress(Conflict):  # it has left by itself, and its supervisor has not noticed yet
                    scene.kill(process, None)


def _write(file: Path, url: str) -> None:
    """All or nothing. Raises InvalidInput."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        part.write_text(url)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise InvalidInput(f"{file} cannot be written: {error.strerror}", param="state") from error
