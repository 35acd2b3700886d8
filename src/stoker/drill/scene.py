"""What an injection has to work with: the processes, the load that runs, and where it notes what it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.drill.observed import Ask, Kill, Target
from stoker.drill.outside import Outside
from stoker.drill.processes import Look, Process, kill
from stoker.drill.watching import Watch

# How long an injection waits for the moment in which it meets work.
_MEET_S = 5.0
_LOOK_S = 0.01
_INTO_S = 0.2


@dataclass
class Scene:
    target: Target
    model: str
    look: Look
    supervisor: int
    asks: Sequence[Ask]
    outside: Outside
    watch: Watch
    random: Random
    clock: Clock
    tell: Callable[[str], None]

    @property
    def open_asks(self) -> int:
        return sum(1 for ask in self.asks if ask.began_at is not None and ask.ended_at is None)

    async def meet(self, replica: str | None) -> int | None:
        """Returns when the drill's own work runs there: tasks on the replica; for `None`, anything. At the latest after
        some seconds, since a platform may be too quick for anybody to see it. Says how many tasks run there."""
        give_up_at = self.clock.monotonic() + _MEET_S
        running = 0
        while self.clock.monotonic() < give_up_at:
            if await self._works(replica):
                # Into the middle of it: the first moment is always the same.
                await self.clock.sleep(self.random.uniform(0.0, _INTO_S))
                running = await self._works(replica)
                if running:
                    break
            await self.clock.sleep(_LOOK_S)
        return None if replica is None else running

    async def _works(self, replica: str | None) -> int:
        return self.open_asks if replica is None else await self._running_on(replica)

    async def _running_on(self, replica: str) -> int:
        runs = {ask.run for ask in self.asks}
        try:
            tasks = await self.outside.tasks(self.model, state="running", patience_s=0.0)
        except StokerError:
            return 0
        return sum(1 for task in tasks if task.run in runs and task.worker == replica)

    def kill(self, process: Process, running: int | None) -> None:
        """Raises Conflict when it is not what it was."""
        open_asks, at = self.open_asks, self.clock.monotonic()
        pid = kill(process, self.supervisor)
        self.watch.kills.append(Kill(process.name, pid, at, open_asks, running))
        self.tell(f"{process.name} (pid {pid}) was killed, with {open_asks} of the load open")
