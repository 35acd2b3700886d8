"""`/v1/responses` through the gateway: its events, what is counted, how one is cut, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, SPEC, Stack, a_stack, events_of, running_worker, until
from openai import APIError

from stoker.base.errors import UpstreamError
from stoker.gateway.typed_relay import TypedRelay
from stoker.meter.charge import Caller, Charge
from stoker.spec import loads
from stoker.testing.engine import EchoEngine

# A picture of one white pixel.
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
PATH = "/v1/responses"
SIX = "one two three four five six"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "input": SIX, **changes}


async def test_a_whole_response_is_counted_in_its_own_words(stack: Stack) -> None:
    engine = await stack.engine()
    engine.cached_tokens = 2
    raw = await (await stack.sdk()).responses.with_raw_response.create(
        **asked(store=True), extra_headers={"X-Session-Id": "s1"}
    )
    made = raw.parse()
    assert (made.output_text, made.status) == (SIX, "completed")
    record = await stack.record()
    assert (record.id, record.status, record.session) == (raw.headers["x-request-id"], "done", "s1")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (6, 2, 6)
    assert record.nano_usd == 4 * 1000 + 2 * 500 + 6 * 2000
    assert raw.headers["x-stoker-completion-tokens"] == "6"
    assert engine.requests[0].path == PATH
    # The output is bounded, and nothing is kept that another tenant could fetch.
    assert {name: engine.requests[0].body[name] for name in ("max_output_tokens", "store")} == {
        "max_output_tokens": 100,
        "store": False,
    }


async def test_a_stream_keeps_its_names_and_numbers_and_ends_with_the_receipt(stack: Stack) -> None:
    engine = await stack.engine()
    answer = await (await stack.http()).request("POST", PATH, body=asked(stream=True))
    pieces = [piece.split("\n") for piece in answer.body.decode().strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in pieces]
    assert [name for name, _ in pieces] == [f"event: {event['type']}" for event in events]
    assert [event["sequence_number"] for event in events] == list(range(14))
    assert "".join(event["delta"] for event in events[4:10]) == SIX
    assert not any("usage" in event for event in events)  # it was asked for by us alone
    last = events[-1]
    assert (last["type"], last["response"]["usage"]["output_tokens"]) == ("response.completed", 6)
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("done", 6, 6)
    assert last["stoker"]["cost_usd"] == record.nano_usd / 1e9
    assert engine.requests[0].body["stream_options"] == {"continuous_usage_stats": True}


async def test_the_sdk_puts_a_stream_together(stack: Stack) -> None:
    await stack.engine()
    async with (await stack.sdk()).responses.stream(**asked()) as stream:
        assert (await stream.get_final_response()).output_text == SIX


@pytest.mark.parametrize("prefix", ["general", "code", "vision"])
async def test_every_prefix_has_it(stack: Stack, prefix: str) -> None:
    await stack.engine(prefix)
    raw = await (await stack.sdk(f"/v1/{prefix}")).responses.with_raw_response.create(model="auto", input="one")
    assert (raw.headers["x-stoker-model"], raw.headers["x-stoker-route"]) == (prefix, "prefix")
    assert (await stack.record()).model == prefix


@pytest.mark.parametrize(
    ("said", "route"),
    [
        ("hello", "auto:general"),
        ("Write a python function that adds", "auto:code"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}], "auto:image"),
        ([{"role": "user", "content": [{"type": "input_text", "text": "Write a python function"}]}], "auto:code"),
        ([{"role": "developer", "content": "```python"}, {"role": "user", "content": "hi"}], "auto:general"),
        ([{"type": "function_call_output", "call_id": "c", "output": "def f(x):"}], "auto:code"),
    ],
)
async def test_auto_goes_by_what_the_input_holds(stack: Stack, said: Any, route: str) -> None:
    for model in ("general", "code", "vision"):
        await stack.engine(model)
    answer = await (await stack.http()).request("POST", PATH, body={"model": "auto", "input": said})
    assert (answer.status, answer.headers["x-stoker-route"]) == (200, route)


async def test_a_client_that_leaves_is_charged_to_the_event(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(7)  # three tokens are out
    http = await stack.http()
    async with http.stream("POST", PATH, body=asked(stream=True)) as answer:
        for _ in range(7):
            await anext(answer.events)
        request = await hold.reached()
    assert await request.end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 6, 3)


async def test_an_engine_that_breaks_off_never_looks_whole(stack: Stack) -> None:
    engine = await stack.engine()
    engine.break_off_after(6)
    stream = await (await stack.sdk()).responses.create(**asked(stream=True))
    kinds = []
    with pytest.raises(APIError, match="replica general-0 closed the connection"):  # noqa: PT012 - it is raised by the loop
        async for event in stream:
            kinds.append(event.type)
    assert kinds[-1] == "response.output_text.delta"
    record = await stack.record()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("failed", 6, 2)


async def test_an_event_that_is_none_fails_the_stream(stack: Stack) -> None:
    engine = await stack.engine()
    engine.fail_after(5, {})  # it says nothing
    http = await stack.http()
    async with http.stream("POST", PATH, body=asked(stream=True)) as answer:
        events = await events_of(answer)
    assert events[-1]["type"] == "error"
    assert (await stack.record()).status == "failed"


async def test_an_error_in_the_middle_is_openais_error_event_and_the_sdk_raises_it(stack: Stack) -> None:
    engine = await stack.engine()
    for _ in range(2):
        engine.fail_after(5, {"message": "out of memory", "type": "server_error", "code": 500})
    answer = await (await stack.http()).request("POST", PATH, body=asked(stream=True))
    name, data = answer.body.decode().strip().split("\n\n")[-1].split("\n")
    said = json.loads(data.removeprefix("data: "))
    assert name == "event: error"
    assert (said["type"], said["code"], said["sequence_number"]) == ("error", "upstream_error", 5)
    assert said["message"] == said["error"]["message"]
    stream = await (await stack.sdk()).responses.create(**asked(stream=True))
    with pytest.raises(APIError, match="out of memory"):
        _ = [event async for event in stream]
    assert [record.status for record in await stack.records()] == ["failed", "failed"]


async def test_an_engine_that_says_too_much_is_cut_and_the_sdk_sees_an_incomplete_response(stack: Stack) -> None:
    engine = await stack.engine()
    engine.ignores_length = True
    hold = engine.hold_at(7)
    stream = await (await stack.sdk()).responses.create(**asked(stream=True, max_output_tokens=2))
    events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events[2:]] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    last = events[-1]
    assert last.type == "response.incomplete"
    assert (last.response.output_text, last.response.status) == ("one two", "incomplete")
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage is not None
    record = await stack.record()
    assert (record.status, record.completion_tokens, last.response.usage.output_tokens) == ("cut", 3, 3)
    assert await (await hold.reached()).end() == "cancelled"


async def test_through_the_queue_it_is_the_same(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        sdk = await stack.sdk()
        whole = await sdk.responses.create(**asked())
        events = [event async for event in await sdk.responses.create(**asked(stream=True))]
    assert whole.output_text == SIX
    assert [event.sequence_number for event in events] == list(range(14))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == SIX
    records = await stack.records()
    assert [(each.kind, each.status, each.prompt_tokens, each.completion_tokens) for each in records] == [
        ("task", "done", 6, 6)
    ] * 2


async def test_as_a_task_with_its_events(stack: Stack) -> None:
    http = await stack.http()
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked(stream=True)}))["id"]
        done = await http.get_json(f"/v1/tasks/{task}?wait=20")
        async with http.stream("GET", f"/v1/tasks/{task}/events") as answer:
            *events, end = await events_of(answer)
    assert done["result"]["output"][0]["content"][0]["text"] == SIX
    assert [event["sequence_number"] for event in events] == list(range(14))
    assert (events[-1]["type"], end) == ("response.completed", "[DONE]")
    assert not any("usage" in event for event in events)
    record = await stack.record()
    assert (record.id, record.status, record.completion_tokens) == (task, "done", 6)


async def test_a_dead_task_is_let_in_anew_with_its_own_bound(stack: Stack) -> None:
    http, admin = await stack.http(), await stack.http(ADMIN_KEY)
    async with EchoEngine() as engine:
        engine.refuse(400, {"error": {"message": "no", "type": "t", "code": "c", "param": None}})
        async with running_worker(stack, engine, "w1"):
            task = (await http.post_json("/v1/tasks", {"endpoint": PATH, "body": asked()}))["id"]
            assert (await http.get_json(f"/v1/tasks/{task}?wait=20"))["state"] == "dead"
            await admin.post_json(f"/admin/v1/tasks/{task}/retry", {})
            assert (await http.get_json(f"/v1/tasks/{task}?wait=20"))["state"] == "done"


async def test_an_engine_without_the_route_says_so_and_there_is_no_record(stack: Stack) -> None:
    async with EchoEngine() as engine:
        await engine.stop()
        engine.lacks = frozenset(["responses"])
        await engine.start()
        await stack.announce(engine)
        http = await stack.http()
        for stream in (False, True):
            answer = await http.request("POST", PATH, body=asked(stream=stream))
            assert answer.status == 404
            assert answer.json()["error"]["message"]
    assert await stack.records() == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": None}]}, "input[0].type"),
        ({"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]},
            "input[0].output[0].type",
        ),
        ({"input": {"role": "user"}}, "input"),
        ({"instructions": [{"type": "item_reference"}]}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
        ({"stream": 1}, "stream"),
    ],
)
async def test_what_nobody_could_bound_is_refused(stack: Stack, changes: dict[str, Any], param: str) -> None:
    engine = await stack.engine()
    answer = await (await stack.http()).request("POST", PATH, body=asked(**changes))
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    assert engine.requests == []


async def test_an_engine_elsewhere_counts_once_at_the_end(tmp_path: Path) -> None:
    """A server without the embedded engine's options: they are not sent, and what broke off counts as the most."""
    platform = loads(
        SPEC.replace("TOTAL", "20")
        .replace("CONNECT", "2")
        .replace("      aliases: [gpt-4o]", "      engine: {url: 'http://127.0.0.1:9'}")
    )
    async with a_stack(tmp_path, platform=platform) as stack, EchoEngine() as engine:
        await stack.announce(engine)
        http = await stack.http()
        await http.request("POST", PATH, body=asked(stream=True))
        engine.break_off_after(6)
        await http.request("POST", PATH, body=asked(stream=True))
        await until(lambda: len(engine.requests) == 2)
        whole, broken = await stack.records()
    assert "stream_options" not in engine.requests[0].body
    assert (whole.status, whole.prompt_tokens, whole.completion_tokens) == ("done", 6, 6)
    # All that was reserved of the prompt; of the answer a token for each byte that was seen: "one two".
    assert (broken.status, broken.completion_tokens) == ("failed", len("one two"))
    assert broken.prompt_tokens > len(SIX)


