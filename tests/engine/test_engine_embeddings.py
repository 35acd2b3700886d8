"""Vectors of texts: what they are, how they share the engine with those who generate, and the SDK over HTTP."""

import asyncio
import base64
from typing import Any

import numpy as np
import openai
import pytest
from engine_builders import MODEL, Serving, ask, default_bundle, make_runner, question, run_until_over

from stoker.base.errors import InvalidInput
from stoker.engine import embeddings, runner
from stoker.engine.embedder import MAX_ACTIVE, Embedding
from stoker.engine.parsing import Served
from stoker.engine.runner import Runner
from stoker.engine.sequences import Progress
from stoker.nn.decoder import Chunk, KVCache
from stoker.telemetry import metrics

LONG = "What is a lease? " * 40
SIZE = 192


class Reader:
    def __init__(self) -> None:
        self.progress: list[Progress] = []

    def take(self, progress: Progress) -> bool:
        self.progress.append(progress)
        return True

    def wake(self) -> None: ...


def tokens(text: str) -> list[int]:
    return default_bundle().tokenizer.text_prompt(text)


def embed(on: Runner, *texts: str) -> Embedding:
    embedding = Embedding([tokens(text) for text in texts], Reader(), now=0.0)
    on.add(embedding)
    return embedding


def tell(told: runner.Told) -> None:
    for work, progress in told:
        work.listener.take(progress)


def vectors(*texts: str) -> list[np.ndarray]:
    alone = make_runner(context=2048)
    embedding = embed(alone, *texts)
    while not embedding.is_done:
        tell(alone.step())
    return embedding.vectors


def test_a_vector_is_the_mean_of_the_last_hidden_states_and_has_length_1() -> None:
    bundle = default_bundle()
    text = tokens("A fox is an animal.")
    cache = KVCache(bundle.config, 1, 256)
    [rows] = bundle.decoder.hidden(cache, [Chunk(0, 0, bundle.decoder.embed(text))])
    assert rows.shape == (len(text), SIZE)
    # The output layer turns the last of these rows into the logits of the next token.
    logits = bundle.decoder.step(KVCache(bundle.config, 1, 256), [], [], [], [Chunk(0, 0, bundle.decoder.embed(text))])
    np.testing.assert_allclose(rows[-1] @ bundle.decoder.embeddings.T, logits[0], atol=1e-4)
    mean = rows.mean(axis=0, dtype=np.float64)
    [vector] = vectors("A fox is an animal.")
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_vector_is_the_same_bits_whoever_shares_the_engine() -> None:
    texts = ["one", LONG, "two three", LONG + "?", "four"]
    alone = [vectors(text)[0] for text in texts]
    busy = make_runner(context=2048)
    talker = ask(busy, question("Tell me a story about a fox."), max_tokens=200, logit_bias={1: -100})
    other = embed(busy, LONG, LONG)
    together = embed(busy, *texts)
    while not (together.is_done and other.is_done):
        tell(busy.step())
    assert not talker.is_over  # it generated all the while
    assert [each.tobytes() for each in together.vectors] == [each.tobytes() for each in alone]


def test_those_who_generate_get_a_token_in_every_step_and_wait_for_a_bounded_piece_of_text() -> None:
    shared = make_runner(context=2048)
    talker = ask(shared, question("Count to twenty."), logit_bias={1: -100}, max_tokens=300)
    tell(shared.step())
    embedding = embed(shared, *[LONG] * 4)
    steps = 0
    while not embedding.is_done:
        before = embedding.computed
        tell(shared.step())
        steps += 1
        assert embedding.computed - before <= shared.limits.busy_embedding
    assert len(talker.progress) == 1 + steps
    total = 4 * len(tokens(LONG))
    assert embedding.computed == embedding.prompt_tokens == total
    assert steps >= total / shared.limits.busy_embedding > 4


def test_an_idle_engine_takes_larger_pieces_and_many_texts_at_once() -> None:
    idle = make_runner(context=2048)
    embedding = embed(idle, *["a b c"] * 100)
    assert idle.limits.busy_embedding < 100 * len(tokens("a b c")) <= idle.limits.idle_embedding
    tell(idle.step())
    assert embedding.is_done
    assert idle.is_idle


def test_requests_take_turns_so_that_a_large_one_keeps_nobody_waiting() -> None:
    shared = make_runner(context=2048)
    large = embed(shared, *[LONG] * 50)
    tell(shared.step())
    small = embed(shared, "one")
    tell(shared.step())
    tell(shared.step())
    assert small.is_done
    assert not large.is_done


def test_more_than_can_take_turns_wait_and_are_all_done() -> None:
    shared = make_runner(context=2048)
    many = [embed(shared, LONG, LONG, LONG) for _ in range(MAX_ACTIVE + 2)]
    tell(shared.step())
    assert shared.usage()[:2] == (MAX_ACTIVE, 2)
    for _ in range(200):
        tell(shared.step())
    assert all(each.is_done and each.listener.progress == [Progress("", 0, "stop")] for each in many)  # type: ignore[attr-defined]
    assert shared.is_idle


def test_one_that_nobody_wants_any_more_is_dropped_and_counts_what_was_computed() -> None:
    shared = make_runner(context=2048)
    embedding = embed(shared, *[LONG] * 10)
    tell(shared.step())
    embedding.is_cancelled = True
    tell(shared.step())
    assert shared.is_idle
    assert 0 < embedding.prompt_tokens <= shared.limits.idle_embedding
    assert metrics.read(shared.metrics.text().decode(), "vllm:prompt_tokens_total") == {
        "vllm:prompt_tokens_total": embedding.prompt_tokens
    }


