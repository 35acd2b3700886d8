"""Dead letters as the admin finds, replays and drops them."""

from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, OTHER_KEY, SPEC, Stack, a_stack

from stoker.base.clock import SystemClock
from stoker.base.ids import ModelName, TaskId
from stoker.meter.keys import KeyStore
from stoker.queue import MemoryQueue, State
from stoker.spec import loads


async def a_letter(
    stack: Stack, code: str = "boom", *, key: str = KEY, model: str = "general", words: str = "one two three four"
) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": words}]}
    answer = await (await stack.http(key)).post_json("/v1/tasks", body)
    [claim] = await stack.queue.claim(ModelName(model), "w1", wait_s=20)
    await stack.queue.fail(claim, f"the engine said {code}", retry_in_s=None, error={"message": code, "code": code})
    return str(answer["id"])


async def found(stack: Stack, **params: str) -> list[str]:
    answer = await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/dead", params)
    return [task["id"] for task in answer["tasks"]]


async def asked(stack: Stack, path: str, **body: Any) -> dict[str, Any]:
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/dead/{path}", body=body)
    assert answer.status == 200, answer.body
    said: dict[str, Any] = answer.json()
    return said


async def state_of(stack: Stack, task_id: str) -> State:
    return (await stack.queue.get(TaskId(task_id))).state


class TurnedBack(SystemClock):
    """The time of `by_s` seconds ago."""

    by_s = 0.0

    def now(self) -> float:
        return super().now() - self.by_s


async def test_letters_are_found_by_model_tenant_reason_and_age(tmp_path: Any) -> None:
    queue = MemoryQueue(clock=(turned := TurnedBack()))
    async with a_stack(tmp_path, queue=queue) as stack:
        turned.by_s = 2 * 86_400
        first = await a_letter(stack, "engine_died")
        turned.by_s = 0
        second = await a_letter(stack, "bad_prompt")
        third = await a_letter(stack, "bad_prompt", key=OTHER_KEY, model="code")

        assert await found(stack) == [second, first, third]
        assert await found(stack, model="code") == [third]
        assert await found(stack, tenant="acme") == [second, first]
        assert await found(stack, reason="bad_prompt") == [second, third]
        assert await found(stack, older_than="86400") == [first]
        assert await found(stack, newer_than="86400") == [second, third]
        assert await found(stack, tenant="other", reason="engine_died") == []


async def test_pages_go_on_over_the_models(stack: Stack) -> None:
    letters = [await a_letter(stack) for _ in range(3)] + [await a_letter(stack, model="code") for _ in range(2)]
    admin = await stack.http(ADMIN_KEY)
    pages, after = [], ""
    while True:
        answer = await admin.get_json("/admin/v1/dead", {"limit": "2", "after": after})
        pages.append([task["id"] for task in answer["tasks"]])
        if answer["next"] is None:
            break
        after = answer["next"]
    assert pages == [[letters[2], letters[1]], [letters[0], letters[4]], [letters[3]]]


async def test_one_letter_has_its_history_and_its_body_only_when_asked(stack: Stack) -> None:
    task_id = await a_letter(stack)
    admin = await stack.http(ADMIN_KEY)
    plain = await admin.get_json(f"/admin/v1/dead/{task_id}")
    assert (plain["state"], plain["replays"], "body" in plain) == ("dead", 0, False)
    assert [(each["attempt"], each["worker"], each["why"]) for each in plain["failures"]] == [
        (1, "w1", "the engine said boom")
    ]
    whole = await admin.get_json(f"/admin/v1/dead/{task_id}", {"body": "true"})
    assert whole["body"]["messages"] == HELLO


async def test_what_is_not_dead_has_no_letter_and_a_user_sees_none(stack: Stack) -> None:
    task_id = str((await (await stack.http()).post_json("/v1/tasks", {"model": "general", "messages": HELLO}))["id"])
    answer = await (await stack.http(ADMIN_KEY)).request("GET", f"/admin/v1/dead/{task_id}")
    assert (answer.status, answer.json()["error"]["message"]) == (
        404,
        f"task {task_id} is queued; it has no dead letter",
    )
    for method, path in (
        ("GET", ""),
        ("GET", f"/{task_id}"),
        ("GET", "/dropped"),
        ("POST", "/drop"),
        ("POST", "/replay"),
    ):
        answer = await (await stack.http()).request(
            method, f"/admin/v1/dead{path}", body={} if method == "POST" else None
        )
        assert answer.status == 403


async def test_many_are_replayed_and_the_newest_first(stack: Stack) -> None:
    ids = [await a_letter(stack) for _ in range(3)]
    other = await a_letter(stack, "other")
    said = await asked(stack, "replay", reason="boom", max=2)
    assert said == {"replayed": [ids[2], ids[1]], "refused": [], "stopped": None, "more": True}
    assert await found(stack) == [other, ids[0]]
    assert await asked(stack, "replay", ids=[ids[0]]) == {
        "replayed": [ids[0]],
        "refused": [],
        "stopped": None,
        "more": False,
    }


