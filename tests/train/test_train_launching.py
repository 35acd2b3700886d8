"""Processes that train together: begun, ended and begun again as one. They are real; what they would learn is not."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stoker.base.errors import InvalidInput
from stoker.spec.loading import run_of
from stoker.spec.run import Run
from stoker.train import exits, gang, launching
from stoker.train.gang import End, Patience, decisive, patience
from stoker.train.launching import Ended, Launcher, Nodes, environs, nodes_of

FAKE = Path(__file__).with_name("fake_trainer.py")


def a_run(**more: Any) -> Run:
    return run_of(json.dumps({"name": "tune", "data": "a.jsonl", **more}))


class Bench:
    """A launcher of fake processes, and what it said."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.told: list[str] = []
        self.written = b""

    def launcher(self, plan: list[Any], grace_s: float = 20.0, **run: Any) -> Launcher:
        def write(data: bytes) -> None:
            self.written += data

        return Launcher(
            a_run(**{"processes": 2, **run}),
            self.state / "run.yaml",
            state=self.state,
            environ={"PATH": os.environ["PATH"], "PLAN": json.dumps(plan)},
            tell=self.told.append,
            grace_s=grace_s,
            newest=self.newest,
            write=write,
            random=Random(1),
            backoff_s=0.001,
        )

    def newest(self) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return (self.state / "newest").read_text()
        return None

    async def ready(self, launch: int, ranks: int = 2) -> None:
        files = [self.state / f"ready-{launch}-{rank}" for rank in range(ranks)]
        await asyncio.to_thread(until, lambda: all(file.exists() for file in files))

    def environ(self, launch: int, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / f"launch-{launch}-{rank}").read_text())
        return found

    def left(self) -> list[int]:
        """Processes that are still there."""
        return [pid for file in self.state.glob("launch-*") if is_there(pid := json.loads(file.read_text())["pid"])]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends_at
        os.sched_yield()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(launching, "TRAINER", (str(FAKE),))
    monkeypatch.setattr(gang, "LINGER_S", 0.05)
    monkeypatch.setattr(gang, "FAILED_S", 0.2)
    made = Bench(tmp_path)
    yield made
    assert made.left() == []


# --- how it ends ------------------------------------------------------------------------------------------------------


async def test_a_run_is_over_when_all_its_processes_are(bench: Bench) -> None:
    ended = await bench.launcher(["done"]).run()
    assert ended == Ended(exits.COMPLETED, 1, "completed")
    assert bench.told == []
    assert sorted(bench.written.splitlines()) == [b"[1] launch 1", b"launch 1"]


async def test_each_process_is_told_who_it_is(bench: Bench) -> None:
    await bench.launcher(["done"], threads=3).run()
    zero, one = (bench.environ(1, rank) for rank in (0, 1))
    for name, value in {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "3",
        "STOKER_LEASH": "stdin",
    }.items():
        assert (zero[name], one[name]) == (value, value)
    assert [(each["RANK"], each["LOCAL_RANK"]) for each in (zero, one)] == [("0", "0"), ("1", "1")]
    assert zero["MASTER_PORT"] == one["MASTER_PORT"]
    assert zero["STOKER_LAUNCH"] == one["STOKER_LAUNCH"]
    assert zero["argv"] == [str(bench.state / "run.yaml"), "--state", str(bench.state)]


@pytest.mark.parametrize("code", [exits.ASKED_WRONGLY, exits.BUDGET_SPENT, exits.FENCED, exits.DIVERGED])
async def test_what_would_come_to_the_same_is_not_begun_again(bench: Bench, code: int) -> None:
    ended = await bench.launcher([[str(code), "wait"]] if code != exits.BUDGET_SPENT else [str(code)]).run()
    assert (ended.code, ended.launches) == (code, 1)


async def test_a_notice_to_one_process_is_the_end_of_all(bench: Bench) -> None:
    """It had nothing unsaved, and ended at once; the other does not know."""
    ended = await bench.launcher([[str(exits.PREEMPTED), "wait"]]).run()
    assert ended == Ended(exits.PREEMPTED, 1, "preempted")


# --- begun again ------------------------------------------------------------------------------------------------------


async def test_a_killed_process_ends_the_others_and_all_begin_again(bench: Bench) -> None:
    ended = await bench.launcher([["wait", "kill"], "done"]).run()
    assert ended == Ended(exits.COMPLETED, 2, "completed")
    assert bench.told == [
        "process 1 was ended by SIGKILL, which the system also sends when there is no memory left, all begin again "
        "from the beginning in 0.0 s; the last that it said:\n    launch 1"
    ]
    assert bench.environ(1, 0)["STOKER_LAUNCH"] != bench.environ(2, 0)["STOKER_LAUNCH"]


