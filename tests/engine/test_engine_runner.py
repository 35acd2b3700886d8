"""The batch, step by step, without a thread and without HTTP."""

import pytest
from engine_builders import ask, default_bundle, make_runner, question, run_until_over, step

from stoker.base.errors import StokerError
from stoker.engine.runner import Runner
from stoker.nn.sampling import Sampling
from stoker.telemetry import metrics

WARM = Sampling(temperature=1.5, top_p=0.95)


def count(runner: Runner, name: str) -> float:
    return metrics.read(runner.metrics.text().decode(), name)[name]


def test_an_answer_ends_by_itself():
    runner = make_runner()
    request = ask(runner, question("What is 6 times 7?"))
    run_until_over(runner, request)
    assert request.text == "6 times 7 is 42."
    assert request.progress[-1].finish_reason == "stop"
    assert runner.is_idle


def test_max_tokens_ends_an_answer():
    runner = make_runner()
    request = ask(runner, question("Count to twenty."), max_tokens=5)
    run_until_over(runner, request)
    assert request.progress[-1].finish_reason == "length"
    assert request.progress[-1].tokens == 5
    assert "1, 2, 3, 4, 5".startswith(request.text)


def test_a_request_joins_the_running_batch_at_the_next_step():
    runner = make_runner()
    first = ask(runner, question("Count to twenty."))
    step(runner)
    second = ask(runner, question("Say hello."))
    step(runner)
    assert len(first.progress) == 2
    assert len(second.progress) == 1
    assert runner.usage()[:2] == (2, 0)


def test_requests_wait_for_a_slot_in_their_order():
    runner = make_runner(max_running=1)
    first, second, third = (ask(runner, question("Say hello."), max_tokens=2) for _ in range(3))
    step(runner)
    assert runner.usage()[:2] == (1, 2)
    run_until_over(runner, first)
    assert not second.progress
    run_until_over(runner, second)
    assert not third.progress
    run_until_over(runner, third)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_seed_gives_the_same_text_whatever_else_is_in_the_batch(seed: int):
    prompt = question("Tell me a story about a fox.")
    quiet = make_runner()
    alone = ask(quiet, prompt, sampling=WARM, seed=seed)
    run_until_over(quiet, alone)

    busy = make_runner(max_running=8)
    early = [ask(busy, question(text), sampling=WARM) for text in ("Say hello.", "Count to twenty.")]
    for _ in range(3):
        step(busy)
    crowded = ask(busy, prompt, sampling=WARM, seed=seed)
    step(busy)
    late = [ask(busy, question("What is a lease? " * 30), sampling=WARM, max_tokens=30) for _ in range(3)]
    run_until_over(busy, crowded, *early, *late)
    assert crowded.text == alone.text


def test_different_seeds_give_different_texts():
    runner = make_runner(max_running=8)
    requests = [ask(runner, question("Tell me a story."), sampling=WARM, seed=seed) for seed in range(5)]
    run_until_over(runner, *requests)
    assert len({request.text for request in requests}) > 1


def test_a_stop_string_ends_the_answer_and_does_not_show():
    runner = make_runner()
    request = ask(runner, question("Count to ten."), stops=["4, 5"])
    run_until_over(runner, request)
    assert request.text == "1, 2, 3, "
    assert request.progress[-1].finish_reason == "stop"


