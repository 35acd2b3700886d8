"""Story: what an admin's key changes, or is refused, is in the audit log, whatever it was; and nothing secret is."""

from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, OTHER_KEY, Stack
from test_gateway_tasks import a_dead_task

from stoker.base.errors import Unavailable
from stoker.meter.audit import AuditTrail, Change

Json = dict[str, Any]
ROOT = "/admin/v1"


async def changes(stack: Stack, **asked: str) -> list[Json]:
    answer = await (await stack.http(ADMIN_KEY)).get_json(f"{ROOT}/audit", asked)
    found: list[Json] = answer["records"]
    return found


async def told(stack: Stack, **asked: str) -> list[tuple[str, str, str]]:
    return [(one["did"], one["object"], one["result"]) for one in await changes(stack, **asked)]


async def test_every_change_of_accounts_with_the_id_of_its_answer(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    made = (await admin.request("POST", f"{ROOT}/keys", body={"tenant": "new", "budgets": {"usdTotal": 1}})).json()
    key = f"key:{made['id']}"
    asked = [
        ("POST", "/tenants", {"name": "beta"}),
        ("PATCH", "/tenants/beta", {"description": "x"}),
        ("PUT", "/tenants/beta/teams/a", {"budgets": {"tokensPerDay": 3}}),
        ("PATCH", "/tenants/beta/teams/a", {"budgets": {"tokensPerDay": 4}}),
        ("PATCH", f"/keys/{made['id']}", {"budgets": {"usdTotal": 2}}),
        ("POST", f"/keys/{made['id']}/rotate", None),
        ("DELETE", f"/keys/{made['id']}", None),
    ]
    ids = [
        (await admin.request(method, ROOT + path, body=body)).headers["x-request-id"] for method, path, body in asked
    ]
    found = list(reversed(await changes(stack)))
    assert [(one["did"], one["object"], one["result"]) for one in found] == [
        ("keys.create", key, "done"),
        ("tenants.create", "tenant:beta", "done"),
        ("tenants.update", "tenant:beta", "done"),
        ("teams.create", "team:beta/a", "done"),
        ("teams.update", "team:beta/a", "done"),
        ("keys.update", key, "done"),
        ("keys.rotate", key, "done"),
        ("keys.revoke", key, "done"),
    ]
    assert [one["request_id"] for one in found[1:]] == ids
    admins = [one for one in (await admin.get_json(f"{ROOT}/keys"))["keys"] if one["role"] == "admin"]
    assert {one["key_id"] for one in found} == {admins[0]["id"]}
    team, budget = found[4], found[5]
    assert team["before"] == {"teams": {"a": {"budgets": {"tokensPerDay": 3}}}}
    assert team["after"] == {"teams": {"a": {"budgets": {"tokensPerDay": 4}}}}
    assert (budget["before"], budget["after"]) == ({"budgets": {"usdTotal": 1}}, {"budgets": {"usdTotal": 2}})
    assert made["key"] not in repr(found)
    assert ADMIN_KEY not in repr(found)


async def test_what_is_refused_is_there_with_the_word_for_why(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    [own] = [one for one in (await admin.get_json(f"{ROOT}/keys"))["keys"] if one["role"] == "admin"]
    refused = [
        ("DELETE", f"/keys/{own['id']}", None, 409),
        ("PATCH", "/tenants/nobody", {"description": "x"}, 404),
        ("POST", "/tenants", {"name": "Not A Name"}, 400),
        ("POST", "/keys", {"tenant": "acme", "budgets": {"usdTotal": 0}}, 400),
        ("POST", "/tasks/req_none/retry", None, 404),
        ("POST", "/usage/prune", {"before": "2999-01-01"}, 400),
    ]
    for method, path, body, status in refused:
        answer = await admin.request(method, ROOT + path, body=body)
        assert answer.status == status, path
        assert answer.headers["x-request-id"].startswith("req_")
    assert list(reversed(await told(stack))) == [
        ("keys.revoke", f"key:{own['id']}", "conflict"),
        ("tenants.update", "tenant:nobody", "not_found"),
        ("tenants.create", "tenant:Not A Name", "invalid_value"),
        ("keys.create", "key", "invalid_value"),
        ("tasks.retry", "task:req_none", "task_not_found"),
        ("usage.prune", "usage", "invalid_value"),
    ]
    assert {(one["before"], one["after"]) for one in await changes(stack)} == {(None, None)}


async def test_a_secret_that_is_sent_as_a_name_is_not_kept(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    for method, path in (("DELETE", f"/keys/{KEY}"), ("PATCH", f"/tenants/{KEY}"), ("POST", f"/tasks/{KEY}/retry")):
        assert (await admin.request(method, ROOT + path, body={})).status == 404
    assert [one["object"] for one in await changes(stack)] == ["task:(a secret)", "tenant:(a secret)", "key:(a secret)"]
    assert KEY not in repr(await changes(stack))


async def test_what_is_no_change_or_no_admins_leaves_nothing(stack: Stack) -> None:
    admin, user, nobody = await stack.http(ADMIN_KEY), await stack.http(KEY), await stack.http(None)
    for path in ("/keys", "/tenants", "/usage", "/audit"):
        assert (await admin.request("GET", ROOT + path)).status == 200
    assert (await user.request("POST", f"{ROOT}/tenants", body={"name": "beta"})).status == 403
    assert (await nobody.request("DELETE", f"{ROOT}/keys/x")).status == 401
    assert (await user.request("GET", f"{ROOT}/audit")).status == 403
    task = await user.post_json("/v1/tasks", {"messages": HELLO})
    assert (await user.request("DELETE", f"/v1/tasks/{task['id']}")).status == 200
    assert await changes(stack) == []


async def test_tasks_that_an_admin_cancels_or_replays(stack: Stack) -> None:
    """In Redis, so the record is there before the change, and says afterwards what it came to."""
    admin = await stack.http(ADMIN_KEY)
    task = await (await stack.http(OTHER_KEY)).post_json("/v1/tasks", {"messages": HELLO})
    cancelled = await admin.request("DELETE", f"/v1/tasks/{task['id']}")
    dead = await a_dead_task(stack, KEY)
    replayed = await admin.request("POST", f"{ROOT}/tasks/{dead}/retry")
    again = await admin.request("POST", f"{ROOT}/tasks/{dead}/retry")
    assert [cancelled.status, replayed.status, again.status] == [200, 200, 409]
    found = await changes(stack, did="tasks.*")
    assert [(one["did"], one["object"], one["result"], one["before"], one["after"]) for one in found] == [
        ("tasks.retry", f"task:{dead}", "not_dead", None, None),
        ("tasks.retry", f"task:{dead}", "done", {"state": "dead"}, {"state": "queued"}),
        ("tasks.cancel", f"task:{task['id']}", "done", {"state": "queued"}, {"state": "cancelled"}),
    ]
    ids = [again.headers["x-request-id"], replayed.headers["x-request-id"], cancelled.headers["x-request-id"]]
    assert [one["request_id"] for one in found] == ids


async def test_dead_letters_that_an_admin_replays_or_drops_one_or_many(stack: Stack) -> None:
    """One record for each change, with what became of each task; nothing of what was asked or why."""
    admin = await stack.http(ADMIN_KEY)
    first, second, third, fourth = [await a_dead_task(stack, KEY) for _ in range(4)]
    answers = [
        await admin.request("POST", f"{ROOT}/dead/{path}", body=body)
        for path, body in (
            ("replay", {"ids": [first]}),
            ("drop", {"ids": [second], "why": f"a client sent {KEY}"}),
            ("replay", {"ids": [first]}),
            ("replay", {"ids": [first, third]}),
            ("drop", {"all": True, "why": "of no use"}),
            ("drop", {"all": True}),
            ("replay", {"model": "none"}),
            ("replay-from-sqs", {}),
        )
    ]
    assert [answer.status for answer in answers] == [200] * 5 + [400, 404, 409]
    found = list(reversed(await changes(stack, did="dead.*")))
    assert [one["request_id"] for one in found] == [answer.headers["x-request-id"] for answer in answers]
    dead, queued, dropped = {"state": "dead"}, {"state": "queued"}, {"state": "dropped"}
    assert [(one["did"], one["object"], one["result"], one["before"], one["after"]) for one in found] == [
        ("dead.replay", f"task:{first}", "done", {first: dead}, {first: queued}),
        ("dead.drop", f"task:{second}", "done", {second: dead}, {second: dropped}),
        ("dead.replay", f"task:{first}", "done", None, None),
        ("dead.replay", "dead", "done", {third: dead}, {third: queued}),
        ("dead.drop", "dead", "done", {fourth: dead}, {fourth: dropped}),
        ("dead.drop", "dead", "invalid_value", None, None),
        ("dead.replay", "dead", "model_not_found", None, None),
        ("dead.replay-from-sqs", "dead", "sqs_is_off", None, None),
    ]
    assert KEY not in repr(found)


async def test_nothing_is_changed_elsewhere_that_cannot_be_recorded(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = await a_dead_task(stack, KEY)

    def away(_: AuditTrail, __: Change) -> str:
        raise Unavailable("the ledger's database refused: it is away", code="ledger_unavailable")

    monkeypatch.setattr(AuditTrail, "begin", away)
    answer = await (await stack.http(ADMIN_KEY)).request("POST", f"{ROOT}/tasks/{dead}/retry")
    assert (answer.status, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    for path, body in (("replay", {"ids": [dead]}), ("drop", {"ids": [dead], "why": "of no use"})):
        answer = await (await stack.http(ADMIN_KEY)).request("POST", f"{ROOT}/dead/{path}", body=body)
        assert (answer.status, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert [task.state.value for task in await stack.queue.list()] == ["dead"]


async def test_pages_follow_each_other_and_filters_narrow_them(stack: Stack) -> None:
    admin = await stack.http(ADMIN_KEY)
    for number in range(5):
        await admin.post_json(f"{ROOT}/tenants", {"name": f"t{number}"})
    names: list[str] = []
    asked: dict[str, str] = {"limit": "2"}
    while True:
        page = await admin.get_json(f"{ROOT}/audit", asked)
        names += [one["object"] for one in page["records"]]
        if page["next"] is None:
            break
        asked["after"] = page["next"]
    assert names == [f"tenant:t{number}" for number in (4, 3, 2, 1, 0)]
    assert await told(stack, object="tenant:t3") == [("tenants.create", "tenant:t3", "done")]
    assert await told(stack, key="key_nobody") == []
    assert await told(stack, since="4000000000") == []
    answer = await admin.request("GET", f"{ROOT}/audit?after=yesterday")
    assert answer.json()["error"]["message"] == "after is 'yesterday'; it has to be what `next` of the page before said"
