"""A worker whose instance is taken away, on a real `stoker up`: nothing is lost, nothing fails, and it comes back."""

import json
import urllib.request
from typing import Any

import pytest
from flow_parts import Running, Start, wait_until

from stoker.testing.imds import FakeImds

pytestmark = [pytest.mark.flow, pytest.mark.redis]

TWO = """
llm:
  models:
    general: {replicas: {min: 2, max: 2}, limits: {concurrency: 3, contextTokens: 4096, maxOutputTokens: 3000}}
"""
TASKS = 6
TOKENS = 1200
# As long as it may be: the end of an answer, token 1 of the embedded engine, is never chosen.
BODY = {
    "model": "general",
    "messages": [{"role": "user", "content": "hello"}],
    "logit_bias": {"1": -100},
    "max_tokens": TOKENS,
}


def call(running: Running, method: str, path: str, body: Any = None, *, admin: bool = False) -> Any:
    key = running.admin_key if admin else running.key
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    asking = urllib.request.Request(running.url + path, data, headers, method=method)
    with urllib.request.urlopen(asking, timeout=60) as said:
        return json.load(said)


def tasks(running: Running) -> list[Any]:
    found: list[Any] = call(running, "GET", "/admin/v1/tasks?limit=100", admin=True)["tasks"]
    return found


def replicas(running: Running) -> set[str]:
    return {replica["id"] for replica in call(running, "GET", "/admin/v1/replicas", admin=True)["replicas"]}


def said(running: Running, event: str) -> list[Any]:
    """Lines of that event in the first worker's log."""
    lines = (running.state / "logs" / "worker-general-1.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def test_what_runs_on_an_instance_that_is_taken_away_is_done_elsewhere_and_fails_nowhere(start: Start) -> None:
    running = start(spec=TWO)
    for _ in range(TASKS):
        call(running, "POST", "/v1/tasks", BODY)
    wait_until(lambda: {task["state"] for task in tasks(running)} == {"running"}, 30, lambda: str(tasks(running)))
    assert {task["worker"] for task in tasks(running)} == {"general-1", "general-2"}

    file = running.state / "metadata" / "worker-general-1"
    with FakeImds() as imds:
        imds.notice("hibernate", in_s=120)
        file.write_text(imds.url)
        wait_until(lambda: replicas(running) == {"general-2"}, 30, lambda: str(replicas(running)))
        answer = call(running, "POST", "/v1/chat/completions", {**BODY, "max_tokens": 2})
        assert answer["usage"]["completion_tokens"] == 2  # nobody notices
        wait_until(lambda: {task["state"] for task in tasks(running)} == {"done"}, 60, lambda: str(tasks(running)))
        [notice], [back] = said(running, "spot notice"), said(running, "handed back")
        assert (notice["action"], notice["running"], back["count"]) == ("hibernate", 3, 3)

        # Each is done once, by the one that stayed, and none has failed.
        assert [task["worker"] for task in tasks(running)] == ["general-2"] * TASKS
        assert [task["failures"] for task in tasks(running)] == [[]] * TASKS
        records = call(running, "GET", "/admin/v1/usage/records", admin=True)["records"]
        ended = [one for one in records if one["kind"] == "task"]
        assert [(one["status"], one["replica"]) for one in ended] == [("done", "general-2")] * TASKS
        # What the first had generated was gone on with: nobody pays a token twice, nor the prompt.
        assert [one["completion_tokens"] for one in ended] == [TOKENS] * TASKS
        assert {one["prompt_tokens"] for one in ended} == {answer["usage"]["prompt_tokens"]}
        assert replicas(running) == {"general-2"}

        file.unlink()  # a new instance
        wait_until(lambda: replicas(running) == {"general-1", "general-2"}, 30, lambda: str(replicas(running)))
    assert len(said(running, "notice withdrawn")) == 1
    assert len(said(running, "engine is up")) == 2
    running.stop()
