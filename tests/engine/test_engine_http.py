"""The engine as its clients see it: the OpenAI SDK and raw requests against a real socket and a real thread."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from engine_builders import MODEL, Serving, default_bundle, png, question, serving

from stoker.base import logs
from stoker.engine.client import EngineClient
from stoker.engine.loop import StepLoop
from stoker.telemetry.spans import Tracing
from stoker.testing.spans import Sink
from stoker.web.client import HttpClient

HELLO = [{"role": "user", "content": "Say hello."}]
LONG = [{"role": "user", "content": "Tell me a story about a fox."}]
ENDLESS = {"model": MODEL, "messages": LONG, "temperature": 0, "logit_bias": {"1": -100}}
"""Token 1 ends an answer: without it, one goes on for as long as the context lasts."""


@pytest.fixture
async def engine() -> AsyncIterator[Serving]:
    async with serving(context=8192) as running:
        yield running


async def test_a_chat_answer_has_the_shape_of_openai(engine: Serving):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "What is 6 times 7?"}], "temperature": 0}
    answer = await engine.client.post_json("/v1/chat/completions", body)
    assert answer["id"].startswith("chatcmpl")
    assert isinstance(answer["created"], int)
    tokens = len(default_bundle().tokenizer.encode("6 times 7 is 42.")) + 1
    prompt = len(question("What is 6 times 7?"))
    assert {name: value for name, value in answer.items() if name not in ("id", "created")} == {
        "object": "chat.completion",
        "model": MODEL,
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "6 times 7 is 42.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


async def test_a_stream_says_what_the_whole_answer_says(sdk: openai.AsyncOpenAI):
    whole = await sdk.chat.completions.create(model=MODEL, messages=LONG, temperature=0)
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=LONG, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) >= 3  # how many tokens share a chunk is up to how busy the machine is
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


async def test_without_include_usage_no_chunk_has_it(engine: Serving):
    async with engine.client.stream("POST", "/v1/chat/completions", body={"messages": HELLO, "stream": True}) as stream:
        events = [event async for event in stream.events]
    assert events[-1] == b"[DONE]"
    assert all("usage" not in json.loads(event) for event in events[:-1])


async def test_a_stream_can_say_its_usage_so_far_in_every_chunk(engine: Serving):
    """What the gateway asks for, so that a stream that breaks off is metered to the token."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    # Tokens that come faster than they are read are joined: of this many, never all.
    body = {**ENDLESS, "max_tokens": 500, "stream": True, "stream_options": options}
    async with engine.client.stream("POST", "/v1/chat/completions", body=body) as stream:
        chunks = [json.loads(event) for event in [event async for event in stream.events][:-1]]
    counted = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counted == sorted(counted)
    assert counted[0] == 0
    assert 1 <= counted[1] < counted[-1]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {len(question("Tell me a story about a fox."))}
    assert counted[-1] == 500


async def test_completions_go_on_from_a_text(sdk: openai.AsyncOpenAI):
    arguments = {"model": MODEL, "prompt": "1, 2, 3, 4,", "temperature": 0, "max_tokens": 6}
    whole = await sdk.completions.create(**arguments)
    assert whole.object == "text_completion"
    assert whole.choices[0].text.startswith(" 5, 6")
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 6)
    chunks = [chunk async for chunk in await sdk.completions.create(**arguments, stream=True)]
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


