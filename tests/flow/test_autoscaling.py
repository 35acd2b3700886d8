"""Replicas that come and go with load, on a real `stoker up`: from zero to the most and back, with nothing lost."""

import json
import math
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flow_parts import STOKER, Running, Start, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.redis]

QUICK = """
keda:
  pollingInterval: 1
  cooldownPeriod: 3
  activationLagCount: 29  # so that the whole burst is there when it is woken
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 0}}}}
llm: {models: {general: {replicas: {min: 0, max: 3}, limits: {concurrency: 4, maxOutputTokens: 1000}}}}
"""
BURST = 30
# As long as it may be: the end of an answer, token 1 of the embedded engine, is never chosen.
BODY = {"model": "general", "messages": [{"role": "user", "content": "hello"}], "logit_bias": {"1": -100}}


def call(running: Running, method: str, path: str, body: Any = None, *, admin: bool = False) -> Any:
    key = running.admin_key if admin else running.key
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(running.url + path, data, headers, method=method), timeout=60
    ) as said:
        return json.load(said)


def processes(running: Running) -> list[str]:
    run: Any = running.run_json()
    return sorted(process["name"] for process in run["processes"])


def scale(running: Running) -> Any:
    done = subprocess.run(
        [STOKER, "scale", "--json", "--state", running.state], capture_output=True, text=True, check=True, timeout=30
    )
    return json.loads(done.stdout)


def moves(running: Running) -> list[Any]:
    """The decisions that changed something."""
    return [one for one in scale(running)["decisions"] if one["before"] != one["after"]]


def wait_for(running: Running, replicas: int, seconds: float = 60) -> None:
    def there() -> bool:
        return [model["replicas"] for model in scale(running)["models"]] == [replicas]

    wait_until(there, seconds, lambda: json.dumps(scale(running)))


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[[Running], "subprocess.Popen[bytes]"]]:
    """Starts `stoker scale --watch --json`, whose lines go to `watched`."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(running: Running) -> "subprocess.Popen[bytes]":
        with (tmp_path / "watched").open("wb") as watched:
            argv = [STOKER, "scale", "--watch", "--json", "--state", running.state]
            begun.append(subprocess.Popen(argv, stdout=watched, stderr=subprocess.DEVNULL))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def test_from_zero_to_the_most_and_back_to_zero_and_every_task_is_done_once(
    start: Start, watching: Callable[[Running], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    running = start(spec=QUICK)
    assert processes(running) == ["gateway", "redis"]
    watch, watched = watching(running), tmp_path / "watched"
    wait_until(lambda: bool(watched.read_text()), 30, lambda: json.dumps(scale(running)))
    with ThreadPoolExecutor(8) as pool:
        body = {**BODY, "max_tokens": 200}
        submitted = {task["id"] for task in pool.map(lambda _: call(running, "POST", "/v1/tasks", body), range(BURST))}
    assert len(submitted) == BURST

    wait_for(running, 3)
    pairs = [f"{role}-general-{number}" for role in ("engine", "worker") for number in (1, 2, 3)]
    assert set(pairs) <= set(processes(running))

    def tasks() -> list[Any]:
        found: list[Any] = call(running, "GET", "/admin/v1/tasks?limit=100", admin=True)["tasks"]
        return found

    wait_until(lambda: {task["state"] for task in tasks()} == {"done"}, 60, lambda: str(tasks()))
    wait_for(running, 0)
    wait_until(lambda: processes(running) == ["gateway", "redis"], 30, lambda: str(processes(running)))

    # Nothing is lost, nothing was handed back or done twice: one attempt and one record each.
    assert {task["id"] for task in tasks()} == submitted
    assert {task["attempts"] for task in tasks()} == {1}
    assert len({task["worker"] for task in tasks()}) > 1
    usage = call(running, "GET", "/admin/v1/usage", admin=True)
    assert (usage["total"]["requests"], usage["total"]["completion_tokens"]) == (BURST, BURST * 200)

    first, second, *rest = moves(running)
    assert (first["before"], first["after"], first["reason"]) == (0, 1, "woken by waiting")
    assert first["keda"]["by"] == ["waiting"]
    assert (second["before"], second["after"], second["hpa"]["by"]) == (1, 3, "waiting")
    waiting = second["hpa"]["metrics"][0]
    assert waiting["target"] == 4000
    assert second["hpa"]["asked"] == waiting["replicas"] == math.ceil(waiting["value"] / 4000) > 3
    assert second["hpa"]["limits"] == ["maximum"]
    assert second["reason"] == f"waiting {waiting['value'] // 1000} at 4 each: {waiting['replicas']}, at most 3"
    *_, last = rest
    assert (last["before"], last["after"], last["reason"]) == (1, 0, "nothing to do for longer than the cooldown")
    assert [one["after"] for one in rest] == sorted((one["after"] for one in rest), reverse=True)
    assert last["at"] - second["at"] > 3.0

    running.stop()
    assert watch.wait(30) == 0  # it ends with the platform
    seen = [json.loads(line) for line in watched.read_text().splitlines()]
    assert [one["number"] for one in seen] == list(range(1, len(seen) + 1))
    assert (seen[0]["before"], seen[0]["after"], seen[0]["reason"]) == (0, 0, "idle")
    assert [one for one in seen if one["before"] != one["after"]] == [first, second, *rest]
    running.wait_until_nothing_is_left()


RARE = """
keda: {pollingInterval: 600}
llm: {models: {general: {replicas: {min: 0, max: 3}}}}
"""


def test_a_request_to_a_model_at_zero_is_answered_and_who_is_killed_then_comes_back(start: Start) -> None:
    """Long before anybody would look by the clock."""
    running = start(spec=RARE)
    wait_until(lambda: bool(scale(running)["decisions"]), 30, lambda: "it never looked")
    answer = call(running, "POST", "/v1/chat/completions", {**BODY, "max_tokens": 2})
    assert answer["usage"]["completion_tokens"] == 2
    os.kill(running.pid_of("worker-general-1"), signal.SIGKILL)

    def is_back() -> bool:
        run: Any = running.run_json()
        [worker] = [process for process in run["processes"] if process["role"] == "worker"]
        return worker["restarts"] == 1 and worker["state"] == "ready"

    wait_until(is_back, 60, lambda: str(running.run_json()))
    assert [(one["before"], one["after"], one["reason"]) for one in scale(running)["decisions"]] == [
        (0, 0, "idle"),
        (0, 1, "woken by waiting"),
    ]
    running.stop()


PATIENT = """
keda:
  pollingInterval: 1
  lagCount: 1
  runningCount: 100
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 1}}}}
llm:
  models:
    general: {replicas: {min: 1, max: 2}, limits: {concurrency: 3, contextTokens: 4096, maxOutputTokens: 3000}}