async def test_one_that_does_not_end_when_asked_is_killed(bench: Bench) -> None:
    ended = await bench.launcher([["ignore", "kill"], "done"]).run()
    assert (ended.code, ended.launches) == (exits.COMPLETED, 2)


async def test_without_a_new_checkpoint_it_is_begun_again_only_so_often(bench: Bench) -> None:
    ended = await bench.launcher(["1"], processes=1, relaunches=2).run()
    assert (ended.code, ended.launches) == (exits.FAILED, 3)
    assert ended.why == (
        "process 0 ended with exit code 1, and so it was 3 times without a new checkpoint; the last that it said:\n"
        "    launch 3\n    a trace\n    of 1"
    )


async def test_with_a_new_checkpoint_each_time_it_goes_on(bench: Bench) -> None:
    ended = await bench.launcher(["learn"] * 5 + ["done"], processes=1, relaunches=1).run()
    assert (ended.code, ended.launches) == (exits.COMPLETED, 6)
    assert "all begin again from checkpoint checkpoint-5 in" in bench.told[-1]


async def test_relaunches_may_be_none(bench: Bench) -> None:
    ended = await bench.launcher(["1"], processes=1, relaunches=0).run()
    assert (ended.code, ended.launches) == (exits.FAILED, 1)
    assert ended.why.startswith("process 0 ended with exit code 1, and relaunches is 0; ")


async def test_a_port_that_somebody_else_took_is_nobodys_fault(bench: Bench) -> None:
    ended = await bench.launcher(["port", "port", "done"], processes=1, relaunches=0).run()
    assert (ended.code, ended.launches) == (exits.COMPLETED, 3)
    assert bench.told == []


# --- stopped ----------------------------------------------------------------------------------------------------------


async def test_a_stop_is_passed_on_and_all_save(bench: Bench) -> None:
    launcher = bench.launcher(["wait"])
    running = asyncio.ensure_future(launcher.run())
    await bench.ready(1)
    launcher.stop("SIGTERM")
    launcher.stop("SIGTERM")
    assert await running == Ended(exits.PREEMPTED, 1, "SIGTERM")
    assert bench.told == ["SIGTERM: ending after a checkpoint; for that there are 20 s"]
    assert bench.written.count(b"SIGTERM: saved") == 2


async def test_who_has_not_saved_within_the_grace_is_killed(bench: Bench) -> None:
    launcher = bench.launcher([["wait", "ignore"]], grace_s=0.1)
    running = asyncio.ensure_future(launcher.run())
    await bench.ready(1)
    launcher.stop("SIGTERM")
    assert await running == Ended(exits.PREEMPTED, 1, "SIGTERM; killed: process 1, which did not end by itself")


async def test_ctrl_c_a_second_time_ends_all_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "ONE_PRESS_S", 0.0)
    launcher = bench.launcher(["ignore"])
    running = asyncio.ensure_future(launcher.run())
    await bench.ready(1)
    launcher.stop("SIGINT")
    launcher.stop("SIGINT")
    assert (await running).code == exits.PREEMPTED


async def test_ctrl_c_that_two_pass_on_is_one(bench: Bench) -> None:
    """`timeout -s INT` signals its child, and then the group of both."""
    launcher = bench.launcher(["wait"])
    running = asyncio.ensure_future(launcher.run())
    await bench.ready(1)
    launcher.stop("SIGINT")
    launcher.stop("SIGINT")
    assert await running == Ended(exits.PREEMPTED, 1, "SIGINT")


async def test_a_stop_while_nothing_runs_begins_nothing(bench: Bench) -> None:
    launcher = bench.launcher(["1"], processes=1)
    launcher._backoff_s = 60.0
    running = asyncio.ensure_future(launcher.run())
    await asyncio.to_thread(until, lambda: bool(bench.told))
    launcher.stop("SIGTERM")
    assert await running == Ended(exits.PREEMPTED, 1, "SIGTERM")


LAUNCHER = """
import sys
from pathlib import Path
from stoker.spec.loading import load_run
from stoker.train import launching

launching.TRAINER = (sys.argv[1],)
state = Path(sys.argv[2])
file = state / "run.yaml"
sys.exit(launching.launch(load_run(file), file, state=state, tell=print).code)
"""


