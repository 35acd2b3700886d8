"""`/v1/tasks` and what the admin sees of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, OTHER_KEY, Stack, events_of, running_worker, until

from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.meter.keys import KeyStore
from stoker.queue import Claim, NewTask, State
from stoker.testing.engine import EchoEngine

GENERAL = ModelName("general")


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


def piece(text: str) -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text.encode()


async def submitted(stack: Stack, body: dict[str, Any]) -> str:
    answer = await (await stack.http()).request("POST", "/v1/tasks", body=body)
    assert answer.status == 202, answer.body
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
    return str(answer.json()["id"])


async def claimed(stack: Stack, worker: str = "w1") -> Claim:
    [claim] = await stack.queue.claim(GENERAL, worker, wait_s=20)
    return claim


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        {"endpoint": "/v1/chat/completions", "body": chat()},
        {"body": chat()},
    ],
)
async def test_a_task_is_submitted_awaited_and_answered(stack: Stack, body: dict[str, Any]) -> None:
    http = await stack.http()
    answer = await http.request("POST", "/v1/tasks", body=body, headers={"X-Run-Id": "run-1"})
    shown = answer.json()
    assert (answer.status, shown["object"], shown["state"], shown["attempts"]) == (202, "task", "queued", 0)
    assert (shown["model"], shown["tenant"], shown["run"], shown["endpoint"]) == (
        "general",
        "acme",
        "run-1",
        "/v1/chat/completions",
    )

    waiting = asyncio.create_task(http.get_json(f"/v1/tasks/{shown['id']}", {"wait": "20"}))
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        done = await waiting

    assert (done["state"], done["attempts"], done["worker"], done["failures"]) == ("done", 1, "w1", [])
    assert done["result"]["choices"][0]["message"]["content"] == "one two three four"
    record = await stack.record()
    assert (record.id, record.kind, record.run, record.completion_tokens) == (shown["id"], "task", "run-1", 4)


async def test_a_completions_body_is_known_by_its_prompt(stack: Stack) -> None:
    task_id = await submitted(stack, {"model": "general", "prompt": "a b"})
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        done = await (await stack.http()).get_json(f"/v1/tasks/{task_id}", {"wait": "20"})
    assert (done["endpoint"], done["result"]["choices"][0]["text"]) == ("/v1/completions", "a b")


async def test_a_task_may_wait_as_long_as_it_has_to(stack: Stack) -> None:
    task_id = await submitted(stack, chat())
    assert (await stack.queue.get(TaskId(task_id))).deadline is None


async def test_waiting_ends_with_the_time_and_the_task_goes_on(stack: Stack) -> None:
    task_id = await submitted(stack, chat())
    shown = await (await stack.http()).get_json(f"/v1/tasks/{task_id}", {"wait": "0.01"})
    assert (shown["state"], shown["result"]) == ("queued", None)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"endpoint": "/v1/images", "body": {}}, "endpoint", "endpoint is '/v1/images'; it has to be one of"),
        (
            {"endpoint": ["/v1/images"], "body": {}},
            "endpoint",
            "endpoint is ['/v1/images']; it has to be one of",
        ),
        (
            {"model": "general", "input": "one"},
            "endpoint",
            "a body with `input` may be one for /v1/responses or",
        ),
        ({"endpoint": "/v1/completions"}, "body", "body has to be the JSON object that you would send"),
    ],
)
async def test_a_submission_that_says_nothing_clear_is_refused(
    stack: Stack, body: dict[str, Any], param: str, words: str
) -> None:
    answer = await (await stack.http()).request("POST", "/v1/tasks", body=body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert answer.json()["error"]["message"].startswith(words)


@pytest.mark.parametrize("wait", ["soon", "-1", "301", "nan"])
async def test_wait_is_a_number_of_seconds(stack: Stack, wait: str) -> None:
    task_id = await submitted(stack, chat())
    answer = await (await stack.http()).request("GET", f"/v1/tasks/{task_id}", params={"wait": wait})
    assert answer.status == 400
    message = f"wait is {wait!r}; it has to be a number of seconds from 0 to 300"
    assert answer.json()["error"]["message"] == message


# --- events -----------------------------------------------------------------------------------------------------------


async def test_a_streamed_task_is_heard_from_the_beginning_and_ends_with_done(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    http = await stack.http()
    listening = http.stream("GET", f"/v1/tasks/{task_id}/events")
    async with listening as answer, EchoEngine() as engine, running_worker(stack, engine, "w1"):
        *chunks, done = await events_of(answer)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "one two three four"
    assert done == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks)


async def raw_events(stack: Stack, path: str, headers: dict[str, str] | None = None) -> str:
    """The bytes of a stream as they are on the wire, once it has ended."""
    return (await (await stack.http()).request("GET", path, headers=headers)).body.decode()


async def test_a_second_attempt_says_that_it_starts_anew(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    http = await stack.http()
    async with http.stream("GET", f"/v1/tasks/{task_id}/events") as answer:
        first = await claimed(stack)
        await stack.queue.publish(first, [piece("lost")], first=0)
        assert await anext(answer.events) == piece("lost")
        await stack.queue.release(first)
        second = await claimed(stack, "w2")
        await stack.queue.publish(second, [piece("kept")], first=0)
        await stack.queue.complete(second, {"choices": []})
        restart, kept, done = await events_of(answer)
    assert restart == {"object": "task.restart", "id": task_id}
    assert kept["choices"][0]["delta"]["content"] == "kept"
    assert done == "[DONE]"


async def test_events_go_on_after_the_last_one_that_was_seen(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    claim = await claimed(stack)
    await stack.queue.publish(claim, [piece("a"), piece("b")], first=0)
    await stack.queue.complete(claim, {"choices": []})
    path = f"/v1/tasks/{task_id}/events"

    whole = await raw_events(stack, path)
    ids = [line.removeprefix("id: ") for line in whole.splitlines() if line.startswith("id: ")]
    assert len(ids) == 2
    rest = await raw_events(stack, path, {"Last-Event-ID": ids[0]})
    assert rest == f"id: {ids[1]}\ndata: {piece('b').decode()}\n\ndata: [DONE]\n\n"


async def test_who_comes_back_in_a_second_attempt_is_told_that_the_first_is_void(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    first = await claimed(stack)
    await stack.queue.release(first)
    second = await claimed(stack, "w2")
    await stack.queue.publish(second, [piece("kept")], first=0)
    await stack.queue.complete(second, {"choices": []})

    said = await raw_events(stack, f"/v1/tasks/{task_id}/events", {"Last-Event-ID": f"{first.token}-5"})
    assert said.startswith('event: restart\ndata: {"object":"task.restart"')


async def test_a_cursor_that_is_none_and_a_task_without_events_are_refused(stack: Stack) -> None:
    http = await stack.http()
    silent, streamed = await submitted(stack, chat()), await submitted(stack, chat(stream=True))
    answer = await http.request("GET", f"/v1/tasks/{silent}/events")
    assert answer.status == 400
    assert answer.json()["error"]["message"] == (
        f"task {silent} was submitted without `stream: true`, so it has no events (GET /v1/tasks/{silent}?wait=60)"
    )
    answer = await http.request("GET", f"/v1/tasks/{streamed}/events", headers={"Last-Event-ID": "yesterday"})
    assert (answer.status, answer.json()["error"]["message"][:30]) == (400, "'yesterday' is no cursor; take")


async def test_who_stops_listening_to_a_task_does_not_stop_it(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(1)
        http = await stack.http()
        async with http.stream("GET", f"/v1/tasks/{task_id}/events") as answer:
            await anext(answer.events)
        request = await hold.reached()
        hold.open.set()
        assert await request.end() == "done"
        assert (await http.get_json(f"/v1/tasks/{task_id}", {"wait": "20"}))["state"] == "done"


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_a_task_that_waits_is_cancelled_at_once(stack: Stack) -> None:
    task_id = await submitted(stack, chat())
    answer = await (await stack.http()).request("DELETE", f"/v1/tasks/{task_id}")
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")
    assert (await stack.record()).status == "cancelled"


async def test_a_task_that_runs_is_cancelled_with_its_engine(stack: Stack) -> None:
    task_id = await submitted(stack, chat())
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(2)
        request = await hold.reached()
        http = await stack.http()
        answer = await http.request("DELETE", f"/v1/tasks/{task_id}")
        assert answer.json()["state"] == "running"
        assert await request.end() == "cancelled"
        assert (await http.get_json(f"/v1/tasks/{task_id}", {"wait": "20"}))["state"] == "cancelled"
    record = await stack.record()
    assert (record.status, record.completion_tokens) == ("cancelled", 2)


# --- strangers and admins ---------------------------------------------------------------------------------------------


async def test_a_strangers_task_is_as_unknown_as_one_that_never_was(stack: Stack) -> None:
    task_id = await submitted(stack, chat(stream=True))
    http = await stack.http(OTHER_KEY)
    for found in (task_id, "task_nope"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            answer = await http.request(method, f"/v1/tasks/{found}{path}")
            assert (answer.status, answer.json()["error"]["code"]) == (404, "task_not_found")
            assert answer.json()["error"]["message"] == f'there is no task "{found}"'
    assert (await stack.queue.get(TaskId(task_id))).state is State.QUEUED
    assert (await (await stack.http(ADMIN_KEY)).get_json(f"/v1/tasks/{task_id}"))["id"] == task_id


async def test_the_admin_lists_tasks_sees_dead_ones_and_replays_them(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    task_id = await submitted(stack, chat())
    assert [task["id"] for task in (await admin.get_json("/admin/v1/tasks", {"state": "queued"}))["tasks"]] == [task_id]
    assert (await admin.get_json("/admin/v1/tasks", {"model": "code"}))["tasks"] == []

    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        engine.refuse(400, {"error": {"message": "poison", "type": "t", "code": "c", "param": None}})
        await until(lambda: stack.queue._kept[TaskId(task_id)].task.state is State.DEAD)  # type: ignore[attr-defined]
        [dead] = (await admin.get_json("/admin/v1/dead"))["tasks"]
        assert (dead["id"], dead["state"], dead["attempts"]) == (task_id, "dead", 1)
        assert dead["error"] == {"message": "poison", "type": "t", "code": "c", "param": None, "status": 400}
        assert [failure["why"] for failure in dead["failures"]] == ["poison"]
        assert (await admin.get_json("/admin/v1/dead", {"model": "code"}))["tasks"] == []

        replayed = await admin.post_json(f"/admin/v1/tasks/{task_id}/retry", None)
        assert replayed["state"] in ("queued", "running", "done")
        done = await admin.get_json(f"/v1/tasks/{task_id}", {"wait": "20"})
        assert done["state"] == "done"
    answer = await admin.request("POST", f"/admin/v1/tasks/{task_id}/retry")
    assert (answer.status, answer.json()["error"]["code"]) == (409, "not_dead")
    records = await stack.records()
    assert [(record.id, record.status) for record in records] == [(task_id, "failed"), (f"{task_id}.1", "done")]


async def a_dead_task(stack: Stack, key: str, **changes: Any) -> str:
    answer = await (await stack.http(key)).post_json("/v1/tasks", chat(**changes))
    await stack.queue.fail(await claimed(stack), "poison", retry_in_s=None)
    return str(answer["id"])


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ("revoke", 409, "key_not_in_use", "key ID was revoked: nothing is begun in its name any more"),
        ("expire", 409, "key_not_in_use", "key ID has expired: nothing is begun in its name any more"),
        ("scope", 403, "not_permitted", "key ID, which submitted the task, may not use the model general any more"),
        ("route", 403, "not_permitted", "key ID, which submitted the task, may not use the model general any more"),
    ],
)
async def test_a_task_is_not_replayed_for_a_key_that_might_not_submit_it_any_more(
    stack: Stack, change: str, status: int, code: str, words: str
) -> None:
    keys = KeyStore(stack.store)
    made = keys.create("acme")
    task_id = await a_dead_task(stack, made.secret)
    if change == "revoke":
        keys.revoke(made.key.id)
    else:
        changes: dict[str, Any] = {
            "expire": {"expires_at": 1.0},
            "scope": {"models": ("code",)},
            "route": {"routes": ("code",)},
        }
        keys.change(made.key.id, lambda key: replace(key, **changes[change]))
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/tasks/{task_id}/retry")
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["message"]) == (status, code, words.replace("ID", made.key.id))
    assert (await stack.queue.get(TaskId(task_id))).state is State.DEAD


async def test_a_task_of_a_key_that_has_another_secret_now_is_replayed(stack: Stack) -> None:
    keys = KeyStore(stack.store)
    made = keys.create("acme", models=["general"], routes=["general"])
    task_id = await a_dead_task(stack, made.secret)
    for _ in range(12):  # each of which leaves a secret that is over
        keys.rotate(made.key.id)
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/tasks/{task_id}/retry")
    assert (answer.status, answer.json()["state"]) == (200, "queued")


async def test_a_task_of_a_model_that_is_gone_is_not_replayed(stack: Stack) -> None:
    key = KeyStore(stack.store).list(tenant="acme")[0]
    gone = NewTask(
        model=ModelName("gone"), tenant=TenantName("acme"), key_id=KeyId(key.id), endpoint="/v1/completions", body={}
    )
    task = await stack.queue.submit(gone)
    [claim] = await stack.queue.claim(gone.model, "w1", wait_s=20)
    await stack.queue.fail(claim, "poison", retry_in_s=None)
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/tasks/{task.id}/retry")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_the_admins_questions_are_checked(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    for path, params, status, words in (
        ("tasks", {"model": "gpt-9"}, 404, "there is no model 'gpt-9'; the models are: general, code, vision"),
        ("tasks", {"state": "lost"}, 400, "state is 'lost'; it has to be one of queued, running, retrying, done, dead"),
        ("tasks", {"limit": "0"}, 400, "limit is '0'; it has to be a whole number from 1 to 1000"),
        ("usage", {"since": "yesterday"}, 400, "since is 'yesterday'; it has to be a number from 0 to 1000000000000"),
    ):
        answer = await admin.request("GET", f"/admin/v1/{path}", params=params)
        assert answer.status == status
        assert answer.json()["error"]["message"].startswith(words)


async def test_the_admin_sees_usage_and_replicas(stack: Stack) -> None:
    engine = await stack.engine()
    http, admin = await stack.http(), await stack.http(ADMIN_KEY)
    await http.post_json("/v1/chat/completions", chat())
    await http.request("POST", "/v1/chat/completions", body=chat(), headers={"X-Session-Id": "s"})

    used = await admin.get_json("/admin/v1/usage")
    assert [(row["tenant"], row["model"], row["session"], row["requests"]) for row in used["rows"]] == [
        ("acme", "general", None, 1),
        ("acme", "general", "s", 1),
    ]
    assert used["total"] == {
        "requests": 2,
        "steps": 0,
        "prompt_tokens": 8,
        "cached_tokens": 0,
        "completion_tokens": 8,
        "usd": 0.000024,
        "nano_usd": 24000,
    }
    assert (await admin.get_json("/admin/v1/usage", {"tenant": "other"}))["rows"] == []
    assert (await admin.get_json("/admin/v1/usage", {"since": "99999999999"}))["rows"] == []
    [replica] = (await admin.get_json("/admin/v1/replicas"))["replicas"]
    assert (replica["id"], replica["url"], replica["state"]) == ("general-0", engine.url, "up")
    assert (replica["capacity"], replica["in_flight"], replica["served"]) == (4, 0, 2)
