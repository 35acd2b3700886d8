"""`stoker drill kill`: SIGKILL, in the middle of work."""

from stoker.base.errors import Conflict
from stoker.drill.processes import Process, candidates, choose
from stoker.drill.scene import Scene

# For the one that was killed before to be back, when several are to be.
_BACK_S = 30.0


async def inject(scene: Scene) -> None:
    """One kill. Raises StokerError when there is nobody to kill, or another process has that number."""
    await _wait_for_the_last(scene)
    victim = choose(await _ready(scene), scene.random)
    running = await scene.meet(victim.replica)
    if victim.role == "engine":
        await scene.watch.count()
    scene.kill(victim, running)


async def _ready(scene: Scene) -> list[Process]:
    """Those that can be killed, as soon as there is one."""
    give_up_at = scene.clock.monotonic() + _BACK_S
    while True:
        try:
            return candidates(scene.look(), scene.target, scene.model)
        except Conflict:
            if scene.clock.monotonic() >= give_up_at:
                raise
        await scene.clock.sleep(0.05)


async def _wait_for_the_last(scene: Scene) -> None:
    give_up_at = scene.clock.monotonic() + _BACK_S
    while any(kill.back_at is None for kill in scene.watch.kills) and scene.clock.monotonic() < give_up_at:
        await scene.clock.sleep(0.05)