def a_launcher(state: Path, plan: str) -> tuple[list[str], dict[str, str]]:
    """The command of a process that launches two others, and its environment."""
    (state / "run.yaml").write_text('{"name": "tune", "data": "a.jsonl", "processes": 2}')
    environ = {**os.environ, "PLAN": json.dumps([plan]), "CHECKPOINT_S3": str(state / "store")}
    return [sys.executable, "-c", LAUNCHER, str(FAKE), str(state)], environ


def test_the_end_of_the_launcher_is_the_end_of_its_processes(tmp_path: Path) -> None:
    """Killed, it tells nobody: they are on a leash."""
    command, environ = a_launcher(tmp_path, "leash")
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as launcher:
        try:
            until(lambda: all((tmp_path / f"ready-1-{rank}").exists() for rank in (0, 1)))
        finally:
            launcher.kill()
    pids = [json.loads((tmp_path / f"launch-1-{rank}").read_text())["pid"] for rank in (0, 1)]
    until(lambda: (tmp_path / "leash-ended").exists())
    until(lambda: not any(is_running(pid) for pid in pids))


def is_running(pid: int) -> bool:
    """An orphan that has ended may stay a zombie where nobody is there to take it away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_is_one_to_all(tmp_path: Path, number: signal.Signals) -> None:
    command, environ = a_launcher(tmp_path, "wait")
    with subprocess.Popen(command, env=environ, stdout=-1, stderr=-1) as launcher:
        until(lambda: all((tmp_path / f"ready-1-{rank}").exists() for rank in (0, 1)))
        launcher.send_signal(number)
        out, err = launcher.communicate(timeout=30)
    assert launcher.returncode == exits.PREEMPTED
    assert out.decode().startswith(f"{number.name}: ending after a checkpoint")
    assert err.count(b"SIGTERM: saved") == 2


# --- decisions --------------------------------------------------------------------------------------------------------


def test_the_cause_counts_and_not_its_effects() -> None:
    killed = End(1, -9, was_told=False)
    lost_its_peer = End(0, 1, was_told=False)
    told = End(2, exits.PREEMPTED, was_told=True)
    assert decisive([lost_its_peer, killed, told]) == killed
    assert decisive([End(0, 0, False), lost_its_peer]) == lost_its_peer
    assert decisive([lost_its_peer, End(1, exits.FENCED, False)]) == End(1, exits.FENCED, False)
    assert decisive([End(0, 0, False), End(1, 0, False)]).code == exits.COMPLETED
    assert decisive([told, End(1, -9, was_told=True)]) == told
    assert killed.words == "process 1 was ended by SIGKILL, which the system also sends when there is no memory left"


def test_how_long_the_others_are_waited_for() -> None:
    assert patience(exits.COMPLETED, grace_s=100) == Patience(
        None, 100
    )  # the last checkpoint takes as long as it takes
    assert patience(exits.PREEMPTED, grace_s=100) == Patience(2.0, 100)
    assert patience(exits.FAILED, grace_s=100) == Patience(0.0, 5.0)
    assert patience(-9, grace_s=100) == Patience(0.0, 5.0)


def test_with_several_nodes_the_operator_says_where_the_others_are() -> None:
    pet = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "tune-0.tune", "PET_MASTER_PORT": "29500"}
    run = a_run(nodes=2, gpus=4)
    nodes = nodes_of(run, pet)
    assert nodes == Nodes(2, 1, "tune-0.tune", 29500)
    made = environs(run, nodes, {"A": "b"})
    assert list(made) == [4, 5, 6, 7]
    last = made[7]
    assert (last["RANK"], last["LOCAL_RANK"], last["WORLD_SIZE"], last["LOCAL_WORLD_SIZE"]) == ("7", "3", "8", "4")
    assert (last["MASTER_ADDR"], last["MASTER_PORT"], last["A"]) == ("tune-0.tune", "29500", "b")
    assert "GLOO_SOCKET_IFNAME" not in last
    assert "OMP_NUM_THREADS" not in last


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PET_NNODES": "2"}, "nodes is 2, and PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT does not say where"),
        (
            {"PET_NNODES": "3", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "1"},
            "nodes is 2, PET_NNODES 3 and PET_NODE_RANK 1",
        ),
        (
            {"PET_NNODES": "1:2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "1"},
            "PET_NNODES is '1:2'; it must be a whole number",
        ),
        ({"TORCHELASTIC_RUN_ID": "x"}, "torchrun runs `stoker train`, which starts processes itself"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        nodes_of(a_run(nodes=2), environ)
    assert said in refused.value.message


def test_on_one_machine_processes_talk_over_loopback_only() -> None:
    made = environs(a_run(), Nodes(1, 0, "127.0.0.1", None), {})
    assert made[0]["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert 1024 <= int(made[0]["MASTER_PORT"]) < 65536