async def test_each_replay_has_a_reservation_of_its_own_and_what_does_not_fit_stays_dead(tmp_path: Any) -> None:
    """Each may take 132 tokens; 300 are left, so two fit and the third does not."""
    spec = (
        SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", "acme: {budgets: {tokensTotal: 300}}")
    )
    async with a_stack(tmp_path, platform=loads(spec)) as stack:
        ids = [await a_letter(stack) for _ in range(3)]
        said = await asked(stack, "replay", all=True)
        assert said["replayed"] == [ids[2], ids[1]]
        [refused] = said["refused"]
        assert (refused["id"], refused["code"]) == (ids[0], "budget_exhausted")
        assert said["stopped"] is None
        assert [await state_of(stack, each) for each in ids] == [State.DEAD, State.QUEUED, State.QUEUED]


async def test_what_a_key_may_not_do_any_more_stays_dead_and_is_said(stack: Stack) -> None:
    keys = KeyStore(stack.store)
    made = keys.create("acme")
    good, bad = await a_letter(stack), await a_letter(stack, key=made.secret)
    keys.revoke(made.key.id)
    said = await asked(stack, "replay", all=True)
    assert said["replayed"] == [good]
    assert [(each["id"], each["code"]) for each in said["refused"]] == [(bad, "key_not_in_use")]


async def test_ids_that_are_unknown_or_not_dead_are_said(stack: Stack) -> None:
    task_id = await a_letter(stack)
    await asked(stack, "replay", ids=[task_id])
    said = await asked(stack, "replay", ids=["task_none", task_id])
    assert (said["replayed"], [(each["id"], each["code"]) for each in said["refused"]]) == (
        [],
        [("task_none", "task_not_found"), (task_id, "not_dead")],
    )


async def test_dropping_says_who_and_why_and_leaves_the_usage(stack: Stack) -> None:
    ids = [await a_letter(stack) for _ in range(2)]
    kept = await a_letter(stack, key=OTHER_KEY)
    before = await stack.records()
    admin_id = next(key.id for key in KeyStore(stack.store).list(tenant="acme") if key.role == "admin")

    said = await asked(stack, "drop", tenant="acme", why="a test of ours")
    assert said == {"dropped": [ids[1], ids[0]], "refused": [], "stopped": None, "more": False}
    assert await found(stack) == [kept]
    log = (await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/dead/dropped"))["dropped"]
    assert [(each["id"], each["by"], each["why"], each["code"]) for each in log] == [
        (ids[0], admin_id, "a test of ours", "boom"),
        (ids[1], admin_id, "a test of ours", "boom"),
    ]
    assert await stack.records() == before
    shown = await (await stack.http()).get_json(f"/v1/tasks/{ids[0]}")
    assert (shown["state"], shown["error"]["code"]) == ("dropped", "boom")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("replay", {}, "nothing says which are meant"),
        ("drop", {"why": "x"}, "nothing says which are meant"),
        ("drop", {"all": True}, "why: "),
        ("drop", {"all": True, "why": " "}, "why: "),
        ("replay", {"ids": ["task_1"], "tenant": "acme"}, "ids: ids stand alone"),
        ("replay", {"all": True, "max": 1001}, "max: 1001 does not fit"),
        ("replay", {"older_than": -1}, "older_than: -1 does not fit"),
        ("replay", {"everything": True}, "everything: "),
    ],
)
async def test_nobody_changes_letters_by_mistake(stack: Stack, path: str, body: dict[str, Any], words: str) -> None:
    task_id = await a_letter(stack)
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/dead/{path}", body=body)
    assert answer.status == 400
    assert words in answer.json()["error"]["message"]
    assert await state_of(stack, task_id) is State.DEAD


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"limit": "0"}, "limit is '0'; it has to be a whole number from 1 to 1000"),
        ({"limit": "99999"}, "limit is '99999'"),
        ({"after": "nonsense"}, "after is 'nonsense'; it has to be what `next` of the page before said"),
        ({"after": "general:nonsense"}, "after is 'general:nonsense'; it has to be what"),
        (
            {"older_than": "yesterday"},
            "older_than is 'yesterday'; it has to be a number of seconds from 0 to 316224000",
        ),
    ],
)
async def test_questions_are_checked(stack: Stack, params: dict[str, str], words: str) -> None:
    answer = await (await stack.http(ADMIN_KEY)).request("GET", "/admin/v1/dead", params=params)
    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith(words)


async def test_without_sqs_nothing_is_forwarded_and_nothing_comes_back(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    assert (await admin.get_json("/admin/v1/dead"))["forwarding"] is None
    answer = await admin.request("POST", "/admin/v1/dead/replay-from-sqs", body={})
    assert (answer.status, answer.json()["error"]["code"]) == (409, "sqs_is_off")
