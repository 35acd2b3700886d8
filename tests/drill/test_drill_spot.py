"""A notice to one worker, and the end of its machine. With real ones: tests/flow/test_drill.py."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from drill_parts import SkippingClock, a_process

from stoker.base.errors import InvalidInput
from stoker.drill.outside import Outside
from stoker.drill.processes import Process
from stoker.drill.scene import Scene
from stoker.drill.spot import Spot
from stoker.drill.watching import Watch


@dataclass
class Service:
    """In the place of the metadata service: notes what it is told, and whether it serves."""

    url: str = "http://127.0.0.1:7777"
    told: list[Any] = field(default_factory=list)
    serves: bool = False

    def notice(self, action: str = "terminate", in_s: float = 120.0) -> None:
        assert self.serves
        self.told.append((action, in_s))

    def __enter__(self) -> "Service":
        self.serves = True
        return self

    def __exit__(self, *_: object) -> None:
        self.serves = False


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    played = Service()
    monkeypatch.setattr("stoker.drill.spot.FakeImds", lambda: played)
    return played


def a_scene(found: Sequence[Process], clock: SkippingClock) -> Scene:
    outside = Outside("http://127.0.0.1:1", "nobody", clock)
    return Scene(
        target="spot",
        model="general",
        look=lambda: found,
        supervisor=os.getpid(),
        asks=(),
        outside=outside,
        watch=Watch(lambda: found, outside, "general", clock),
        random=Random(7),
        clock=clock,
        tell=lambda text: None,
    )


async def test_a_worker_is_told_where_its_notice_stands_and_is_gone_at_its_end_with_its_engine(
    tmp_path: Path, service: Service
) -> None:
    clock = SkippingClock()
    file = tmp_path / "metadata" / "worker-general-1"
    meanwhile: list[Any] = []
    with a_process("stoker.worker", "general-1") as worker, a_process("stoker.engine", "7001") as engine:
        found = [
            Process("worker-general-1", "worker", "ready", pid=worker.pid, model="general"),
            Process("engine-general-1", "engine", "ready", engine.pid, "general", "http://127.0.0.1:7001"),
        ]
        scene = a_scene(found, clock)
        # Nothing runs there, so it is waited for 5 s.
        clock.at.append((10.0, lambda: meanwhile.append((file.read_text(), service.serves, worker.poll()))))

        await Spot(file.parent, notice_s=20.0, action="stop").inject(scene)

        assert (worker.wait(), engine.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
    assert service.told == [("stop", 20.0)]
    assert meanwhile == [("http://127.0.0.1:7777", True, None)]
    assert os.listdir(file.parent) == []
    assert not service.serves
    notice = scene.watch.notice
    assert notice is not None
    assert (notice.worker, notice.replica, notice.ends_at - notice.given_at) == ("worker-general-1", "general-1", 20.0)
    assert [(kill.name, kill.pid, kill.at) for kill in scene.watch.kills] == [
        ("worker-general-1", worker.pid, notice.ends_at),
        ("engine-general-1", engine.pid, notice.ends_at),
    ]


async def test_one_that_has_left_by_itself_needs_no_killing(tmp_path: Path) -> None:
    clock = SkippingClock()
    with a_process("stoker.worker", "general-1") as worker:
        found = [Process("worker-general-1", "worker", "ready", pid=worker.pid, model="general")]
        scene = a_scene(found, clock)

        def leave() -> None:
            worker.kill()
            worker.wait()

        clock.at.append((8.0, leave))

        await Spot(tmp_path, notice_s=10.0).inject(scene)

    assert scene.watch.kills == []


async def test_a_drill_that_is_ended_withdraws_the_notice_with_its_file(tmp_path: Path) -> None:
    """As Ctrl-C does it."""
    clock = SkippingClock()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with a_process("stoker.worker", "general-1") as worker:
        found = [Process("worker-general-1", "worker", "ready", pid=worker.pid, model="general")]
        clock.at.append((8.0, interrupt))

        with pytest.raises(KeyboardInterrupt):
            await Spot(tmp_path, notice_s=10.0).inject(a_scene(found, clock))

        assert worker.poll() is None
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text("a file")
    with a_process("stoker.worker", "general-1") as worker:
        found = [Process("worker-general-1", "worker", "ready", pid=worker.pid, model="general")]

        with pytest.raises(InvalidInput) as refused:
            await Spot(tmp_path / "metadata").inject(a_scene(found, SkippingClock()))

    assert "cannot be written" in refused.value.message