# --- the relay alone --------------------------------------------------------------------------------------------------


def a_charge() -> Charge:
    prices = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2")).llm.models["general"].prices
    charge = Charge("r", "request", Caller("t", "k", None, None), "general", "model", prices, started_at=0.0)
    charge.most = (10, 3)
    return charge


def sent(relay: TypedRelay, **event: Any) -> bytes | None:
    return relay.pass_on(json.dumps(event).encode(), 1.0)


def test_a_call_of_a_tool_and_what_is_done_already_are_in_a_response_that_is_cut() -> None:
    charge = a_charge()
    relay = TypedRelay(charge)
    done = {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    call = {"id": "f", "type": "function_call", "call_id": "c", "name": "now", "arguments": ""}
    sent(relay, type="response.created", sequence_number=0, response={"id": "r", "output": []})
    sent(relay, type="response.output_item.added", sequence_number=1, output_index=0, item={**done, "content": []})
    sent(relay, type="response.output_text.delta", sequence_number=2, output_index=0, content_index=0, delta="a")
    sent(relay, type="response.output_item.done", sequence_number=3, output_index=0, item=done)
    sent(relay, type="response.output_item.added", sequence_number=4, output_index=1, item=call)
    for number, delta in enumerate(("{", "}"), 5):
        sent(relay, type="response.function_call_arguments.delta", sequence_number=number, output_index=1, delta=delta)
    charge.completion_tokens = 4
    assert charge.is_over
    (end,) = relay.cut()
    item = json.loads(end.split(b"data: ")[1])
    assert (item["type"], item["sequence_number"]) == ("response.output_item.done", 7)
    assert item["item"] == {**call, "arguments": "{}", "status": "incomplete"}
    last = json.loads(relay.end({"cost_usd": 1}).split(b"data: ")[1])
    assert last["response"]["output"] == [done, item["item"]]
    assert (last["type"], last["sequence_number"], last["stoker"]) == ("response.incomplete", 8, {"cost_usd": 1})


def test_reasoning_that_is_not_shown_counts_as_all_that_may_have_been_produced() -> None:
    charge = a_charge()
    relay = TypedRelay(charge)
    sent(relay, type="response.output_item.added", output_index=0, item={"type": "reasoning", "summary": []})
    charge.count_the_most(was_streamed=True)
    assert (charge.prompt_tokens, charge.completion_tokens) == (10, 3)


def test_a_response_that_failed_is_counted_as_far_as_its_engine_says() -> None:
    charge = a_charge()
    usage = {"input_tokens": 5, "output_tokens": 2}
    with pytest.raises(UpstreamError, match="out of memory"):
        sent(
            TypedRelay(charge), type="response.failed", response={"error": {"message": "out of memory"}, "usage": usage}
        )
    assert (charge.prompt_tokens, charge.completion_tokens, charge.is_counted) == (5, 2, True)


@pytest.mark.parametrize("event", [b"no json", b"7", b"[]", b"{}", b'{"type": 5}'])
def test_nonsense_of_an_engine_ends_the_stream(event: bytes) -> None:
    with pytest.raises(UpstreamError, match="no event of a response"):
        TypedRelay(a_charge()).pass_on(event, 1.0)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created", "response": 5},
        {"type": "response.output_item.added", "item": None, "output_index": "x"},
        {"type": "response.content_part.added", "output_index": 0, "part": 3},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": -4, "delta": {"a": 1}},
        {"type": "response.completed", "response": None},
        {"type": "response.output_text.delta", "usage": [], "delta": "x", "sequence_number": "y"},
        {"type": "a\nb: c"},
    ],
)
def test_events_that_are_half_nonsense_break_nothing(event: dict[str, Any]) -> None:
    relay = TypedRelay(a_charge())
    sent(relay, type="response.created", sequence_number=0, response={"id": "r"})
    sent(relay, type="response.output_item.added", output_index=0, item={"type": "message", "content": 5})
    passed = sent(relay, **event)
    assert passed is None or passed.count(b"\n") == 3
    assert relay.cut()
