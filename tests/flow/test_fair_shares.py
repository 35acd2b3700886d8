"""Two tenants on one platform as it is started: one floods it, the other comes later with little."""

import json
import urllib.request
from typing import Any

import pytest
from flow_parts import Start, wait_until

pytestmark = [pytest.mark.flow, pytest.mark.redis]

ONE_AT_A_TIME = """
llm: {models: {general: {limits: {concurrency: 1, contextTokens: 4096, maxOutputTokens: 2000}}}}
tenants: {flood: {}, late: {}}
"""


def test_a_flood_of_tasks_does_not_keep_another_tenant_waiting(start: Start) -> None:
    running = start(spec=ONE_AT_A_TIME)

    def call(key: str, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(running.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def submit(key: str, max_tokens: int) -> str:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": max_tokens, "model": "general"}
        body["logit_bias"] = {"1": -100}  # the end of an answer is never chosen, so all are of this length
        task: dict[str, Any] = call(key, "POST", "/v1/tasks", body)
        return str(task["id"])

    late = call(running.admin_key, "POST", "/admin/v1/keys", {"tenant": "late"})["key"]
    first = submit(running.key, 800)  # runs while the others come
    flood = [submit(running.key, 8) for _ in range(60)]
    few = [submit(late, 8) for _ in range(3)]

    def tasks() -> dict[str, Any]:
        found = call(running.admin_key, "GET", "/admin/v1/tasks?limit=100")["tasks"]
        return {task["id"]: task for task in found}

    wait_until(lambda: all(task["state"] == "done" for task in tasks().values()), 60, lambda: str(tasks()))
    found = tasks()
    assert found.keys() == {first, *flood, *few}
    order = sorted(found, key=lambda task_id: float(found[task_id]["started_at"]))
    # Whatever of the flood had begun before the last of the few was submitted, from then on they take turns.
    began = sum(found[task_id]["started_at"] < found[few[-1]]["submitted_at"] for task_id in flood)
    assert order.index(few[-1]) <= 1 + began + 3 + 3
    assert began < 50
    running.stop()
