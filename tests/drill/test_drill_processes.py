"""Who may be killed, and that nobody else ever is."""

import os
import signal
from random import Random

import pytest
from drill_parts import a_process

from stoker.base.errors import Conflict, InvalidInput
from stoker.drill.processes import Process, candidates, choose, kill

WORKERS = [
    Process("worker-general-1", "worker", "ready", pid=11, model="general"),
    Process("worker-code-1", "worker", "starting", pid=12, model="code"),
]
GATEWAY = Process("gateway", "gateway", "ready", pid=13)


def test_those_of_a_role_that_are_ready() -> None:
    found = [*WORKERS, GATEWAY]

    assert candidates(found, "worker", None) == [WORKERS[0]]
    assert candidates(found, "spot", "general") == [WORKERS[0]]
    assert candidates(found, "gateway", "general") == [GATEWAY]


def test_a_worker_and_its_engine_are_one_replica() -> None:
    assert WORKERS[0].replica == Process("engine-general-1", "engine", "ready").replica == "general-1"
    assert GATEWAY.replica is None


@pytest.mark.parametrize(
    ("target", "model", "message", "hint"),
    [
        (
            "redis",
            None,
            "this platform's Redis is another's (redis.url), so a drill cannot kill it",
            "what runs and can be killed: worker, gateway",
        ),
        (
            "engine",
            None,
            "no engine runs here: the models are on other servers (engine.url), or at zero",
            "what runs and can be killed: worker, gateway",
        ),
        ("worker", "large", "no worker of model 'large' runs here", "there is one of: code, general"),
    ],
)
def test_who_is_not_there(target: object, model: str | None, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        candidates([*WORKERS, GATEWAY], target, model)  # type: ignore[arg-type]

    assert (refused.value.message, refused.value.hint) == (message, hint)


def test_a_worker_of_a_model_at_zero() -> None:
    with pytest.raises(InvalidInput) as refused:
        candidates([GATEWAY], "worker", None)

    assert refused.value.message == "no worker runs here: its model may be at zero until a request comes"


def test_one_that_is_not_ready_is_not_killed() -> None:
    with pytest.raises(Conflict) as refused:
        candidates(WORKERS, "worker", "code")

    assert refused.value.message == "no worker is ready: worker-code-1 is starting"


def test_the_same_seed_chooses_the_same() -> None:
    many = [Process(f"worker-general-{n}", "worker", "ready", pid=n) for n in range(10)]

    chosen = [choose(many, Random(seed)).name for seed in range(20)]

    assert chosen == [choose(many[::-1], Random(seed)).name for seed in range(20)]
    assert len(set(chosen)) > 1


def test_the_process_that_the_supervisor_started_is_killed() -> None:
    with a_process("-m", "stoker.worker", "--replica", "general-1") as process:
        victim = Process("worker-general-1", "worker", "ready", pid=process.pid, model="general")

        assert kill(victim, os.getpid()) == process.pid
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "victim", "supervisor"),
    [
        # Its number has come round, and is another program's.
        (("-m", "http.server"), Process("worker-general-1", "worker", "ready"), os.getpid()),
        # It is a worker, and another replica's.
        (("stoker.worker", "--replica", "general-2"), Process("worker-general-1", "worker", "ready"), os.getpid()),
        (
            ("stoker.engine", "--port", "7001"),
            Process("engine-general-1", "engine", "ready", url="http://127.0.0.1:7002"),
            os.getpid(),
        ),
        # It is a gateway, and of another platform.
        (("stoker.gateway",), Process("gateway", "gateway", "ready"), 1),
    ],
    ids=["program", "replica", "engine", "platform"],
)
def test_nobody_else_is_killed(arguments: tuple[str, ...], victim: Process, supervisor: int) -> None:
    with a_process(*arguments) as process:
        named = Process(victim.name, victim.role, victim.state, pid=process.pid, url=victim.url)

        with pytest.raises(Conflict) as refused:
            kill(named, supervisor)

        assert refused.value.message == f"pid {process.pid} is not {victim.name} (any more), so it was not killed"
        assert process.poll() is None


def test_one_that_is_gone_is_not_killed() -> None:
    with a_process("stoker.gateway") as process:
        process.kill()
        process.wait()

        with pytest.raises(Conflict):
            kill(Process("gateway", "gateway", "ready", pid=process.pid), os.getpid())


def test_one_that_does_not_run_is_not_killed() -> None:
    with pytest.raises(Conflict) as refused:
        kill(Process("gateway", "gateway", "waiting"), os.getpid())

    assert refused.value.message == "gateway does not run now, so it cannot be killed"