def test_a_fault_is_told_to_those_it_concerns_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = make_runner(context=2048)
    talker = ask(shared, question("Say hello."))
    broken = embed(shared, "one")
    with monkeypatch.context() as patch:
        patch.setattr(type(shared.bundle.decoder), "hidden", None)
        tell(shared.step())
    [told] = broken.listener.progress  # type: ignore[attr-defined]
    assert told.error is not None
    run_until_over(shared, talker)
    again = embed(shared, "one")
    tell(shared.step())
    assert again.is_done


# --- bodies -----------------------------------------------------------------------------------------------------------


def parsed(context: int = 64, **body: Any) -> embeddings.Wanted:
    return embeddings.parse(body, Served(default_bundle(), MODEL, "general", context))


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        ("one", [tokens("one")]),
        (["one", "two"], [tokens("one"), tokens("two")]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
    ],
)
def test_every_shape_of_input(said: Any, texts: list[list[int]]) -> None:
    assert parsed(input=said) == embeddings.Wanted(texts, SIZE, is_base64=False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["one", ""]}, "input[1]"),
        ({"input": ["one", 5]}, "input[1]"),
        ({"input": [5, "one"]}, "input"),
        ({"input": [[5], []]}, "input[1]"),
        ({"input": [True]}, "input"),
        ({"input": [[1_000_000]]}, "input[0]"),
        ({"input": {"text": "one"}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[5] * 60] * 2048, "context": 4096, "more": True}, None),
        ({"input": [[5] * 1000] * 301, "context": 4096}, "input"),
        ({"input": "a b " * 100}, "input"),
        ({"input": "one", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "one", "dimensions": 0}, "dimensions"),
        ({"input": "one", "dimensions": 193}, "dimensions"),
        ({"input": "one", "stream": True}, "stream"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(body: dict[str, Any], param: str | None) -> None:
    if param is None:
        assert len(parsed(**body).texts) == 2048
        return
    with pytest.raises(InvalidInput) as caught:
        parsed(**body)
    assert caught.value.param == param


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_the_sdk_gets_its_vectors_in_both_encodings(engine: Serving, sdk: openai.AsyncOpenAI) -> None:
    texts = ["A fox is an animal.", "one two three"]
    # Without a wish the SDK asks for base64 and decodes it itself.
    made = await sdk.embeddings.create(model=MODEL, input=texts)
    plain = await sdk.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    wanted = vectors(*texts)
    assert [each.index for each in made.data] == [0, 1]
    for each, same, vector in zip(made.data, plain.data, wanted, strict=True):
        assert each.embedding == same.embedding == vector.tolist()
    count = sum(len(tokens(text)) for text in texts)
    assert (made.object, made.model, made.usage.prompt_tokens, made.usage.total_tokens) == ("list", MODEL, count, count)
    assert await engine.metric("vllm:prompt_tokens_total") == 2 * count


async def test_fewer_dimensions_are_the_first_ones_at_length_1(engine: Serving) -> None:
    body = {"model": MODEL, "input": "one", "dimensions": 16, "encoding_format": "base64"}
    answer = await engine.client.post_json("/v1/embeddings", body)
    got = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    first = vectors("one")[0][:16]
    np.testing.assert_allclose(got, first / np.linalg.norm(first), atol=1e-6)


async def test_texts_that_mean_the_same_are_nearer_than_others(sdk: openai.AsyncOpenAI) -> None:
    made = await sdk.embeddings.create(model=MODEL, input=["What is 6 times 7?", "What is 7 times 6?", "red and blue"])
    one, same, other = (np.array(each.embedding) for each in made.data)
    assert one @ same > one @ other


async def test_the_engine_says_afterwards_what_it_computed(engine: Serving) -> None:
    headers = {"X-Request-Id": "req_1"}
    await engine.client.request("POST", "/v1/embeddings", body={"input": ["one", "two"]}, headers=headers)
    said = await engine.client.get_json("/v1/requests/req_1")
    assert (said["known"], said["has_ended"]) == (True, True)
    assert said["usage"]["prompt_tokens"] == len(tokens("one")) + len(tokens("two"))
    assert said["usage"]["completion_tokens"] == 0


async def test_one_whose_client_has_gone_stops(engine: Serving) -> None:
    body = {"input": [[9] * 4000] * 75}
    headers = {"X-Request-Id": "req_1"}
    request = asyncio.create_task(engine.client.request("POST", "/v1/embeddings", body=body, headers=headers))
    await engine.until(lambda seen: seen.get("vllm:prompt_tokens_total", 0) > 0, "vllm:prompt_tokens_total")
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await engine.until(lambda seen: seen["vllm:num_requests_running"] == 0, "vllm:num_requests_running")
    said = await engine.client.get_json("/v1/requests/req_1")
    assert said["has_ended"] is True
    assert 0 < said["usage"]["prompt_tokens"] < 300_000


async def test_many_vectors_at_once_are_written_beside_other_requests(sdk: openai.AsyncOpenAI) -> None:
    made = await sdk.embeddings.create(model=MODEL, input=["one"] * 2048)
    assert len(made.data) == 2048
    assert made.data[2047].embedding == made.data[0].embedding
