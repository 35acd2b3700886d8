"""`stoker drill` on real platforms: each kill passes on one that is whole, and none on one with a planted bug."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flow_parts import ONE_MODEL, STOKER, Running, Start, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.redis]

# A lost worker's tasks are back after two seconds, so that nobody waits for the fifteen that are usual.
SPEC = ONE_MODEL + "queue: {leaseSeconds: 2}\n"
# As long as a busy machine may take, where the answers come at all.
PATIENT = ("--seed", "7", "--wait", "60")
SMALL = ("--tasks", "24", "--seconds", "2", "--compare", "2", *PATIENT)
FEW = ("--tasks", "8", "--seconds", "1", "--compare", "1", *PATIENT)

# The `sitecustomize` of a platform's processes and of its drills: it runs before their own first line. Each bug is
# there while the file of its name is; a drill does not wait long for books that agree, and for a platform that is gone.
PLANTED = """
import sys
from dataclasses import replace
from pathlib import Path

def is_there(bug):
    return Path(__file__).with_name(bug).exists()

if "stoker.worker" in sys.orig_argv:
    from stoker.queue import LeaseState, RedisQueue, keys

    claim, extend, complete = RedisQueue.claim, RedisQueue.extend, RedisQueue.complete

    async def acknowledging(self, model, worker, **options):
        claims = await claim(self, model, worker, **options)
        for one in claims if is_there("acknowledges first") else ():
            entry = await self._redis.call("plant", "HGET", keys.task(one.task.id), "entry")
            await self._redis.call("plant", "XACK", keys.tasks(model), "workers", entry)
            await self._redis.call("plant", "ZREM", keys.leases(model), one.task.id)
        return claims

    async def extending(self, claim, *, lease_s):
        if is_there("acknowledges first"):
            return LeaseState.HELD
        return await extend(self, claim, lease_s=lease_s)

    async def twice(self, claim, result, *, usage=None):
        kept = await complete(self, claim, result, usage=usage)
        if is_there("charges twice"):
            await self.append_usage(replace(usage, id=usage.id + "_again"))
        return kept

    RedisQueue.claim, RedisQueue.extend, RedisQueue.complete = acknowledging, extending, twice

if "stoker.gateway" in sys.orig_argv:
    from stoker.queue import RedisBudgets

    settle = RedisBudgets.settle

    async def nothing(self, owner, items):
        if is_there("settles nothing"):
            items = [item._replace(spent=[each._replace(actual=0) for each in item.spent]) for item in items]
        return await settle(self, owner, items)

    RedisBudgets.settle = nothing

if "drill" in sys.orig_argv:
    from stoker.drill import runs

    runs._SETTLED_S, runs._CLEAN_UP_S = 4.0, 2.0
