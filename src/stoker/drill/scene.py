"""What an injection has to work with: the processes, the load that runs, and where it notes what it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.drill.observed import Ask, Kill, Target
from stoker.drill.outside import Outside, all_of
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
        """One by one: a list of what runs would be the platform's idea of it, which may be what is wrong."""
        ids = [ask.task_id for ask in self.asks if ask.task_id is not None and ask.ended_at is None]
        try:
            tasks = await all_of([self.outside.task(id, patience_s=0.0) for id in ids])
        except StokerError:
            return 0
        return sum(1 for task in tasks if task is not None and (task.state, task.worker) == ("running", replica))

    def kill(self, process: Process, running: int | None) -> None:
        """Raises Conflict when it is not what it was."""
        open_asks, at = self.open_asks, self.clock.monotonic()
        pid = kill(process, self.supervisor)
        self.watch.kills.append(Kill(process.name, pid, at, open_asks, running))
        self.tell(f"{process.name} (pid {pid}) was killed, with {open_asks} of the load open")