def test_a_long_prompt_is_computed_in_pieces_while_another_generates():
    runner = make_runner(context=2048)
    talker = ask(runner, question("Count to twenty."))
    step(runner)
    reader = ask(runner, question("What is a lease? " * 100), max_tokens=1)
    pieces = -(-len(reader.sequence.generation.prompt) // runner.limits.busy_prefill)
    assert pieces > 1
    for _ in range(pieces - 1):
        step(runner)
        assert not reader.progress
    step(runner)
    assert reader.is_over
    assert len(talker.progress) == 1 + pieces


def test_a_cancelled_request_has_left_by_the_next_step():
    runner = make_runner(max_running=1)
    first, second = ask(runner, question("Count to twenty.")), ask(runner, question("Say hello."))
    step(runner)
    heard = len(first.progress)
    first.sequence.is_cancelled = True
    step(runner)
    assert len(first.progress) == heard
    assert len(second.progress) == 1
    assert count(runner, "vllm:request_success_total") == 1


def test_a_waiting_request_can_be_cancelled():
    runner = make_runner(max_running=1)
    first, second = ask(runner, question("Say hello.")), ask(runner, question("Say hello."))
    step(runner)
    second.sequence.is_cancelled = True
    run_until_over(runner, first)
    assert runner.is_idle
    assert not second.progress


def test_who_leaves_first_does_not_disturb_the_others():
    """The last slot's sequence moves into the hole, and its answer goes on as if nothing had happened."""
    runner = make_runner(max_running=3)
    short = ask(runner, question("Count to twenty."), max_tokens=2)
    others = [ask(runner, question(text)) for text in ("Count to twenty.", "What is 6 times 7?")]
    run_until_over(runner, short, *others)
    assert others[0].text.startswith("1, 2, 3, 4, 5, 6, 7, 8")
    assert others[1].text == "6 times 7 is 42."


def test_penalties_and_bias_change_what_is_chosen():
    runner = make_runner()
    tokenizer = default_bundle().tokenizer
    (two,) = tokenizer.encode("2")
    banned = ask(runner, question("Count to five."), logit_bias={two: -100.0})
    tired = ask(runner, question("Count to twenty."), frequency_penalty=2.0)
    plain = ask(runner, question("Count to twenty."))
    run_until_over(runner, banned, tired, plain)
    assert "2" not in banned.text
    assert tired.text != plain.text


def test_an_answer_never_holds_a_control_token():
    runner = make_runner()
    wild = Sampling(temperature=2.0, top_p=1.0)
    requests = [ask(runner, question("Tell me a story."), sampling=wild, seed=seed) for seed in range(8)]
    run_until_over(runner, *requests)
    end = default_bundle().tokenizer.end
    for request in requests:
        assert all(token == end or token > 7 for token in request.sequence.generated)


class Faulty:
    """A decoder that fails as long as it is told to."""

    def __init__(self, real: object) -> None:
        self._real, self.is_failing = real, False

    def embed(self, tokens):
        return self._real.embed(tokens)

    def step(self, *arguments):
        if self.is_failing:
            raise FloatingPointError("a bad step")
        return self._real.step(*arguments)


def test_a_failed_step_is_told_to_its_requests_and_the_next_ones_are_served():
    runner = make_runner(max_running=2)
    faulty = Faulty(runner.bundle.decoder)
    runner.bundle = type(runner.bundle)(runner.bundle.config, runner.bundle.tokenizer, faulty, None)
    first, second = ask(runner, question("Say hello.")), ask(runner, question("Say hello."))
    step(runner)
    third = ask(runner, question("What is 6 times 7?"))
    faulty.is_failing = True
    step(runner)
    faulty.is_failing = False
    for request in (first, second):
        assert isinstance(request.progress[-1].error, StokerError)
        assert "bad step" not in request.progress[-1].error.message
    run_until_over(runner, third)
    assert third.text == "6 times 7 is 42."


def test_the_metrics_have_the_names_that_vllm_gives_them():
    runner = make_runner()
    request = ask(runner, question("Say hello."), max_tokens=3)
    step(runner)
    assert count(runner, "vllm:num_requests_running") == 1
    assert count(runner, "vllm:num_requests_waiting") == 0
    prompt = len(request.sequence.generation.prompt)
    assert count(runner, "vllm:kv_cache_usage_perc") == prompt / (4 * 512)
    run_until_over(runner, request)
    assert count(runner, "vllm:num_requests_running") == 0
    assert count(runner, "vllm:kv_cache_usage_perc") == 0
    assert count(runner, "vllm:prompt_tokens_total") == prompt
    assert count(runner, "vllm:generation_tokens_total") == 3
    assert count(runner, "vllm:time_to_first_token_seconds_count") == 1
    assert count(runner, "vllm:inter_token_latency_seconds_count") == 2
    assert count(runner, "vllm:request_time_per_output_token_seconds_count") == 1
    assert count(runner, "vllm:e2e_request_latency_seconds_count") == 1
    assert (
        'vllm:request_success_total{finished_reason="length",model_name="small"} 1.0' in runner.metrics.text().decode()
    )