"""


def stoker(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`more`: of its environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")} | more
    return subprocess.run(
        [str(STOKER), *arguments], capture_output=True, text=True, check=False, timeout=120, env=environ
    )


def checks(verdict: Any) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in verdict["checks"]}


def drill_keys(running: Running) -> list[Any]:
    """Of all drills; the newest last."""
    listed = stoker("keys", "list", "--tenant", "drill", "--all", "--json", "--state", str(running.state))
    return list(json.loads(listed.stdout)["keys"])


@pytest.fixture(scope="module")
def whole(_starting: Start) -> Iterator[Running]:
    running = _starting(spec=SPEC)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def killed(whole: Running) -> Callable[[str, str], Any]:
    """One drill for each role, whatever is asked of it: whom it was to kill (the process and its pid), what it said."""

    @cache
    def drilled(role: str, process: str) -> tuple[int, subprocess.CompletedProcess[str]]:
        pid = whole.pid_of(process)
        return pid, stoker("drill", "kill", role, "--state", str(whole.state), "--json", *SMALL)

    return drilled


@dataclass
class Planted:
    """A platform into which bugs are planted, one at a time."""

    running: Running
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder)}

    def verdict(self, bug: str, role: str, *options: str) -> Any:
        """Of a drill while the bug is there."""
        (self.folder / bug).touch()
        try:
            state = str(self.running.state)
            said = stoker("drill", "kill", role, "--state", state, "--json", *SMALL, *options, **self.environ)
        finally:
            (self.folder / bug).unlink()
        assert said.returncode == 1, said.stdout
        verdict = json.loads(said.stdout)
        assert verdict["verdict"] == "fail"
        return verdict


def plant(starting: Start, folder: Path) -> Planted:
    (folder / "sitecustomize.py").write_text(PLANTED)
    return Planted(starting(spec=SPEC, environ={"PYTHONPATH": str(folder)}), folder)


@pytest.fixture(scope="module")
def planted(_starting: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    found = plant(_starting, tmp_path_factory.mktemp("planted"))
    yield found
    found.running.stop()


@pytest.fixture(scope="module")
def stopped_meanwhile(_starting: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Running, int, str]:
    """A platform that was stopped in the middle of a drill, and the exit code and last words of that."""
    platform = plant(_starting, tmp_path_factory.mktemp("stopped"))
    with a_drill(platform.running, **platform.environ) as drill:
        platform.running.stop()
        _, err = drill.communicate(timeout=60)
    return platform.running, drill.returncode, err


# --- a platform that is whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "process", "may_be_cut"),
    [
        ("worker", "worker-general-1", set()),
        ("engine", "engine-general-1", {"stream"}),
        ("gateway", "gateway", {"stream", "chat"}),
        ("redis", "redis", set()),
    ],
)
def test_a_kill_loses_nothing(
    whole: Running,
    killed: Callable[[str, str], Any],
    role: str,
    process: str,
    may_be_cut: set[str],
) -> None:
    pid, said = killed(role, process)

    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    verdict = json.loads(said.stdout)
    assert (verdict["verdict"], verdict["seed"]) == ("pass", 7)
    evidence = verdict["evidence"]
    (victim,) = evidence["killed"]
    assert (victim["process"], victim["pid"]) == (process, pid)
    assert victim["open"] > 0
    assert whole.pid_of(process) != pid
    counts = {name: evidence[name] for name in ("submitted", "done", "dead", "pending", "lost", "duplicates")}
    assert counts == {"submitted": 12, "done": 12, "dead": 0, "pending": 0, "lost": 0, "duplicates": 0}
    assert {kind for kind, ends in evidence["requests"].items() if "cut" in ends} <= may_be_cut
    assert evidence["budget"]["limit"] - evidence["budget"]["left"] == evidence["budget"]["spent"]
    assert evidence["budget"]["spent"] == evidence["tokens"]["billed"] > 0
    assert evidence["budget"]["reserved"] == 0
    assert drill_keys(whole)[-1]["state"] == "revoked"


def test_what_a_killed_worker_ran_is_run_again_and_paid_for(killed: Callable[[str, str], Any]) -> None:
    """Its tokens: what the client was told, and beside it what the lost attempts were let in with."""
    _, said = killed("worker", "worker-general-1")

    assert said.returncode == 0, said.stdout
    evidence = json.loads(said.stdout)["evidence"]
    assert evidence["killed"][0]["running_tasks"] > 0
    assert evidence["tasks_with_failed_attempts"] > 0
    assert evidence["tokens"]["billed_not_told"] > 0


def test_a_machine_that_is_taken_away_loses_nothing(whole: Running) -> None:
    """Its worker sees the notice and hands back in time; nothing has to be tried again."""
    pids = {whole.pid_of("worker-general-1"), whole.pid_of("engine-general-1")}

    said = stoker(
        "drill", "spot", "--state", str(whole.state), "--json", "--notice-seconds", "3", *SMALL[:2], *SMALL[4:]
    )

    assert said.returncode == 0, said.stdout
    evidence = json.loads(said.stdout)["evidence"]
    assert {killed["pid"] for killed in evidence["killed"]} == pids
    assert evidence["left_registry_after_s"] < 3
    counts = {name: evidence[name] for name in ("submitted", "done", "lost", "tasks_with_failed_attempts")}
    assert counts == {"submitted": 12, "done": 12, "lost": 0, "tasks_with_failed_attempts": 0}
    assert os.listdir(whole.state / "metadata") == []


def test_a_person_reads_a_table(whole: Running) -> None:
    said = stoker("drill", "kill", "engine", "--state", str(whole.state), *FEW)

    assert said.returncode == 0, said.stdout
    lines = said.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:10]] == [
        *("under load", "requests", "restarted", "stall"),
        *("nothing lost", "all done", "exactly once", "answers", "budget"),
    ]
    assert lines[-1].startswith("pass: engine, seed 7, ")
    assert "engine-general-1 (pid " in said.stderr
    assert said.stderr.splitlines()[-1] == "its key is revoked"


def test_one_drill_at_a_time_and_ctrl_c_leaves_nothing_behind(whole: Running) -> None:
    with a_drill(whole) as first:
        second = stoker("drill", "kill", "worker", "--state", str(whole.state))
        first.send_signal(signal.SIGINT)
        _, err = first.communicate(timeout=60)

    assert second.returncode == 2
    assert second.stderr == (
        f"error: another drill runs on this platform: pid {first.pid}\n\nhint: wait for its verdict, or end it\n"
    )
    assert first.returncode == 130
    assert "its key is revoked, and its tasks are cancelled" in err
    assert drill_keys(whole)[-1]["state"] == "revoked"

    def nothing_of_it_is_left() -> bool:
        listed = stoker("tasks", "list", "--state", str(whole.state), "--limit", "100", "--json")
        return not {task["state"] for task in json.loads(listed.stdout)["tasks"]} & {"queued", "running", "retrying"}

    wait_until(nothing_of_it_is_left, 30, lambda: "tasks of a drill that was ended are there still")


@contextmanager
def a_drill(running: Running, **more: str) -> Iterator[subprocess.Popen[str]]:
    """One that is sending its load, and has much of it left. `more`: of its environment."""
    command = [str(STOKER), "drill", "kill", "worker", "--state", str(running.state), "--tasks", "200"]
    with subprocess.Popen(
        [*command, "--seconds", "60"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "sending 200 requests to general over 60 s\n"
            assert "ended" in process.stderr.readline()
            yield process
        finally:
            process.kill()


# --- asked wrongly ----------------------------------------------------------------------------------------------------


def test_a_role_that_is_none() -> None:
    said = stoker("drill", "kill", "router")

    assert said.returncode == 2
    assert "'router' is not one of 'worker', 'engine', 'gateway', 'redis'" in said.stderr


def test_no_platform(tmp_path: Path) -> None:
    said = stoker("drill", "kill", "worker", "--state", str(tmp_path))

    assert said.returncode == 2
    assert said.stderr.startswith(f"error: no platform was started in {tmp_path}\n\nhint: start one with `stoker up`")


def test_a_model_that_is_none(whole: Running) -> None:
    said = stoker("drill", "kill", "worker", "--state", str(whole.state), "--model", "large")

    assert said.returncode == 2
    assert said.stderr == "error: no worker of model 'large' runs here\n\nhint: there is one of: general\n"


def test_an_admin_key_that_is_gone(whole: Running) -> None:
    """Nothing was killed for it."""
    pid = whole.pid_of("worker-general-1")
    credentials = whole.state / "credentials.json"
    text = credentials.read_text()
    try:
        credentials.write_text(json.dumps({**json.loads(text), "admin_key": ""}))
        missing = stoker("drill", "kill", "worker", "--state", str(whole.state))
        credentials.write_text(json.dumps({**json.loads(text), "admin_key": "sk-stoker-nobody"}))
        unknown = stoker("drill", "kill", "worker", "--state", str(whole.state))
    finally:
        credentials.write_text(text)

    assert missing.returncode == 2
    assert missing.stderr.startswith(f"error: there is no admin key in {credentials}, and a drill makes a key")
    assert unknown.returncode == 2
    assert "\nhint: check --key or STOKER_KEY" in unknown.stderr
    assert whole.pid_of("worker-general-1") == pid


# --- planted bugs -----------------------------------------------------------------------------------------------------


def test_a_worker_that_charges_twice_fails(planted: Planted) -> None:
    verdict = planted.verdict("charges twice", "gateway")

    assert not checks(verdict)["exactly once"]
    assert checks(verdict)["all done"]
    assert verdict["evidence"]["duplicates"] >= 12


def test_a_gateway_that_loses_settlements_fails(planted: Planted) -> None:
    """Its records say what was used, and the books of the budget do not."""
    verdict = planted.verdict("settles nothing", "engine")

    assert [name for name, ok in checks(verdict).items() if not ok] == ["budget"]
    budget = verdict["evidence"]["budget"]
    assert budget["spent"] == verdict["evidence"]["tokens"]["billed"]
    assert budget["reserved"] > 0


def test_a_worker_that_acknowledges_before_it_stores_fails(planted: Planted) -> None:
    """What ran when it was killed is in no lease, so nobody runs it again."""
    verdict = planted.verdict("acknowledges first", "worker", "--wait", "10")

    assert not checks(verdict)["all done"]
    assert checks(verdict)["restarted"]
    assert verdict["evidence"]["pending"] > 0
    assert verdict["evidence"]["done"] + verdict["evidence"]["pending"] == verdict["evidence"]["submitted"] == 12


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_a_platform_that_was_stopped(stopped_meanwhile: tuple[Running, int, str]) -> None:
    running, _, _ = stopped_meanwhile

    said = stoker("drill", "kill", "gateway", "--state", str(running.state))

    assert said.returncode == 2
    assert said.stderr.startswith(f"error: the platform in {running.state} is stopped, and a drill needs one that runs")


def test_a_platform_that_is_stopped_meanwhile(stopped_meanwhile: tuple[Running, int, str]) -> None:
    _, code, err = stopped_meanwhile

    assert code == 1
    assert err.endswith(
        "error: the platform was stopped in the middle of the drill\n\nhint: `stoker up` starts it again\n"
    )
    assert "cannot be revoked now; it expires by itself" in err