"""


def test_what_runs_on_a_replica_that_is_not_needed_any_more_is_neither_cut_nor_done_again(start: Start) -> None:
    """Three fit on the first; the three that wait ask for a second, which takes them, and then nothing waits."""
    running = start(spec=PATIENT)
    for _ in range(6):
        call(running, "POST", "/v1/tasks", {**BODY, "max_tokens": 1500})

    def records() -> list[Any]:
        found: list[Any] = call(running, "GET", "/admin/v1/usage/records", admin=True)["records"]
        return found

    wait_until(lambda: len(records()) == 6, 60, lambda: str(records()))
    wait_until(lambda: "engine-general-2" not in processes(running), 60, lambda: str(processes(running)))
    assert [(one["status"], one["attempts"], one["completion_tokens"]) for one in records()] == [("done", 1, 1500)] * 6
    [up, down] = moves(running)
    assert (up["before"], up["after"], up["hpa"]["by"]) == (1, 2, "waiting")
    assert (down["before"], down["after"], down["reason"]) == (2, 1, "running 6 at 100 each: 1")
    second = [one for one in records() if one["replica"] == "general-2"]
    assert [one["started_at"] < down["at"] < one["ended_at"] for one in second] == [True] * 3
    running.stop()


def replicas_in(running: Running) -> list[str]:
    return [name for name in processes(running) if name.startswith(("worker-", "engine-"))]


def test_by_hand_goes_before_the_load_until_it_is_taken_back(start: Start) -> None:
    def by_hand(*argv: str) -> "subprocess.CompletedProcess[str]":
        command = [STOKER, "scale", "--state", running.state, *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    running = start(spec=RARE)
    wait_until(lambda: bool(scale(running)["decisions"]), 30, lambda: "it never looked")
    assert by_hand("general", "2").returncode == 0
    wait_for(running, 2)
    refused = by_hand("general", "1000")
    assert (refused.returncode, "it has to be a whole number from 0 to" in refused.stderr) == (2, True)
    assert by_hand("general", "0").returncode == 0
    wait_for(running, 0)
    assert moves(running)[-1]["reason"] == "by hand"
    wait_until(lambda: not replicas_in(running), 60, lambda: str(processes(running)))
    assert by_hand("general", "auto").returncode == 0
    assert call(running, "POST", "/v1/chat/completions", {**BODY, "max_tokens": 2})["usage"]["completion_tokens"] == 2
    assert moves(running)[-1]["reason"].startswith("woken by")
    running.stop()