async def test_the_model_is_listed(sdk: openai.AsyncOpenAI):
    (model,) = (await sdk.models.list()).data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "stoker")
    assert (await sdk.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("other")


async def test_a_wrong_value_is_a_400_that_names_it(sdk: openai.AsyncOpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="other", messages=HELLO)
    assert missing.value.code == "model_not_found"


async def test_the_same_seed_gives_the_same_text_among_others(sdk: openai.AsyncOpenAI):
    def ask(seed: int):
        return sdk.chat.completions.create(model=MODEL, messages=LONG, temperature=1.3, seed=seed)

    alone = (await ask(11)).choices[0].message.content
    together = await asyncio.gather(*(ask(seed) for seed in (5, 11, 6, 7)))
    assert together[1].choices[0].message.content == alone


async def test_a_stop_string_never_shows_in_a_stream(sdk: openai.AsyncOpenAI):
    stream = await sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Count to ten."}], temperature=0, stream=True, stop=["5, 6"]
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "1, 2, 3, 4, "
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_client_that_leaves_a_stream_cancels_its_sequence(engine: Serving):
    async with engine.client.stream("POST", "/v1/chat/completions", body={**ENDLESS, "stream": True}) as stream:
        await anext(stream.events)
        assert await engine.metric("vllm:num_requests_running") == 1
    await engine.until(lambda read: read["vllm:num_requests_running"] == 0, "vllm:num_requests_running")
    text = (await engine.client.request("GET", "/metrics")).body.decode()
    assert 'vllm:request_success_total{finished_reason="abort",model_name="small"} 1.0' in text


async def test_a_client_that_leaves_a_json_request_cancels_its_sequence(engine: Serving):
    async with HttpClient(engine.url) as leaving:
        waiting = asyncio.create_task(leaving.request("POST", "/v1/chat/completions", body=ENDLESS))
        await engine.until(lambda read: read["vllm:num_requests_running"] == 1, "vllm:num_requests_running")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await engine.until(lambda read: read["vllm:num_requests_running"] == 0, "vllm:num_requests_running")
    assert await engine.metric("vllm:generation_tokens_total") < 8000


async def test_a_full_engine_says_so_and_when_to_come_back():
    async with serving(max_running=1, max_waiting=1, context=8192) as engine:
        streams = [engine.client.stream("POST", "/v1/chat/completions", body={**ENDLESS, "stream": True}) for _ in "ab"]
        async with streams[0] as first:
            await anext(first.events)
            second = asyncio.create_task(engine.client.request("POST", "/v1/chat/completions", body=ENDLESS))
            await engine.until(lambda read: read["vllm:num_requests_waiting"] == 1, "vllm:num_requests_waiting")
            refused = await engine.client.request("POST", "/v1/chat/completions", body=ENDLESS)
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "engine_full"
            second.cancel()
        await engine.until(lambda read: read["vllm:num_requests_running"] == 0, "vllm:num_requests_running")
        again = await engine.client.post_json("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2})
        assert again["usage"]["completion_tokens"] == 2


async def test_a_draining_engine_finishes_what_runs_and_takes_nothing_new(engine: Serving):
    body = {**ENDLESS, "stream": True, "max_tokens": 300}
    async with engine.client.stream("POST", "/v1/chat/completions", body=body) as stream:
        events = [await anext(stream.events)]
        engine.loop.drain()
        refused = await engine.client.request("POST", "/v1/chat/completions", body={"messages": HELLO})
        assert (refused.status, refused.json()["error"]["code"]) == (503, "engine_stopping")
        assert (await engine.client.request("GET", "/health")).status == 503
        events += [event async for event in stream.events]
    assert events[-1] == b"[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


async def test_an_engine_that_serves_is_healthy(engine: Serving):
    assert (await engine.client.get_json("/health")) == {"status": "ok"}


async def test_a_fault_of_the_batch_itself_is_told_and_survived(engine: Serving, monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise RuntimeError("the batch is broken")

    with monkeypatch.context() as patched:
        patched.setattr(engine.loop.runner, "step", broken)
        failed = await engine.client.request("POST", "/v1/chat/completions", body={"messages": HELLO})
    assert failed.status == 500
    assert "broken" not in failed.body.decode()
    after = await engine.client.post_json("/v1/chat/completions", {"messages": HELLO, "temperature": 0})
    assert after["choices"][0]["message"]["content"].startswith("Hello")


async def test_a_fault_in_the_middle_of_a_stream_is_its_last_event(engine: Serving, monkeypatch: pytest.MonkeyPatch):
    def broken() -> None:
        raise RuntimeError("the batch is broken")

    async with engine.client.stream("POST", "/v1/chat/completions", body={**ENDLESS, "stream": True}) as stream:
        await anext(stream.events)
        with monkeypatch.context() as patched:
            patched.setattr(engine.loop.runner, "step", broken)
            last = [event async for event in stream.events][-1]
    assert json.loads(last)["error"]["type"] == "server_error"
    assert await engine.metric("vllm:num_requests_running") == 0


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("red", (255, 0, 0)),
        ("green", (0, 128, 0)),
        ("blue", (0, 0, 255)),
        ("yellow", (255, 255, 0)),
        ("black", (0, 0, 0)),
    ],
)
async def test_the_vision_engine_names_the_colour_of_an_image(name: str, colour: tuple[int, int, int]):
    content = [
        {"type": "image_url", "image_url": {"url": png(colour)}},
        {"type": "text", "text": "What colour is this image?"},
    ]
    async with serving(task="vision") as engine:
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0}
        answer = await engine.client.post_json("/v1/chat/completions", body)
        image = default_bundle().config.image
        assert image is not None
        assert answer["choices"][0]["message"]["content"] == f"This image is mostly {name}."
        assert answer["usage"]["prompt_tokens"] == len(question("What colour is this image?")) + image.tokens


async def test_a_vision_engine_without_an_image_answers_as_usual():
    async with serving(task="vision") as engine:
        body = {"messages": [{"role": "user", "content": "What is 6 times 7?"}], "temperature": 0}
        answer = await engine.client.post_json("/v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] == "6 times 7 is 42."


async def test_an_engine_tells_what_it_produced_for_a_request_whose_caller_has_gone(engine: Serving):
    body = {**ENDLESS, "max_tokens": 400}
    async with EngineClient(engine.url, model=MODEL) as client:
        async with client.stream("/v1/chat/completions", body, request_id="req_gone") as stream:
            assert stream.error is None, stream.error
            await anext(stream.events)
            assert not (await client.produced("req_gone")).has_ended
        async with asyncio.timeout(10):
            while not (gone := await client.produced("req_gone")).has_ended:  # noqa: ASYNC110 - it happens in the engine
                await asyncio.sleep(0.01)
        assert gone.is_known
        assert gone.prompt_tokens > 0
        assert 0 < gone.completion_tokens < 400

        whole = (await client.complete("/v1/chat/completions", {**body, "max_tokens": 5}, request_id="req_b")).json()
        told = await client.produced("req_b")
        assert (told.prompt_tokens, told.completion_tokens) == (whole["usage"]["prompt_tokens"], 5)
        never = await client.produced("req_never")
        assert (never.is_known, never.completion_tokens) == (False, 0)
        assert never.since <= time.time()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}),
        ("/v1/embeddings", {"input": "hi"}),
    ],
)
async def test_what_is_logged_of_a_request_bears_the_trace_that_it_came_with(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    submitted = {"/v1/chat/completions": "submit", "/v1/embeddings": "submit_texts"}[path]
    submit = getattr(StepLoop, submitted)

    def said(*args: Any, **named: Any) -> Any:
        bound = logs.current()
        logged.append(bound and bound.in_logs)
        return submit(*args, **named)

    monkeypatch.setattr(StepLoop, submitted, said)
    async with serving(tracing=Tracing(Sink(), lambda *_: True)) as engine:
        for headers in ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, {}):
            answer = await engine.client.request("POST", path, body={"model": MODEL, **body}, headers=headers)
            assert answer.status == 200
    assert logged == [{"trace_id": "a" * 32, "span_id": "b" * 16}, None]
